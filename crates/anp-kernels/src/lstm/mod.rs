//! A Long Short-Term Memory over a sequence.
//!
//! ```text
//! i, f, g, o = split(gates_t + b + (h_{t−1} ⊙ m) W_h)
//! c_t = σ(f + forget_bias) ⊙ c_{t−1} + σ(i) ⊙ tanh(g)
//! h_t = σ(o) ⊙ tanh(c_t)
//! ```
//!
//! Gates lie in the order input, forget, cell, output, as in PyTorch; kernels are `[d_in, 4 · d_hidden]`, the transpose
//! of PyTorch's.

mod autodiff;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod cpu;
#[cfg(feature = "cube")]
mod cube;
mod ops;
mod reference;

use burn::backend::Dispatch;
use burn::tensor::{DType, Device, Tensor};
pub use ops::{LstmBackend, LstmBackward, LstmForward, LstmGradients, LstmOutputs, LstmSaved};
pub use reference::lstm_sequence as lstm_reference;

use crate::backend::{check_alike, check_shape, is_cpu_or_cube};
pub use crate::recurrence::Recurrence;

const OPERATION: &str = "lstm_sequence";

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

/// What an LSTM does over a sequence, but for the product of its inputs.
#[derive(Debug, Clone)]
pub struct LstmInputs {
    /// `x_t W_x` of all steps: `[seq_length, batch_size, 4 · d_hidden]`.
    pub gates: Tensor<3>,
    /// `b`: `[4 · d_hidden]`.
    pub bias: Tensor<1>,
    /// `W_h`: `[d_hidden, 4 · d_hidden]`.
    pub weight_hidden: Tensor<2>,
    /// `m`, the mask on the recurrent input, constant over the sequence and scaled by `1 / (1 − p)`: `[1, batch_size,
    /// d_hidden]` for all gates together or `[4, batch_size, d_hidden]` for each its own. Not differentiated.
    pub mask: Option<Tensor<3>>,
    /// State before the first step.
    pub state: LstmState,
    /// Constant added to the forget gate's pre-activation.
    pub forget_bias: f64,
}

/// Run an LSTM over a sequence, as one operation with one backward step.
///
/// On a device without a fused kernel this is [`lstm_reference`], the same in Burn's operations.
///
/// # Panics
///
/// If shapes, devices or data types do not fit each other, or the sequence is empty.
pub fn lstm_sequence(inputs: LstmInputs) -> LstmSequence {
    check(&inputs);
    if !is_cpu_or_cube(&inputs.gates.device()) {
        return lstm_reference(inputs);
    }
    let LstmInputs { gates, bias, weight_hidden, mask, state, forget_bias } = inputs;
    let [seq_length, batch_size, d_gates] = gates.dims();
    let LstmOutputs { hidden, cell, .. } = Dispatch::lstm_forward(LstmForward {
        gates: gates.into_dispatch(),
        bias: bias.into_dispatch(),
        recurrence: Recurrence {
            weight_hidden: weight_hidden.into_dispatch(),
            mask: mask.map(Tensor::into_dispatch).into(),
            hidden0: state.hidden.into_dispatch(),
        },
        cell0: state.cell.into_dispatch(),
        forget_bias,
    });
    let hidden = Tensor::<3>::from_dispatch(hidden);
    let cell = Tensor::<3>::from_dispatch(cell);
    let last = |states: &Tensor<3>| {
        states.clone().narrow(0, seq_length - 1, 1).reshape([batch_size, d_gates / 4])
    };
    let state = LstmState { hidden: last(&hidden), cell: last(&cell) };
    LstmSequence { hidden, cell, state }
}

#[track_caller]
fn check(inputs: &LstmInputs) {
    let LstmInputs { gates, bias, weight_hidden, mask, state, .. } = inputs;
    let [seq_length, batch_size, d_gates] = gates.dims();
    assert!(seq_length > 0, "{OPERATION}: the sequence is empty");
    assert!(
        d_gates > 0 && d_gates % 4 == 0,
        "{OPERATION}: `gates` has the width {d_gates}, which is no positive multiple of 4"
    );
    let d_hidden = d_gates / 4;
    check_shape(OPERATION, "bias", &bias.shape(), &[d_gates]);
    check_shape(OPERATION, "weight_hidden", &weight_hidden.shape(), &[d_hidden, d_gates]);
    let LstmState { hidden, cell } = state;
    check_shape(OPERATION, "state.hidden", &hidden.shape(), &[batch_size, d_hidden]);
    check_shape(OPERATION, "state.cell", &cell.shape(), &[batch_size, d_hidden]);
    check_alike!(OPERATION, gates, bias, weight_hidden, hidden, cell);
    if let Some(mask) = mask {
        let groups = if mask.dims()[0] == 4 { 4 } else { 1 };
        check_shape(OPERATION, "mask", &mask.shape(), &[groups, batch_size, d_hidden]);
        check_alike!(OPERATION, gates, mask);
    }
    debug_assert!(matches!(
        gates.dtype(),
        DType::F64 | DType::F32 | DType::Flex32 | DType::F16 | DType::BF16
    ));
}
