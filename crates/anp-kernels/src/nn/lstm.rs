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
use super::states::{LayerStates, time_first};
use crate::kernels::Kernels;
use crate::lstm::{LstmInputs, LstmSequence, LstmState};
use crate::precision::MatmulPrecision;

/// Configuration of an [`Lstm`].
///
/// The first five fields are those of `burn::nn::LstmConfig`, with its defaults.
#[derive(Config, Debug)]
pub struct LstmConfig {
    /// Width of the input.
    pub d_input: usize,
    /// Number of units.
    pub d_hidden: usize,
    /// Whether there are biases.
    pub bias: bool,
    /// How parameters are drawn. It sees the weights and the bias of one gate.
    #[config(default = "Initializer::XavierNormal { gain: 1.0 }")]
    pub initializer: Initializer,
    /// Whether sequences are `[batch_size, seq_length, ..]`; else they are
    /// `[seq_length, batch_size, ..]`.
    #[config(default = true)]
    pub batch_first: bool,
    /// How biases are drawn, if not like the weights.
    pub bias_initializer: Option<Initializer>,
    /// Bias vectors, where there are biases: 2 (one with the input's product and one with the
    /// recurrent one, as in burn-nn and PyTorch; they add up, so that a step of gradient descent
    /// moves their sum twice as far) or 1.
    #[config(default = 2)]
    pub num_biases: usize,
    /// Constant added to the forget gate's pre-activation; not a parameter.
    #[config(default = 0.0)]
    pub forget_bias: f64,
    /// Probability of dropping a feature of the input, for all steps of a sequence.
    #[config(default = 0.0)]
    pub input_dropout: f64,
    /// Probability of dropping a unit of `h_{t−1}` before the recurrent product, for all steps of a
    /// sequence and all gates.
    #[config(default = 0.0)]
    pub recurrent_dropout: f64,
    /// How the recurrence is computed.
    #[config(default = "Kernels::Fused")]
    pub kernels: Kernels,
    /// Of the matrix products.
    #[config(default = "MatmulPrecision::Full")]
    pub precision: MatmulPrecision,
}

impl LstmConfig {
    /// Draw parameters as PyTorch does by default: all uniform in ±1/√`d_hidden`.
    #[must_use]
    pub fn with_pytorch_initializer(self) -> Self {
        let range = 1.0 / (self.d_hidden as f64).sqrt();
        self.with_initializer(Initializer::Uniform { min: -range, max: range })
    }

    /// Check the values.
    ///
    /// # Errors
    ///
    /// [`HyperParamError::OutOfRange`] if a width is 0, `num_biases` is neither 1 nor 2, a dropout
    /// is not in [0, 1), or `forget_bias` is not finite.
    pub fn validate(&self) -> Result<(), HyperParamError> {
        let Self { num_biases, forget_bias, .. } = *self;
        validate_size("d_input", self.d_input)?;
        validate_size("d_hidden", self.d_hidden)?;
        validate_range("num_biases", num_biases as f64, "{1, 2}", matches!(num_biases, 1 | 2))?;
        validate_range("forget_bias", forget_bias, "(−∞, ∞)", forget_bias.is_finite())?;
        validate_dropout("input_dropout", self.input_dropout)?;
        validate_dropout("recurrent_dropout", self.recurrent_dropout)
    }

    /// Draw the parameters on `device`, from its random number generator.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails, or the initializer cannot draw a vector and there are
    /// biases.
    pub fn init(&self, device: &Device) -> Lstm {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        let Self { d_input, d_hidden, ref initializer, .. } = *self;
        let d_gates = 4 * d_hidden;
        let bias_initializer = self.bias_initializer.as_ref().unwrap_or(initializer);
        let bias = || draw(bias_initializer, [d_gates], 4, d_input, device);
        self.build(LstmWeights {
            input: draw(initializer, [d_input, d_gates], 4, d_input, device),
            hidden: draw(initializer, [d_hidden, d_gates], 4, d_hidden, device),
            bias_input: self.bias.then(bias),
            bias_hidden: (self.bias && self.num_biases == 2).then(bias),
        })
    }

    /// The layer with these weights, whose shapes the caller has checked.
    pub(super) fn build(&self, weights: LstmWeights) -> Lstm {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        Lstm {
            weight_input: Param::from_tensor(weights.input),
            weight_hidden: Param::from_tensor(weights.hidden),
            bias_input: weights.bias_input.map(Param::from_tensor),
            bias_hidden: weights.bias_hidden.map(Param::from_tensor),
            forget_bias: self.forget_bias,
            batch_first: self.batch_first,
            input_dropout: self.input_dropout,
            recurrent_dropout: self.recurrent_dropout,
            training: Param::from_bool(true),
            kernels: self.kernels,
            precision: self.precision,
        }
    }
}

/// Values of a layer's parameters, in the shapes of [`Lstm`].
pub(super) struct LstmWeights {
    pub(super) input: Tensor<2>,
    pub(super) hidden: Tensor<2>,
    pub(super) bias_input: Option<Tensor<1>>,
    pub(super) bias_hidden: Option<Tensor<1>>,
}

/// A Long Short-Term Memory layer
/// ([Hochreiter & Schmidhuber, 1997](https://doi.org/10.1162/neco.1997.9.8.1735)), in the form that
/// `burn::nn::Lstm` and `torch.nn.LSTM` have.
///
/// ```text
/// i, f, g, o = split((x_t ⊙ m_x) W_x + b_x + (h_{t−1} ⊙ m_h) W_h + b_h)
/// c_t = σ(f + forget_bias) ⊙ c_{t−1} + σ(i) ⊙ tanh(g)
/// h_t = σ(o) ⊙ tanh(c_t)
/// ```
///
/// The masks are those of variational dropout
/// ([Gal & Ghahramani, 2016](https://arxiv.org/abs/1512.05287)): one for all steps of a sequence,
/// drawn anew at each call. As with Burn's `Dropout`, they act where the input is on an autodiff
/// device and `training` is enabled. [`forward_states`](Self::forward_states) takes them from
/// outside. Inputs of all steps enter by one product, and the recurrence is one operation with one
/// backward step ([`lstm_sequence`](crate::lstm::lstm_sequence)).
///
/// Gates lie in the order input, forget, cell, output, as in PyTorch; both weights are the
/// transposes of PyTorch's.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Lstm {
    /// `W_x`: `[d_input, 4 · d_hidden]`.
    pub weight_input: Param<Tensor<2>>,
    /// `W_h`: `[d_hidden, 4 · d_hidden]`.
    pub weight_hidden: Param<Tensor<2>>,
    /// `b_x`: `[4 · d_hidden]`.
    pub bias_input: Option<Param<Tensor<1>>>,
    /// `b_h`: `[4 · d_hidden]`.
    pub bias_hidden: Option<Param<Tensor<1>>>,
    /// Constant added to the forget gate's pre-activation.
    pub forget_bias: f64,
    /// Whether sequences are `[batch_size, seq_length, ..]`; else they are
    /// `[seq_length, batch_size, ..]`.
    pub batch_first: bool,
    /// Probability of dropping a feature of the input.
    pub input_dropout: f64,
    /// Probability of dropping a unit of `h_{t−1}` before the recurrent product.
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

impl Lstm {
    /// Width of the input, and number of units.
    pub fn dims(&self) -> [usize; 2] {
        let [[d_input, _], [d_hidden, _]] = [self.weight_input.dims(), self.weight_hidden.dims()];
        [d_input, d_hidden]
    }

    /// Hidden states of all steps, and the state after the last one.
    ///
    /// # Shapes
    ///
    /// - `input`: `[batch_size, seq_length, d_input]` if `batch_first`, else
    ///   `[seq_length, batch_size, d_input]`
    /// - `state`: two of `[batch_size, d_hidden]`; `None` is zero
    /// - returns: `input`'s shape with `d_hidden` in place of `d_input`; two of
    ///   `[batch_size, d_hidden]`
    ///
    /// # Panics
    ///
    /// If a width, the batch sizes, data types or devices do not fit each other, or the sequence is
    /// empty.
    pub fn forward(&self, input: Tensor<3>, state: Option<LstmState>) -> (Tensor<3>, LstmState) {
        let LayerStates { hidden, state, .. } = self.forward_states(input, state, None);
        (hidden, state)
    }

    /// [`forward`](Self::forward) with the cell states of all steps, and with these masks, if there
    /// are some, instead of drawn ones.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward), or if a mask does not fit.
    pub fn forward_states(
        &self,
        input: Tensor<3>,
        state: Option<LstmState>,
        masks: Option<LayerMasks>,
    ) -> LayerStates<LstmState> {
        let [d_weight, d_hidden] = self.dims();
        let places = [(self.input_dropout, d_weight), (self.recurrent_dropout, d_hidden)];
        let input = time_first("LSTM", input, self.batch_first, d_weight);
        let masks = masks.unwrap_or_else(|| LayerMasks::sample(&self.training, &input, places));
        let batch_size = input.dims()[1];

        let options = (&input.device(), input.dtype());
        let state = state.unwrap_or_else(|| {
            let zeros = Tensor::zeros([batch_size, d_hidden], options);
            LstmState { hidden: zeros.clone(), cell: zeros }
        });
        let bias = match (&self.bias_input, &self.bias_hidden) {
            (Some(input), Some(hidden)) => input.val() + hidden.val(),
            (Some(bias), None) | (None, Some(bias)) => bias.val(),
            (None, None) => Tensor::zeros([4 * d_hidden], options),
        };
        let weight_mask = masks.weight.map(|mask| mask.squeeze_dim(0));
        let LstmSequence { hidden, cell, state } = self.kernels.lstm_sequence(LstmInputs {
            gates: project(
                self.kernels,
                input,
                self.weight_input.val(),
                masks.input,
                4,
                self.precision,
            ),
            bias,
            weight_hidden: apply_mask(self.weight_hidden.val(), weight_mask),
            mask: masks.recurrent,
            state,
            forget_bias: self.forget_bias,
            precision: self.precision,
        });
        LayerStates { hidden, cell, state }.swap_if(self.batch_first)
    }
}

display_on_one_line!(
    Lstm, it: "d_input" = it.dims()[0], "d_hidden" = it.dims()[1],
    "bias" = it.bias_input.is_some(); training
);
