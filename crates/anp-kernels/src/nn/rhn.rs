use anp_core::{
    HyperParamError, apply_mask, display_on_one_line, validate_dropout, validate_range,
    validate_size,
};
use burn::config::Config;
use burn::module::{Flag, Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use super::gates::{draw, project};
use super::masks::LayerMasks;
use super::states::{swap_if, time_first};
use crate::kernels::Kernels;
use crate::precision::MatmulPrecision;
use crate::rhn::RhnInputs;

/// Configuration of an [`Rhn`].
#[derive(Config, Debug)]
pub struct RhnConfig {
    /// Width of the input.
    pub d_input: usize,
    /// Number of units.
    pub d_hidden: usize,
    /// Micro-steps in each time step.
    pub depth: usize,
    /// How weights and the biases of the candidates are drawn. It sees one gate of one micro-step.
    #[config(default = "Initializer::XavierNormal { gain: 1.0 }")]
    pub initializer: Initializer,
    /// Initial bias of the transform gates. Below 0 they let the state pass at first; the authors
    /// take −2 to −4.
    #[config(default = "-2.0")]
    pub transform_bias: f64,
    /// Whether sequences are `[batch_size, seq_length, ..]`; else they are
    /// `[seq_length, batch_size, ..]`.
    #[config(default = true)]
    pub batch_first: bool,
    /// Probability of dropping a feature of the input, for all steps of a sequence.
    #[config(default = 0.0)]
    pub input_dropout: f64,
    /// Probability of dropping a unit of the state before each recurrent product, for all steps of
    /// a sequence, all micro-steps and both gates.
    #[config(default = 0.0)]
    pub recurrent_dropout: f64,
    /// How the recurrence is computed.
    #[config(default = "Kernels::Fused")]
    pub kernels: Kernels,
    /// Of the matrix products.
    #[config(default = "MatmulPrecision::Full")]
    pub precision: MatmulPrecision,
}

impl RhnConfig {
    /// Check the values.
    ///
    /// # Errors
    ///
    /// [`HyperParamError::OutOfRange`] if a width or the depth is 0, a dropout is not in [0, 1), or
    /// `transform_bias` is not finite.
    pub fn validate(&self) -> Result<(), HyperParamError> {
        validate_size("d_input", self.d_input)?;
        validate_size("d_hidden", self.d_hidden)?;
        validate_size("depth", self.depth)?;
        let transform_bias = self.transform_bias;
        validate_range("transform_bias", transform_bias, "(−∞, ∞)", transform_bias.is_finite())?;
        validate_dropout("input_dropout", self.input_dropout)?;
        validate_dropout("recurrent_dropout", self.recurrent_dropout)
    }

    /// Draw the parameters on `device`, from its random number generator.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails, or the initializer cannot draw a vector.
    pub fn init(&self, device: &Device) -> Rhn {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        let Self { d_input, d_hidden, depth, ref initializer, .. } = *self;
        let candidate = draw(initializer, [depth, d_hidden], 1, d_input, device);
        let transform = Tensor::full([depth, d_hidden], self.transform_bias, device);
        let input = draw(initializer, [d_input, 2 * d_hidden], 2, d_input, device);
        let hidden = draw(initializer, [depth, d_hidden, 2 * d_hidden], 2, d_hidden, device);
        Rhn {
            weight_input: Param::from_tensor(input),
            weight_hidden: Param::from_tensor(hidden),
            bias: Param::from_tensor(Tensor::cat(vec![candidate, transform], 1).detach()),
            batch_first: self.batch_first,
            input_dropout: self.input_dropout,
            recurrent_dropout: self.recurrent_dropout,
            training: Param::from_bool(true),
            kernels: self.kernels,
            precision: self.precision,
        }
    }
}

/// State of an [`Rhn`] between two windows.
#[derive(Debug, Clone)]
pub struct RhnState {
    /// `y`: `[batch_size, d_hidden]`.
    pub hidden: Tensor<2>,
}

impl RhnState {
    /// The same values, cut from the graph that made them.
    #[must_use]
    pub fn detach(self) -> Self {
        Self { hidden: self.hidden.detach() }
    }
}

/// A Recurrent Highway Network ([Zilly et al., 2016](https://arxiv.org/abs/1607.03474)) with carry
/// and transform gates coupled.
///
/// ```text
/// s_0 = y_{t−1}
/// h, u = split((x_t ⊙ m_x) W if l = 1, + (s_{l−1} ⊙ m_s) R_l + b_l),   h = tanh(h),   u = σ(u)
/// s_l = h ⊙ u + s_{l−1} ⊙ (1 − u)
/// y_t = s_depth
/// ```
///
/// The masks are one for all steps of a sequence and drawn anew at each call. As with Burn's
/// `Dropout`, they act where the input is on an autodiff device and `training` is enabled.
/// [`forward_masked`](Self::forward_masked) takes them from outside. Inputs of all steps enter by
/// one product, and the recurrence is one operation with one backward step
/// ([`rhn_sequence`](crate::rhn::rhn_sequence)).
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Rhn {
    /// `W`, the columns of `h` before those of `u`: `[d_input, 2 · d_hidden]`.
    pub weight_input: Param<Tensor<2>>,
    /// `R`: `[depth, d_hidden, 2 · d_hidden]`.
    pub weight_hidden: Param<Tensor<3>>,
    /// `b`: `[depth, 2 · d_hidden]`.
    pub bias: Param<Tensor<2>>,
    /// Whether sequences are `[batch_size, seq_length, ..]`; else they are
    /// `[seq_length, batch_size, ..]`.
    pub batch_first: bool,
    /// Probability of dropping a feature of the input.
    pub input_dropout: f64,
    /// Probability of dropping a unit of the state before each recurrent product.
    pub recurrent_dropout: f64,
    /// Whether the dropouts take part in training; `freeze` disables it.
    pub training: Param<Flag>,
    /// How the recurrence is computed.
    #[module(skip)]
    pub kernels: Kernels,
    /// Of the matrix products.
    #[module(skip)]
    pub precision: MatmulPrecision,
}

impl Rhn {
    /// Width of the input, and number of units.
    pub fn dims(&self) -> [usize; 2] {
        [self.weight_input.dims()[0], self.weight_hidden.dims()[1]]
    }

    /// `y_t` of all steps, and the state after the last one.
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
    pub fn forward(&self, input: Tensor<3>, state: Option<RhnState>) -> (Tensor<3>, RhnState) {
        self.forward_masked(input, state, None)
    }

    /// [`forward`](Self::forward) with these masks, if there are some, instead of drawn ones.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward), or if a mask does not fit.
    pub fn forward_masked(
        &self,
        input: Tensor<3>,
        state: Option<RhnState>,
        masks: Option<LayerMasks>,
    ) -> (Tensor<3>, RhnState) {
        let [d_weight, d_hidden] = self.dims();
        let places = [(self.input_dropout, d_weight), (self.recurrent_dropout, d_hidden)];
        let input = time_first("RHN", input, self.batch_first, d_weight);
        let masks = masks.unwrap_or_else(|| LayerMasks::sample(&self.training, &input, places));
        let [seq_length, batch_size, _] = input.dims();

        let options = (&input.device(), input.dtype());
        let state = state.map(|state| state.hidden);
        let state = state.unwrap_or_else(|| Tensor::zeros([batch_size, d_hidden], options));
        let hidden = self.kernels.rhn_sequence(RhnInputs {
            gates: project(
                self.kernels,
                input,
                self.weight_input.val(),
                masks.input,
                2,
                self.precision,
            ),
            weight_hidden: apply_mask(self.weight_hidden.val(), masks.weight),
            bias: self.bias.val(),
            mask: masks.recurrent,
            state,
            precision: self.precision,
        });
        let last = hidden.clone().narrow(0, seq_length - 1, 1).reshape([batch_size, d_hidden]);
        (swap_if(self.batch_first, hidden), RhnState { hidden: last })
    }
}

display_on_one_line!(
    Rhn, it: "d_input" = it.dims()[0], "d_hidden" = it.dims()[1],
    "depth" = it.weight_hidden.dims()[0]; training
);
