use burn::config::Config;
use burn::module::{Content, DisplaySettings, Flag, Module, ModuleDisplay, Param};
use burn::nn::{Initializer, LstmState};
use burn::tensor::{Device, Tensor};

use super::{ConfigError, check_dropout, check_range, check_size, sequence_mask, swap_if};
use crate::Kernels;
use crate::lstm::{self, LstmInputs, LstmSequence};

/// Configuration of a [`Lstm`].
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
    /// How parameters are drawn, each gate's weights and biases by themselves.
    #[config(default = "Initializer::XavierNormal { gain: 1.0 }")]
    pub initializer: Initializer,
    /// Whether sequences are `[batch_size, seq_length, ..]`; else they are `[seq_length, batch_size, ..]`.
    #[config(default = true)]
    pub batch_first: bool,
    /// Bias vectors, where there are biases: 2 (one with the input's product and one with the recurrent one, as in
    /// burn-nn and PyTorch; they add up, so that a step of gradient descent moves their sum twice as far) or 1.
    #[config(default = 2)]
    pub num_biases: usize,
    /// Constant added to the forget gate's pre-activation; not a parameter.
    #[config(default = 0.0)]
    pub forget_bias: f64,
    /// Probability of dropping a feature of the input, for all steps of a sequence.
    #[config(default = 0.0)]
    pub input_dropout: f64,
    /// Probability of dropping a unit of `h_{t−1}` before the recurrent product, for all steps of a sequence and all
    /// gates.
    #[config(default = 0.0)]
    pub recurrent_dropout: f64,
    /// How the recurrence is computed.
    #[config(default = "Kernels::Fused")]
    pub kernels: Kernels,
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
    /// [`ConfigError::OutOfRange`] if a width is 0, `num_biases` is neither 1 nor 2, a dropout is not in [0, 1), or
    /// `forget_bias` is not finite.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let Self { num_biases, forget_bias, .. } = *self;
        check_size("d_input", self.d_input)?;
        check_size("d_hidden", self.d_hidden)?;
        check_range("num_biases", num_biases as f64, "{1, 2}", matches!(num_biases, 1 | 2))?;
        check_range("forget_bias", forget_bias, "(−∞, ∞)", forget_bias.is_finite())?;
        check_dropout("input_dropout", self.input_dropout)?;
        check_dropout("recurrent_dropout", self.recurrent_dropout)
    }

    /// Draw the parameters on `device`, from its random number generator.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails, or the initializer cannot draw a vector and there are biases.
    pub fn init(&self, device: &Device) -> Lstm {
        let Self { d_input, d_hidden, initializer, .. } = self;
        let bias = || gates(initializer, [*d_hidden], 0, *d_input, device);
        self.build(LstmWeights {
            input: gates(initializer, [*d_input, *d_hidden], 1, *d_input, device),
            hidden: gates(initializer, [*d_hidden, *d_hidden], 1, *d_hidden, device),
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

/// Draw a parameter of each gate and lay the four side by side along dimension `dim`.
fn gates<const D: usize>(
    initializer: &Initializer,
    shape: [usize; D],
    dim: usize,
    fan_in: usize,
    device: &Device,
) -> Tensor<D> {
    let fan_out = shape[D - 1];
    let gate = |_| initializer.init_with(shape, Some(fan_in), Some(fan_out), device).into_value();
    Tensor::cat((0..4).map(gate).collect(), dim).detach()
}

/// Hidden and cell states of one layer at every step.
#[derive(Debug, Clone)]
pub struct LstmStates {
    /// `h_t`: `[batch_size, seq_length, d_hidden]` if the layer is `batch_first`, else `[seq_length, batch_size,
    /// d_hidden]`.
    pub hidden: Tensor<3>,
    /// `c_t`, in the shape of `hidden`.
    pub cell: Tensor<3>,
    /// State after the last step: two of `[batch_size, d_hidden]`.
    pub state: LstmState<2>,
}

/// A Long Short-Term Memory layer ([Hochreiter & Schmidhuber, 1997](https://doi.org/10.1162/neco.1997.9.8.1735)), in
/// the form that `burn::nn::Lstm` and `torch.nn.LSTM` have.
///
/// ```text
/// i, f, g, o = split((x_t ⊙ m_x) W_x + b_x + (h_{t−1} ⊙ m_h) W_h + b_h)
/// c_t = σ(f + forget_bias) ⊙ c_{t−1} + σ(i) ⊙ tanh(g)
/// h_t = σ(o) ⊙ tanh(c_t)
/// ```
///
/// The masks are those of variational dropout ([Gal & Ghahramani, 2016](https://arxiv.org/abs/1512.05287)): one for all
/// steps of a sequence and drawn anew at each call. As with Burn's `Dropout`, they act where the input is on an
/// autodiff device and `training` is enabled. Inputs of all steps enter by one product, and the recurrence is one
/// operation with one backward step ([`lstm_sequence`](crate::lstm::lstm_sequence)).
///
/// Gates lie in the order input, forget, cell, output, as in PyTorch; both weights are the transposes of PyTorch's.
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
    /// Whether sequences are `[batch_size, seq_length, ..]`; else they are `[seq_length, batch_size, ..]`.
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
}

impl Lstm {
    /// Hidden states of all steps, and the state after the last one.
    ///
    /// # Shapes
    ///
    /// - `input`: `[batch_size, seq_length, d_input]` if `batch_first`, else `[seq_length, batch_size, d_input]`
    /// - `state`: two of `[batch_size, d_hidden]`; `None` is zero
    /// - returns: `input`'s shape with `d_hidden` in place of `d_input`; two of `[batch_size, d_hidden]`
    ///
    /// # Panics
    ///
    /// If a width, the batch sizes, data types or devices do not fit each other, or the sequence is empty.
    pub fn forward(
        &self,
        input: Tensor<3>,
        state: Option<LstmState<2>>,
    ) -> (Tensor<3>, LstmState<2>) {
        let LstmStates { hidden, state, .. } = self.forward_states(input, state);
        (hidden, state)
    }

    /// [`forward`](Self::forward) with the cell states of all steps.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward).
    pub fn forward_states(&self, input: Tensor<3>, state: Option<LstmState<2>>) -> LstmStates {
        let input = swap_if(self.batch_first, input);
        let [seq_length, batch_size, d_input] = input.dims();
        let [d_weight, d_gates] = self.weight_input.dims();
        assert_eq!(d_input, d_weight, "the LSTM's input has the width {d_input}, not {d_weight}");
        let d_hidden = d_gates / 4;

        let options = (&input.device(), input.dtype());
        let mask = |prob, width| sequence_mask(&self.training, prob, [batch_size, width], &input);
        let input_mask = mask(self.input_dropout, d_input);
        let recurrent_mask = mask(self.recurrent_dropout, d_hidden);
        let state = match state {
            Some(LstmState { cell, hidden }) => lstm::LstmState { hidden, cell },
            None => {
                let zeros = Tensor::zeros([batch_size, d_hidden], options);
                lstm::LstmState { hidden: zeros.clone(), cell: zeros }
            }
        };
        let bias = match (&self.bias_input, &self.bias_hidden) {
            (Some(input), Some(hidden)) => input.val() + hidden.val(),
            (Some(bias), None) | (None, Some(bias)) => bias.val(),
            (None, None) => Tensor::zeros([d_gates], options),
        };
        let input = match input_mask {
            Some(mask) => input * mask,
            None => input,
        };
        let input = input.reshape([seq_length * batch_size, d_input]);
        let gates = self.kernels.matmul(input, self.weight_input.val());
        let gates = gates.reshape([seq_length, batch_size, d_gates]);

        let LstmSequence { hidden, cell, state } = self.kernels.lstm_sequence(LstmInputs {
            gates,
            bias,
            weight_hidden: self.weight_hidden.val(),
            mask: recurrent_mask,
            state,
            forget_bias: self.forget_bias,
        });
        LstmStates {
            hidden: swap_if(self.batch_first, hidden),
            cell: swap_if(self.batch_first, cell),
            state: LstmState::new(state.cell, state.hidden),
        }
    }
}

impl ModuleDisplay for Lstm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new().with_new_line_after_attribute(false).optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let [d_input, d_gates] = self.weight_input.dims();
        let content = content
            .add("d_input", &d_input)
            .add("d_hidden", &(d_gates / 4))
            .add("bias", &self.bias_input.is_some());
        match self.training.is_enabled() {
            true => content.optional(),
            false => content.add("training", &self.training).optional(),
        }
    }
}
