use anp_kernels::lstm::LstmState;
use burn::module::{Module, Param};
use burn::tensor::activation::{relu, sigmoid, tanh};
use burn::tensor::{Device, Tensor};

use crate::dropout::mask_weight;
use crate::lstm::uniform;

/// Configuration of one [`NasLayer`].
#[derive(Debug, Clone, PartialEq)]
pub struct NasLayerConfig {
    /// Width of the input.
    pub d_input: usize,
    /// Number of units.
    pub d_hidden: usize,
    /// Weights start uniform in `[-init_range, init_range]`.
    pub init_range: f64,
}

impl NasLayerConfig {
    /// Draw the parameters on `device`, from its random number generator.
    pub fn init(&self, device: &Device) -> NasLayer {
        let Self { d_input, d_hidden, init_range } = *self;
        NasLayer {
            weight_input: uniform([d_input, 8 * d_hidden], init_range, device),
            weight_hidden: uniform([d_hidden, 8 * d_hidden], init_range, device),
        }
    }
}

/// The recurrent cell that neural architecture search found from base 8 ([Zoph & Le, 2016]), over a time-first sequence.
///
/// ```text
/// u = x_t W,   v = (m_{t−1} ⊙ mask) R,   eight blocks each
/// a_0 = σ(u_0 + v_0)   a_1 = relu(u_1 + v_1)   a_2 = σ(u_2 + v_2)      a_3 = relu(u_3 ⊙ v_3)
/// a_4 = tanh(u_4 + v_4)   a_5 = σ(u_5 + v_5)   a_6 = tanh(u_6 + v_6)   a_7 = σ(u_7 + v_7)
/// b_0 = tanh(a_0 ⊙ a_1)   b_1 = tanh(a_2 + a_3)   b_2 = tanh(a_4 ⊙ a_5)   b_3 = σ(a_6 + a_7)
/// c_t = tanh(b_0 + c_{t−1}) ⊙ b_1
/// m_t = tanh(c_t ⊙ tanh(b_2 + b_3))
/// ```
///
/// As in TensorFlow's `NASCell`, without biases.
///
/// [Zoph & Le, 2016]: https://arxiv.org/abs/1611.01578
#[derive(Module, Debug)]
pub struct NasLayer {
    /// `W`: `[d_input, 8 · d_hidden]`.
    pub weight_input: Param<Tensor<2>>,
    /// `R`: `[d_hidden, 8 · d_hidden]`.
    pub weight_hidden: Param<Tensor<2>>,
}

/// What a [`NasLayer`] makes of a window.
#[derive(Debug, Clone)]
pub struct NasSequence {
    /// `m_t`: `[seq_length, batch_size, d_hidden]`.
    pub hidden: Tensor<3>,
    /// `c_t`: `[seq_length, batch_size, d_hidden]`.
    pub cell: Tensor<3>,
    /// State after the last step, still part of the graph.
    pub state: LstmState,
}

impl NasLayer {
    /// Run over a window.
    ///
    /// # Shapes
    ///
    /// - `input`: `[seq_length, batch_size, d_input]`
    /// - `state`: `m` and `c`, `[batch_size, d_hidden]` each
    /// - `mask`: what `m` is multiplied by on its way to the next step, `[1, batch_size, d_hidden]`
    /// - `weight_mask`: what `R` is multiplied by, `[1, d_hidden, 8 · d_hidden]`
    ///
    /// # Panics
    ///
    /// If a shape does not fit, or the sequence is empty.
    pub fn forward(
        &self,
        input: Tensor<3>,
        state: LstmState,
        mask: Option<Tensor<3>>,
        weight_mask: Option<Tensor<3>>,
    ) -> NasSequence {
        let [seq_length, batch_size, d_input] = input.dims();
        let [d_hidden, width] = self.weight_hidden.dims();
        let products = input
            .reshape([seq_length * batch_size, d_input])
            .matmul(self.weight_input.val())
            .reshape([seq_length, batch_size, width]);
        let mask = mask.map(|mask| mask.reshape([batch_size, d_hidden]));
        let weight_hidden = mask_weight(&self.weight_hidden, weight_mask);
        let LstmState { hidden: mut m, cell: mut c } = state;
        let (mut hidden, mut cell) = (Vec::new(), Vec::new());
        for t in 0..seq_length {
            let u = products.clone().narrow(0, t, 1).reshape([batch_size, width]);
            let masked = match &mask {
                Some(mask) => m * mask.clone(),
                None => m,
            };
            let v = masked.matmul(weight_hidden.clone());
            let sum = u.clone() + v.clone();
            let block = |of: &Tensor<2>, index| of.clone().narrow(1, index * d_hidden, d_hidden);
            let b0 = tanh(sigmoid(block(&sum, 0)) * relu(block(&sum, 1)));
            let b1 = tanh(sigmoid(block(&sum, 2)) + relu(block(&u, 3) * block(&v, 3)));
            let b2 = tanh(tanh(block(&sum, 4)) * sigmoid(block(&sum, 5)));
            let b3 = sigmoid(tanh(block(&sum, 6)) + sigmoid(block(&sum, 7)));
            c = tanh(b0 + c) * b1;
            m = tanh(c.clone() * tanh(b2 + b3));
            hidden.push(m.clone());
            cell.push(c.clone());
        }
        NasSequence {
            hidden: Tensor::stack(hidden, 0),
            cell: Tensor::stack(cell, 0),
            state: LstmState { hidden: m, cell: c },
        }
    }
}
