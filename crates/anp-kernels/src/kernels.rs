use std::fmt;
use std::str::FromStr;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::batch_norm::{BatchNormInputs, BatchStatistics, batch_norm, batch_norm_reference};
use crate::conv2d::{Conv2dInputs, conv2d, conv2d_reference};
use crate::cross_entropy::{
    LinearCrossEntropyInputs, LogitTerms, linear_cross_entropy, linear_cross_entropy_reference,
    logit_terms, logit_terms_reference,
};
use crate::lstm::{LstmInputs, LstmSequence, lstm_reference, lstm_sequence};
use crate::matmul::{matmul, matmul_reference};
use crate::precision::MatmulPrecision;
use crate::rhn::{RhnInputs, rhn_reference, rhn_sequence};
use crate::sampled_weight::{SampledWeightInputs, sampled_weight, sampled_weight_reference};
use crate::sgd::inputs::SgdInputs;
use crate::sgd::reference::sgd_step as sgd_step_reference;
use crate::sgd::step::sgd_step;
use crate::square_norm::{square_norm, square_norm_reference};
use crate::sru::{SruInputs, SruSequence, sru_reference, sru_sequence};

/// Which implementation of its operations a model uses.
///
/// Both compute the same values, up to rounding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kernels {
    /// Fused operations with one backward step each, where the device has kernels.
    #[default]
    Fused,
    /// The references, made of Burn's operations.
    Plain,
}

impl Kernels {
    /// Both implementations.
    pub const ALL: [Self; 2] = [Self::Fused, Self::Plain];

    /// Name in commands and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fused => "fused",
            Self::Plain => "plain",
        }
    }

    fn select<I, O>(self, fused: fn(I) -> O, plain: fn(I) -> O) -> fn(I) -> O {
        match self {
            Self::Fused => fused,
            Self::Plain => plain,
        }
    }

    /// [`lstm_sequence`] or [`lstm_reference`].
    pub fn lstm_sequence(self, inputs: LstmInputs) -> LstmSequence {
        self.select(lstm_sequence, lstm_reference)(inputs)
    }

    /// [`sru_sequence`] or [`sru_reference`].
    pub fn sru_sequence(self, inputs: SruInputs) -> SruSequence {
        self.select(sru_sequence, sru_reference)(inputs)
    }

    /// [`rhn_sequence`] or [`rhn_reference`].
    pub fn rhn_sequence(self, inputs: RhnInputs) -> Tensor<3> {
        self.select(rhn_sequence, rhn_reference)(inputs)
    }

    /// [`conv2d`] or [`conv2d_reference`].
    pub fn conv2d(self, inputs: Conv2dInputs) -> Tensor<4> {
        self.select(conv2d, conv2d_reference)(inputs)
    }

    /// [`batch_norm`] or [`batch_norm_reference`].
    pub fn batch_norm(self, inputs: BatchNormInputs) -> (Tensor<4>, BatchStatistics) {
        self.select(batch_norm, batch_norm_reference)(inputs)
    }

    /// [`linear_cross_entropy`] or [`linear_cross_entropy_reference`].
    pub fn linear_cross_entropy(self, inputs: LinearCrossEntropyInputs) -> Tensor<1> {
        self.select(linear_cross_entropy, linear_cross_entropy_reference)(inputs)
    }

    /// [`logit_terms`] or [`logit_terms_reference`].
    pub fn logit_terms(self, inputs: LinearCrossEntropyInputs) -> LogitTerms {
        self.select(logit_terms, logit_terms_reference)(inputs)
    }

    /// [`matmul`] or [`matmul_reference`].
    pub fn matmul(self, lhs: Tensor<2>, rhs: Tensor<2>, precision: MatmulPrecision) -> Tensor<2> {
        match self {
            Self::Fused => matmul(lhs, rhs, precision),
            Self::Plain => matmul_reference(lhs, rhs, precision),
        }
    }

    /// [`sampled_weight`] or [`sampled_weight_reference`].
    pub fn sampled_weight<const D: usize>(
        self,
        inputs: SampledWeightInputs<D>,
    ) -> (Tensor<D>, Tensor<1>) {
        self.select(sampled_weight, sampled_weight_reference)(inputs)
    }

    /// [`sgd_step`] or [`sgd_step_reference`].
    pub fn sgd_step<const D: usize>(self, inputs: SgdInputs<D>) -> (Tensor<D>, Option<Tensor<1>>) {
        self.select(sgd_step, sgd_step_reference)(inputs)
    }

    /// [`square_norm`] or [`square_norm_reference`].
    pub fn square_norm<const D: usize>(self, tensor: Tensor<D>) -> Tensor<1> {
        self.select(square_norm, square_norm_reference)(tensor)
    }
}

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no implementation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no implementation; there are `fused` and `plain`")]
pub struct ParseKernelsError(String);

impl FromStr for Kernels {
    type Err = ParseKernelsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|kernels| kernels.name() == text);
        found.ok_or_else(|| ParseKernelsError(text.to_owned()))
    }
}
