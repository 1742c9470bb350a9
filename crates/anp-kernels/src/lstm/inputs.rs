//! What the operation reads and returns.

use burn::tensor::{Device, Tensor};

use crate::precision::MatmulPrecision;

/// Hidden and cell state of one layer between two windows.
#[derive(Debug, Clone)]
pub struct LstmState {
    /// `h`: `[batch_size, d_hidden]`.
    pub hidden: Tensor<2>,
    /// `c`: `[batch_size, d_hidden]`.
    pub cell: Tensor<2>,
}

impl LstmState {
    /// The state before a text: all zeros.
    pub fn zeros(batch_size: usize, d_hidden: usize, device: &Device) -> Self {
        Self {
            hidden: Tensor::zeros([batch_size, d_hidden], device),
            cell: Tensor::zeros([batch_size, d_hidden], device),
        }
    }

    /// The same values, detached from the graph.
    #[must_use]
    pub fn detach(self) -> Self {
        Self { hidden: self.hidden.detach(), cell: self.cell.detach() }
    }
}

/// States of one layer at all steps of a window.
#[derive(Debug, Clone)]
pub struct LstmSequence {
    /// `h_t`: `[seq_length, batch_size, d_hidden]`.
    pub hidden: Tensor<3>,
    /// `c_t`: `[seq_length, batch_size, d_hidden]`.
    pub cell: Tensor<3>,
    /// State after the last step, still part of the graph.
    pub state: LstmState,
}

/// Inputs of an LSTM over a sequence. The product of `x` and `W_x` has been computed before.
#[derive(Debug, Clone)]
pub struct LstmInputs {
    /// `x_t W_x` of all steps: `[seq_length, batch_size, 4 · d_hidden]`.
    pub gates: Tensor<3>,
    /// `b`: `[4 · d_hidden]`.
    pub bias: Tensor<1>,
    /// `W_h`: `[d_hidden, 4 · d_hidden]`.
    pub weight_hidden: Tensor<2>,
    /// `m`, the mask on the recurrent input, constant over the sequence and scaled by `1 / (1 −
    /// p)`: `[1, batch_size, d_hidden]` for all gates or `[4, batch_size, d_hidden]` with one per
    /// gate. Not differentiated.
    pub mask: Option<Tensor<3>>,
    /// State before the first step.
    pub state: LstmState,
    /// Constant added to the forget gate's pre-activation.
    pub forget_bias: f64,
    /// Of the recurrent products.
    pub precision: MatmulPrecision,
}
