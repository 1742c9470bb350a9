use anp_core::apply_mask;
use anp_kernels::MatmulPrecision;
use anp_kernels::nn::LayerMasks;
use burn::config::Config;
use burn::module::{Module, Param};
use burn::tensor::activation::{relu, sigmoid, tanh};
use burn::tensor::{Device, Tensor};

use super::traits::{Cell, CellTraits, LayerInit, LayerOutput, LayerState, ParamCount};
use crate::init::{draw, within};

/// Configuration of layers of the cell of neural architecture search, which has nothing to choose.
#[derive(Config, Debug, PartialEq)]
pub struct NasCellConfig {}

/// The recurrent cell that neural architecture search found from base 8 ([Zoph & Le, 2016]), over a
/// time-first sequence.
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
pub struct Nas {
    /// `W`: `[d_input, 8 · d_hidden]`.
    pub weight_input: Param<Tensor<2>>,
    /// `R`: `[d_hidden, 8 · d_hidden]`.
    pub weight_hidden: Param<Tensor<2>>,
    /// Of the matrix products.
    #[module(skip)]
    pub precision: MatmulPrecision,
}

impl Cell for Nas {
    type Config = NasCellConfig;

    const TRAITS: CellTraits =
        CellTraits { carries_hidden: true, has_cells: true, input_masks: 1, recurrent_masks: 1 };

    fn param_count(_: &NasCellConfig, [d_input, d_hidden]: [usize; 2]) -> ParamCount {
        ParamCount { weights: 8 * d_hidden * (d_input + d_hidden), biases: 0 }
    }

    fn init(_: &NasCellConfig, layer: LayerInit, device: &Device) -> Self {
        let LayerInit { d_input, d_hidden, range, precision, .. } = layer;
        Self {
            weight_input: draw(within(range), [d_input, 8 * d_hidden], device),
            weight_hidden: draw(within(range), [d_hidden, 8 * d_hidden], device),
            precision,
        }
    }

    fn dims(&self) -> [usize; 2] {
        [self.weight_input.dims()[0], self.weight_hidden.dims()[0]]
    }

    fn weights(&self) -> (Tensor<2>, Option<Tensor<3>>) {
        (self.weight_input.val(), Some(self.weight_hidden.val().unsqueeze()))
    }

    fn forward(&self, input: Tensor<3>, state: LayerState, masks: LayerMasks) -> LayerOutput {
        let [seq_length, batch_size, d_input] = input.dims();
        let [d_hidden, width] = self.weight_hidden.dims();
        let rows = apply_mask(input, masks.input).reshape([seq_length * batch_size, d_input]);
        let products = self.precision.matmul(rows, self.weight_input.val());
        let products = products.reshape([seq_length, batch_size, width]);
        let mask: Option<Tensor<2>> = masks.recurrent.map(|mask| mask.squeeze_dim(0));
        let weight_mask = masks.weight.map(|mask| mask.squeeze_dim(0));
        let weight_hidden =
            self.precision.prepare(apply_mask(self.weight_hidden.val(), weight_mask));
        let mut m = state.hidden.expect("a NAS cell carries hidden states");
        let mut c = state.cell.expect("a NAS cell carries cell states");
        let (mut hidden, mut cell) = (Vec::new(), Vec::new());
        for t in 0..seq_length {
            let u = products.clone().narrow(0, t, 1).reshape([batch_size, width]);
            let v =
                self.precision.matmul_prepared(apply_mask(m, mask.clone()), weight_hidden.clone());
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
        LayerOutput {
            hidden: Tensor::stack(hidden, 0),
            cell: Some(Tensor::stack(cell, 0)),
            state: LayerState { hidden: Some(m), cell: Some(c) },
        }
    }
}
