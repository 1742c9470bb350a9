use anp_kernels::Kernels;
use anp_kernels::sru::{Activation, SruInputs, SruSequence};
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::dropout::apply_mask;
use crate::lstm::uniform;

/// Configuration of one [`SruLayer`].
#[derive(Debug, Clone, PartialEq)]
pub struct SruLayerConfig {
    /// Width of the input.
    pub d_input: usize,
    /// Number of units.
    pub d_hidden: usize,
    /// `g`.
    pub activation: Activation,
    /// What the bias `b_r` of the highway gate starts at; that of the forget gate starts at zero.
    pub highway_bias: f64,
    /// Weights start uniform in `[-init_range, init_range]`.
    pub init_range: f64,
    /// How the scan is computed.
    pub kernels: Kernels,
}

impl SruLayerConfig {
    /// Draw the parameters on `device`, from its random number generator.
    pub fn init(&self, device: &Device) -> SruLayer {
        let Self { d_input, d_hidden, .. } = *self;
        let parts = if d_input == d_hidden { 3 } else { 4 };
        let forget = Tensor::zeros([d_hidden], device);
        let highway = Tensor::full([d_hidden], self.highway_bias, device);
        SruLayer {
            weight: uniform([d_input, parts * d_hidden], self.init_range, device),
            bias: Param::from_tensor(Tensor::cat(vec![forget, highway], 0)),
            activation: self.activation,
            kernels: self.kernels,
        }
    }
}

/// A Simple Recurrent Unit layer over a time-first sequence, first version ([Lei & Zhang, 2017]).
///
/// ```text
/// x̃, f, r = split((x_t ⊙ m_in) W),   f = σ(f + b_f),   r = σ(r + b_r)
/// c_t = f ⊙ c_{t−1} + (1 − f) ⊙ x̃
/// h_t = r ⊙ (g(c_t) ⊙ m) + (1 − r) ⊙ x'
/// ```
///
/// `x'` is the input, undropped, where it is as wide as the layer, else a fourth part of the product.
///
/// [Lei & Zhang, 2017]: https://arxiv.org/abs/1709.02755v1
#[derive(Module, Debug)]
pub struct SruLayer {
    /// `W`, the parts one after the other: `[d_input, 3 or 4 · d_hidden]`.
    pub weight: Param<Tensor<2>>,
    /// `b_f, b_r`: `[2 · d_hidden]`.
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    kernels: Kernels,
}

impl SruLayer {
    /// Number of units.
    pub fn d_hidden(&self) -> usize {
        self.bias.dims()[0] / 2
    }

    /// Run over a window.
    ///
    /// # Shapes
    ///
    /// - `input`: `[seq_length, batch_size, d_input]`
    /// - `cell`: `[batch_size, d_hidden]`
    /// - `product_mask`: `m_in`, `[1, batch_size, d_input]`
    /// - `mask`: `m`, `[1, batch_size, d_hidden]`
    ///
    /// # Panics
    ///
    /// If a shape does not fit.
    pub fn forward(
        &self,
        input: Tensor<3>,
        cell: Tensor<2>,
        product_mask: Option<Tensor<3>>,
        mask: Option<Tensor<3>>,
    ) -> SruSequence {
        let [seq_length, batch_size, d_input] = input.dims();
        let [expected, width] = self.weight.dims();
        assert_eq!(
            d_input, expected,
            "the SRU's input has width {d_input}, its weight wants {expected}"
        );
        let masked = apply_mask(input.clone(), product_mask.as_ref())
            .reshape([seq_length * batch_size, d_input]);
        let product = self.kernels.matmul(masked, self.weight.val());
        let product = product.reshape([seq_length, batch_size, width]);
        let d_hidden = self.d_hidden();
        self.kernels.sru_sequence(SruInputs {
            product,
            highway: (width == 3 * d_hidden).then_some(input),
            bias: self.bias.val(),
            mask: mask.map(|mask| mask.reshape([batch_size, d_hidden])),
            cell,
            activation: self.activation,
        })
    }
}
