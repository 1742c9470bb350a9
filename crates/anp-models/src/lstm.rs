use burn::module::{Module, Param};
use burn::tensor::activation::{sigmoid, tanh};
use burn::tensor::{Device, Distribution, Tensor};

/// Initial values of the recurrent biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BiasInit {
    /// Zero.
    Zeros,
    /// Uniform in the range of the weights.
    Uniform,
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
        let bias = || match self.bias_init {
            BiasInit::Zeros => Param::from_tensor(Tensor::zeros([d_gates], device)),
            BiasInit::Uniform => uniform([d_gates], self.init_range, device),
        };
        LstmLayer {
            weight_input: uniform([self.d_input, d_gates], self.init_range, device),
            weight_hidden: uniform([self.d_hidden, d_gates], self.init_range, device),
            bias_input: bias(),
            bias_hidden: (self.num_biases == 2).then(bias),
            forget_bias: self.forget_bias,
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

/// Hidden and cell state of one layer between two windows.
#[derive(Debug, Clone)]
pub struct LstmState {
    /// `h`: `[batch_size, d_hidden]`.
    pub hidden: Tensor<2>,
    /// `c`: `[batch_size, d_hidden]`.
    pub cell: Tensor<2>,
}

impl LstmState {
    /// The state before a text: all zero.
    pub fn zeros(batch_size: usize, d_hidden: usize, device: &Device) -> Self {
        Self {
            hidden: Tensor::zeros([batch_size, d_hidden], device),
            cell: Tensor::zeros([batch_size, d_hidden], device),
        }
    }

    /// The same values, cut from the graph that made them.
    #[must_use]
    pub fn detach(self) -> Self {
        Self { hidden: self.hidden.detach(), cell: self.cell.detach() }
    }
}

/// States of one layer at every step of a window.
#[derive(Debug, Clone)]
pub struct LstmSequence {
    /// `h_t`: `[seq_length, batch_size, d_hidden]`.
    pub hidden: Tensor<3>,
    /// `c_t`: `[seq_length, batch_size, d_hidden]`.
    pub cell: Tensor<3>,
    /// State after the last step, still part of the graph.
    pub state: LstmState,
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
}

impl LstmLayer {
    /// Run over a window.
    ///
    /// # Shapes
    ///
    /// - `input`: `[seq_length, batch_size, d_input]`
    /// - `state`: two of `[batch_size, d_hidden]`
    ///
    /// # Panics
    ///
    /// If a width or the batch sizes do not fit.
    pub fn forward(&self, input: Tensor<3>, state: LstmState) -> LstmSequence {
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
        let gates = input
            .reshape([seq_length * batch_size, d_input])
            .matmul(self.weight_input.val())
            .add(bias.unsqueeze())
            .reshape([seq_length, batch_size, d_gates]);
        lstm_sequence(gates, self.weight_hidden.val(), state, self.forget_bias)
    }
}

/// The recurrence of an LSTM over a window whose input products are already made.
///
/// This composition of Burn's operations is the specification of the layer; a fused operation takes
/// its place behind the same signature.
///
/// # Shapes
///
/// - `gates`: `[seq_length, batch_size, 4 · d_hidden]`, `x_t W_x + b`
/// - `weight_hidden`: `[d_hidden, 4 · d_hidden]`
pub fn lstm_sequence(
    gates: Tensor<3>,
    weight_hidden: Tensor<2>,
    state: LstmState,
    forget_bias: f64,
) -> LstmSequence {
    let LstmState { hidden: mut h, cell: mut c } = state;
    let mut hidden = Vec::new();
    let mut cell = Vec::new();

    for gates_t in unstack(gates) {
        let [i, f, g, o] = (gates_t + h.matmul(weight_hidden.clone()))
            .chunk(4, 1)
            .try_into()
            .expect("the gates' width is a multiple of four");
        let f = if forget_bias == 0.0 { f } else { f + forget_bias };
        c = sigmoid(f) * c + sigmoid(i) * tanh(g);
        h = sigmoid(o) * tanh(c.clone());
        cell.push(c.clone());
        hidden.push(h.clone());
    }

    LstmSequence {
        hidden: Tensor::stack(hidden, 0),
        cell: Tensor::stack(cell, 0),
        state: LstmState { hidden: h, cell: c },
    }
}

/// Split `[seq_length, a, b]` into its `seq_length` steps of `[a, b]`.
///
/// By halves, because the gradient of a slice is a zeroed copy of the *whole* tensor: cutting each step
/// from the whole would move `seq_length` times its size backward, cutting by halves only
/// `log₂ seq_length` times.
fn unstack(sequence: Tensor<3>) -> Vec<Tensor<2>> {
    let [seq_length, rows, columns] = sequence.dims();
    if seq_length == 1 {
        return vec![sequence.reshape([rows, columns])];
    }
    let first = seq_length / 2;
    let mut steps = unstack(sequence.clone().narrow(0, 0, first));
    steps.extend(unstack(sequence.narrow(0, first, seq_length - first)));
    steps
}
