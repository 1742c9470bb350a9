use anp_core::{
    HyperParamError, display_on_one_line, validate_dropout, validate_range, validate_size,
};
use burn::config::Config;
use burn::module::{Flag, Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use super::gates::{draw, project};
use super::masks::LayerMasks;
use super::states::{LayerStates, time_first};
use crate::kernels::Kernels;
use crate::precision::MatmulPrecision;
use crate::sru::{Activation, SruInputs, SruSequence};

/// Configuration of a [`Sru`].
#[derive(Config, Debug)]
pub struct SruConfig {
    /// Width of the input.
    pub d_input: usize,
    /// Number of units.
    pub d_hidden: usize,
    /// How the weight is drawn; the default is the authors', uniform in ±√(3 / `d_input`).
    #[config(default = "Initializer::KaimingUniform { gain: 1.0, fan_out_only: false }")]
    pub initializer: Initializer,
    /// Initial bias of the reset gate, the share of the cell in the output; the forget gate's is 0.
    #[config(default = 0.0)]
    pub reset_bias: f64,
    /// Whether sequences are `[batch_size, seq_length, ..]`; else they are
    /// `[seq_length, batch_size, ..]`.
    #[config(default = true)]
    pub batch_first: bool,
    /// Function between a cell state and the hidden state.
    #[config(default = "Activation::Identity")]
    pub activation: Activation,
    /// Probability of dropping a feature of the input before the product, for all steps of a
    /// sequence.
    #[config(default = 0.0)]
    pub input_dropout: f64,
    /// Probability of dropping the activation of a cell, for all steps of a sequence.
    #[config(default = 0.0)]
    pub activation_dropout: f64,
    /// How the scan is computed.
    #[config(default = "Kernels::Fused")]
    pub kernels: Kernels,
    /// Of the matrix products.
    #[config(default = "MatmulPrecision::Full")]
    pub precision: MatmulPrecision,
}

impl SruConfig {
    /// Check the values.
    ///
    /// # Errors
    ///
    /// [`HyperParamError::OutOfRange`] if a width is 0, a dropout is not in [0, 1), or `reset_bias`
    /// is not finite.
    pub fn validate(&self) -> Result<(), HyperParamError> {
        validate_size("d_input", self.d_input)?;
        validate_size("d_hidden", self.d_hidden)?;
        let reset_bias = self.reset_bias;
        validate_range("reset_bias", reset_bias, "(−∞, ∞)", reset_bias.is_finite())?;
        validate_dropout("input_dropout", self.input_dropout)?;
        validate_dropout("activation_dropout", self.activation_dropout)
    }

    /// Draw the weight on `device`, from its random number generator.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> Sru {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        let Self { d_input, d_hidden, reset_bias, .. } = *self;
        let parts = self.num_parts();
        let weight = draw(&self.initializer, [d_input, parts * d_hidden], parts, d_input, device);
        let forget = Tensor::zeros([d_hidden], device);
        let reset = Tensor::full([d_hidden], reset_bias, device);
        self.build(weight, Tensor::cat(vec![forget, reset], 0))
    }

    /// Parts of the product: candidate, forget gate, reset gate and, if the input is not as wide as
    /// the layer, highway.
    pub fn num_parts(&self) -> usize {
        if self.d_input == self.d_hidden { 3 } else { 4 }
    }

    /// The layer with these parameters, whose shapes the caller has checked.
    pub(super) fn build(&self, weight: Tensor<2>, bias: Tensor<1>) -> Sru {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        Sru {
            weight: Param::from_tensor(weight),
            bias: Param::from_tensor(bias),
            batch_first: self.batch_first,
            input_dropout: self.input_dropout,
            activation_dropout: self.activation_dropout,
            training: Param::from_bool(true),
            activation: self.activation,
            kernels: self.kernels,
            precision: self.precision,
        }
    }
}

/// State of a [`Sru`] between two windows.
#[derive(Debug, Clone)]
pub struct SruState {
    /// `c`: `[batch_size, d_hidden]`.
    pub cell: Tensor<2>,
}

impl SruState {
    /// The same values, cut from the graph that made them.
    #[must_use]
    pub fn detach(self) -> Self {
        Self { cell: self.cell.detach() }
    }
}

/// A Simple Recurrent Unit in its first version
/// ([Lei & Zhang, 2017](https://arxiv.org/abs/1709.02755v1)), that of the authors' language models.
///
/// ```text
/// x̃_t, f_t, r_t, x'_t = split((x_t ⊙ m_x) W)
/// c_t = σ(f_t + b_f) ⊙ c_{t−1} + (1 − σ(f_t + b_f)) ⊙ x̃_t
/// h_t = σ(r_t + b_r) ⊙ g(c_t) ⊙ m_c + (1 − σ(r_t + b_r)) ⊙ x'_t
/// ```
///
/// Where the input is as wide as the layer, the highway `x'_t` is `x_t` itself, without a mask, and
/// `W` has three parts. The masks are one for all steps of a sequence and drawn anew at each call.
/// As with Burn's `Dropout`, they act where the input is on an autodiff device and `training` is
/// enabled. [`forward_states`](Self::forward_states) takes them from outside.
///
/// All products are one; what depends on the step before is element by element
/// ([`sru_sequence`](crate::sru::sru_sequence)).
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Sru {
    /// `W`: `[d_input, 3 or 4 · d_hidden]`, the parts side by side.
    pub weight: Param<Tensor<2>>,
    /// `b_f, b_r`: `[2 · d_hidden]`.
    pub bias: Param<Tensor<1>>,
    /// Whether sequences are `[batch_size, seq_length, ..]`; else they are
    /// `[seq_length, batch_size, ..]`.
    pub batch_first: bool,
    /// Probability of dropping a feature of the input before the product.
    pub input_dropout: f64,
    /// Probability of dropping the activation of a cell.
    pub activation_dropout: f64,
    /// Whether the dropouts take part in training; `freeze` disables it.
    pub training: Param<Flag>,
    /// Function between a cell state and the hidden state.
    #[module(skip)]
    pub activation: Activation,
    /// How the scan is computed.
    #[module(skip)]
    pub kernels: Kernels,
    /// Of the matrix products.
    #[module(skip)]
    pub precision: MatmulPrecision,
}

impl Sru {
    /// Width of the input, and number of units.
    pub fn dims(&self) -> [usize; 2] {
        [self.weight.dims()[0], self.bias.dims()[0] / 2]
    }

    /// Hidden states of all steps, and the state after the last one.
    ///
    /// # Shapes
    ///
    /// - `input`: `[batch_size, seq_length, d_input]` if `batch_first`, else
    ///   `[seq_length, batch_size, d_input]`
    /// - `state`: `[batch_size, d_hidden]`; `None` is zero
    /// - returns: `input`'s shape with `d_hidden` in place of `d_input`; `[batch_size, d_hidden]`
    ///
    /// # Panics
    ///
    /// If a width, the batch sizes, data types or devices do not fit each other, or the sequence is
    /// empty.
    pub fn forward(&self, input: Tensor<3>, state: Option<SruState>) -> (Tensor<3>, SruState) {
        let LayerStates { hidden, state, .. } = self.forward_states(input, state, None);
        (hidden, state)
    }

    /// [`forward`](Self::forward) with the cell states of all steps, and with these masks, if there
    /// are some, instead of drawn ones.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward), or if a mask does not fit or is on a recurrent matrix: there
    /// is none.
    pub fn forward_states(
        &self,
        input: Tensor<3>,
        state: Option<SruState>,
        masks: Option<LayerMasks>,
    ) -> LayerStates<SruState> {
        let [d_weight, d_hidden] = self.dims();
        let places = [(self.input_dropout, d_weight), (self.activation_dropout, d_hidden)];
        let input = time_first("SRU", input, self.batch_first, d_weight);
        let masks = masks.unwrap_or_else(|| LayerMasks::sample(&self.training, &input, places));
        assert!(masks.weight.is_none(), "an SRU has no recurrent matrix to mask");
        let batch_size = input.dims()[1];

        let options = (&input.device(), input.dtype());
        let cell = state.map(|state| state.cell);
        let cell = cell.unwrap_or_else(|| Tensor::zeros([batch_size, d_hidden], options));
        let highway = (d_weight == d_hidden).then(|| input.clone());
        let weight = self.weight.val();
        let parts = weight.dims()[1] / d_hidden;
        let SruSequence { hidden, cell, last } = self.kernels.sru_sequence(SruInputs {
            product: project(self.kernels, input, weight, masks.input, parts, self.precision),
            highway,
            bias: self.bias.val(),
            mask: masks.recurrent.map(|mask| mask.squeeze_dim(0)),
            cell,
            activation: self.activation,
        });
        let state = SruState { cell: last };
        LayerStates { hidden, cell, state }.swap_if(self.batch_first)
    }
}

display_on_one_line!(Sru, it: "d_input" = it.dims()[0], "d_hidden" = it.dims()[1]; training);
