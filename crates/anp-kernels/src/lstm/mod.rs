//! A Long Short-Term Memory over a sequence.
//!
//! ```text
//! i, f, g, o = split(gates_t + b + (h_{t−1} ⊙ m) W_h)
//! c_t = σ(f + forget_bias) ⊙ c_{t−1} + σ(i) ⊙ tanh(g)
//! h_t = σ(o) ⊙ tanh(c_t)
//! ```
//!
//! Gates are in the order input, forget, cell, output, as in PyTorch. Weights are `[d_in, 4 ·
//! d_hidden]`, the transpose of PyTorch's.

mod autodiff;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod cpu;
#[cfg(feature = "cube")]
mod cube;
mod inputs;
mod ops;
mod reference;

use burn::backend::Dispatch;
use burn::tensor::{DType, Tensor};
pub use inputs::{LstmInputs, LstmSequence, LstmState};
pub use ops::{LstmBackend, LstmBackward, LstmForward, LstmGradients, LstmOutputs, LstmSaved};
pub use reference::lstm_sequence as lstm_reference;

use crate::backend::{check_alike, check_shape, has_kernel};
pub use crate::recurrence::Recurrence;

const OPERATION: &str = "lstm_sequence";

/// Run an LSTM over a sequence, as one operation with one backward step.
///
/// On a device without a kernel, this is [`lstm_reference`], the same in Burn's operations.
///
/// # Panics
///
/// If shapes, devices or data types do not match, or the sequence is empty.
pub fn lstm_sequence(inputs: LstmInputs) -> LstmSequence {
    check(&inputs);
    if !has_kernel(&inputs.gates.device(), inputs.precision) {
        return lstm_reference(inputs);
    }
    let LstmInputs { gates, bias, weight_hidden, mask, state, forget_bias, precision } = inputs;
    let [seq_length, batch_size, d_gates] = gates.dims();
    let LstmOutputs { hidden, cell, .. } = Dispatch::lstm_forward(LstmForward {
        gates: gates.into_dispatch(),
        bias: bias.into_dispatch(),
        recurrence: Recurrence {
            weight_hidden: weight_hidden.into_dispatch(),
            mask: mask.map(Tensor::into_dispatch).into(),
            hidden0: state.hidden.into_dispatch(),
            precision,
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
