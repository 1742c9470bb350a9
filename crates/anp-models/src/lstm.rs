use anp_kernels::Kernels;
use anp_kernels::lstm::{LstmInputs, LstmSequence, LstmState};
use burn::module::{Module, Param};
use burn::tensor::{Device, Distribution, Tensor};

use crate::dropout::mask_weight;

/// Initial values of a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BiasInit {
    /// Zero.
    Zeros,
    /// Uniform in the range of the weights.
    Uniform,
}

impl BiasInit {
    /// A bias of `width` elements.
    pub(crate) fn init(self, width: usize, range: f64, device: &Device) -> Param<Tensor<1>> {
        match self {
            Self::Zeros => Param::from_tensor(Tensor::zeros([width], device)),
            Self::Uniform => uniform([width], range, device),
        }
    }
}

/// Configuration of one [`LstmLayer`].
#[derive(Debug, Clone, PartialEq)]
pub struct LstmLayerConfig {
    /// Width of the input.
    pub d_input: usize,
    /// Number of units.
    pub d_hidden: usize,
    /// Bias vectors: 1, or 2 (one with the input product and one with the recurrent product, as in
    /// `torch.nn.LSTM`; they add up, so each gradient step moves their sum twice as far).
    pub num_biases: usize,
    /// Constant added to the forget gate's pre-activation; not a parameter.
    pub forget_bias: f64,
    /// Initial values of the biases.
    pub bias_init: BiasInit,
    /// Weights start uniform in `[-init_range, init_range]`.
    pub init_range: f64,
    /// How the recurrence is computed.
    pub kernels: Kernels,
}

impl LstmLayerConfig {
    /// Draw the parameters on `device`, from its random number generator.
    ///
    /// # Panics
    ///
    /// If `num_biases` is neither 1 nor 2.
    pub fn init(&self, device: &Device) -> LstmLayer {
        assert!(
            matches!(self.num_biases, 1 | 2),
            "an LSTM layer has 1 or 2 biases, not {}",
            self.num_biases
        );
        let d_gates = 4 * self.d_hidden;
        let bias = || self.bias_init.init(d_gates, self.init_range, device);
        LstmLayer {
            weight_input: uniform([self.d_input, d_gates], self.init_range, device),
            weight_hidden: uniform([self.d_hidden, d_gates], self.init_range, device),
            bias_input: bias(),
            bias_hidden: (self.num_biases == 2).then(bias),
            forget_bias: self.forget_bias,
            kernels: self.kernels,
        }
    }
}

/// A parameter drawn uniformly from `[-range, range]`.
pub(crate) fn uniform<const D: usize>(
    shape: [usize; D],
    range: f64,
    device: &Device,
) -> Param<Tensor<D>> {
    Param::from_tensor(Tensor::random(shape, Distribution::Uniform(-range, range), device))
}

/// A Long Short-Term Memory layer over a time-first sequence.
///
/// ```text
/// i, f, g, o = split(x_t W_x + b_x + h_{t−1} W_h + b_h)
/// c_t = σ(f + forget_bias) ⊙ c_{t−1} + σ(i) ⊙ tanh(g)
/// h_t = σ(o) ⊙ tanh(c_t)
/// ```
///
/// Gates are stored in the order input, forget, cell, output, as in PyTorch; both kernels as
/// `[d_in, 4 · d_hidden]`, the transpose of PyTorch's. One product covers all steps' inputs and all gates.
#[derive(Module, Debug)]
pub struct LstmLayer {
    /// `W_x`: `[d_input, 4 · d_hidden]`.
    pub weight_input: Param<Tensor<2>>,
    /// `W_h`: `[d_hidden, 4 · d_hidden]`.
    pub weight_hidden: Param<Tensor<2>>,
    /// `b_x`: `[4 · d_hidden]`.
    pub bias_input: Param<Tensor<1>>,
    /// `b_h`: `[4 · d_hidden]`, if the layer has two biases.
    pub bias_hidden: Option<Param<Tensor<1>>>,
    /// Constant added to the forget gate's pre-activation.
    pub forget_bias: f64,
    #[module(skip)]
    kernels: Kernels,
}

impl LstmLayer {
    /// Run over a window.
    ///
    /// # Shapes
    ///
    /// - `input`: `[seq_length, batch_size, d_input]`
    /// - `state`: two of `[batch_size, d_hidden]`
    /// - `input_mask`: what the input is multiplied by, `[1, batch_size, d_input]`, or `[4, batch_size, d_input]` for each
    ///   gate its own
    /// - `recurrent_mask`: what the hidden states are multiplied by on their way to the next step, `[1, batch_size,
    ///   d_hidden]`, or `[4, batch_size, d_hidden]` for each gate its own
    /// - `weight_mask`: what `W_h` is multiplied by, `[1, d_hidden, 4 · d_hidden]`
    ///
    /// # Panics
    ///
    /// If a width or the batch sizes do not fit.
    pub fn forward(
        &self,
        input: Tensor<3>,
        state: LstmState,
        input_mask: Option<Tensor<3>>,
        recurrent_mask: Option<Tensor<3>>,
        weight_mask: Option<Tensor<3>>,
    ) -> LstmSequence {
        let [seq_length, batch_size, d_input] = input.dims();
        let [expected, d_gates] = self.weight_input.dims();
        assert_eq!(
            d_input, expected,
            "the LSTM's input has width {d_input}, its weight wants {expected}"
        );
        assert_eq!(
            state.hidden.dims(),
            [batch_size, d_gates / 4],
            "the LSTM's state does not fit an input of {:?}",
            input.dims()
        );

        let bias = match &self.bias_hidden {
            Some(bias_hidden) => self.bias_input.val() + bias_hidden.val(),
            None => self.bias_input.val(),
        };
        let product = |input: Tensor<3>, weight: Tensor<2>| {
            let [_, width] = weight.dims();
            let input = input.reshape([seq_length * batch_size, d_input]);
            self.kernels.matmul(input, weight).reshape([seq_length, batch_size, width])
        };
        let weight = self.weight_input.val();
        let gates = match input_mask {
            None => product(input, weight),
            Some(mask) if mask.dims()[0] == 1 => product(input * mask, weight),
            Some(mask) => {
                let by_gate = mask.chunk(4, 0).into_iter().zip(weight.chunk(4, 1));
                let products = by_gate.map(|(mask, weight)| product(input.clone() * mask, weight));
                Tensor::cat(products.collect(), 2)
            }
        };
        self.kernels.lstm_sequence(LstmInputs {
            gates,
            bias,
            weight_hidden: mask_weight(&self.weight_hidden, weight_mask),
            mask: recurrent_mask,
            state,
            forget_bias: self.forget_bias,
        })
    }
}
