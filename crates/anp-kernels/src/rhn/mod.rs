//! A Recurrent Highway Network over a sequence: each step consists of several micro-steps.
//!
//! ```text
//! s_{t,0} = y_{t−1}
//! h, u    = split([l = 1] x_t W + (s_{t,l−1} ⊙ m) R_l + b_l)        l = 1 … L
//! s_{t,l} = tanh(h) ⊙ σ(u) + s_{t,l−1} ⊙ (1 − σ(u))
//! y_t     = s_{t,L}
//! ```
//!
//! [Zilly et al., 2016](https://arxiv.org/abs/1607.03474), with the carry gate coupled to the
//! transform gate.

mod autodiff;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod cpu;
#[cfg(feature = "cube")]
mod cube;
mod inputs;
mod ops;
mod reference;

use burn::backend::Dispatch;
use burn::tensor::Tensor;
pub use inputs::RhnInputs;
pub use ops::{RhnBackend, RhnBackward, RhnForward, RhnGradients, RhnOutputs, RhnSaved};
pub use reference::rhn_sequence as rhn_reference;

use crate::backend::{check_alike, check_shape, has_kernel};
pub use crate::recurrence::Recurrence;

const OPERATION: &str = "rhn_sequence";

/// Run a Recurrent Highway Network over a sequence, as one operation with one backward step.
///
/// Returns `y_t` of all steps, `[seq_length, batch_size, d_hidden]`. On a device without a kernel,
/// this is [`rhn_reference`], the same in Burn's operations.
///
/// # Panics
///
/// If shapes, devices or data types do not match, or a size is zero.
pub fn rhn_sequence(inputs: RhnInputs) -> Tensor<3> {
    check(&inputs);
    if !has_kernel(&inputs.gates.device(), inputs.precision) {
        return rhn_reference(inputs);
    }
    let RhnInputs { gates, weight_hidden, bias, mask, state, precision } = inputs;
    let RhnOutputs { hidden, .. } = Dispatch::rhn_forward(RhnForward {
        gates: gates.into_dispatch(),
        bias: bias.into_dispatch(),
        recurrence: Recurrence {
            weight_hidden: weight_hidden.into_dispatch(),
            mask: mask.map(Tensor::into_dispatch).into(),
            hidden0: state.into_dispatch(),
            precision,
        },
    });
    Tensor::from_dispatch(hidden)
}

#[track_caller]
fn check(inputs: &RhnInputs) {
    let RhnInputs { gates, weight_hidden, bias, mask, state, .. } = inputs;
    let [seq_length, batch_size, d_gates] = gates.dims();
    let [depth, d_hidden, _] = weight_hidden.dims();
    assert!(
        seq_length * batch_size * depth * d_hidden > 0,
        "{OPERATION}: no size may be zero: `gates` has the shape {:?}, `weight_hidden` {:?}",
        gates.dims(),
        weight_hidden.dims()
    );
    assert!(
        d_gates == 2 * d_hidden,
        "{OPERATION}: `gates` has the width {d_gates}, but 2 · {d_hidden} is needed"
    );
    let weight = [depth, d_hidden, 2 * d_hidden];
    check_shape(OPERATION, "weight_hidden", &weight_hidden.shape(), &weight);
    check_shape(OPERATION, "bias", &bias.shape(), &[depth, 2 * d_hidden]);
    check_shape(OPERATION, "state", &state.shape(), &[batch_size, d_hidden]);
    check_alike!(OPERATION, gates, weight_hidden, bias, state);
    if let Some(mask) = mask {
        let groups = if mask.dims()[0] == 2 { 2 } else { 1 };
        check_shape(OPERATION, "mask", &mask.shape(), &[groups, batch_size, d_hidden]);
        check_alike!(OPERATION, gates, mask);
    }
}
