use anp_core::{ActivationNorm, ActivationNormConfig, Norm, Reduction};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// One `[[penalty]]`: a term of the training loss on one site of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PenaltyConfig<Site> {
    /// The penalised activation: an `anp_models::Site` or `anp_models::ImageSite`.
    pub site: Site,
    /// The norm.
    pub norm: Norm,
    /// How the norms of a minibatch become one number.
    pub reduction: Reduction,
    /// Strength η.
    pub eta: f64,
    /// Whether to penalise the difference between a step and the one before it (AWD-LSTM's temporal
    /// activation regularisation).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub temporal: bool,
}

impl<Site> PenaltyConfig<Site> {
    /// The norm to add to the loss.
    ///
    /// # Panics
    ///
    /// If the penalty is not valid.
    pub(crate) fn activation_norm(&self) -> ActivationNorm {
        let Self { norm, reduction, eta, .. } = *self;
        ActivationNormConfig::new(eta).with_norm(norm).with_reduction(reduction).init()
    }
}

/// `[weight_penalty]`: a term on weight matrices. In a language model they are those of the
/// recurrent layers, without embedding and decoder; in an image network they are all, including the
/// kernels of convolutions. Biases, scales and shifts are left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightPenaltyConfig {
    /// What is penalised.
    pub form: WeightPenaltyForm,
    /// Strength.
    pub eta: f64,
}

/// What a weight penalty is a multiple of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightPenaltyForm {
    /// Half the sum of all squares.
    HalfSumSquares,
    /// The root of the sum of all squares.
    GlobalNorm,
}

impl WeightPenaltyConfig {
    /// The term, from the sum of all squares.
    pub(crate) fn of_square(&self, square: Tensor<1>) -> Tensor<1> {
        let form = match self.form {
            WeightPenaltyForm::HalfSumSquares => square * 0.5,
            WeightPenaltyForm::GlobalNorm => square.sqrt(),
        };
        form * self.eta
    }
}
