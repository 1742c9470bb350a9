//! The Simple Recurrent Unit, in its first version, over a sequence.
//!
//! ```text
//! x̃_t, f_t, r_t, x'_t = split(x_t W)        x'_t is the layer's input if both are equally wide
//! c_t = σ(f_t + b_f) ⊙ (c_{t−1} − x̃_t) + x̃_t
//! h_t = σ(r_t + b_r) ⊙ (g(c_t) ⊙ m − x'_t) + x'_t
//! ```
//!
//! [Lei & Zhang, 2017](https://arxiv.org/abs/1709.02755v1). The caller computes all products as
//! one; what remains is this scan.

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
pub use inputs::{Activation, SruInputs, SruSequence};
pub use ops::{SruBackend, SruBackward, SruForward, SruGradients, SruOutputs, SruSaved};
pub use reference::sru_sequence as sru_reference;

use crate::backend::{check_alike, check_shape, is_cpu_or_cube};

const OPERATION: &str = "sru_sequence";

/// Run an SRU over a sequence, as one operation with one backward step.
///
/// On a device without a kernel, this is [`sru_reference`], the same in Burn's operations.
///
/// # Panics
///
/// If shapes, devices or data types do not match, or a size is zero.
pub fn sru_sequence(inputs: SruInputs) -> SruSequence {
    check(&inputs);
    if !is_cpu_or_cube(&inputs.product.device()) {
        return sru_reference(inputs);
    }
    let SruInputs { product, highway, bias, mask, cell, activation } = inputs;
    let [seq_length, batch_size, _] = product.dims();
    let [_, d_hidden] = cell.dims();
    let SruOutputs { hidden, cell } = Dispatch::sru_forward(SruForward {
        product: product.into_dispatch(),
        highway: highway.map(Tensor::into_dispatch).into(),
        bias: bias.into_dispatch(),
        mask: mask.map(Tensor::into_dispatch).into(),
        cell0: cell.into_dispatch(),
        activation,
    });
    let cell = Tensor::<3>::from_dispatch(cell);
    let last = cell.clone().narrow(0, seq_length - 1, 1).reshape([batch_size, d_hidden]);
    SruSequence { hidden: Tensor::from_dispatch(hidden), cell, last }
}

#[track_caller]
fn check(inputs: &SruInputs) {
    let SruInputs { product, highway, bias, mask, cell, .. } = inputs;
    let [seq_length, batch_size, width] = product.dims();
    let [_, d_hidden] = cell.dims();
    assert!(
        seq_length * batch_size * d_hidden > 0,
        "{OPERATION}: no size may be zero: `product` has the shape {:?}, `cell` {:?}",
        product.dims(),
        cell.dims()
    );
    let parts = if highway.is_some() { 3 } else { 4 };
    assert!(
        width == parts * d_hidden,
        "{OPERATION}: `product` has the width {width}, but {parts} · {d_hidden} is needed"
    );
    check_shape(OPERATION, "bias", &bias.shape(), &[2 * d_hidden]);
    check_shape(OPERATION, "cell", &cell.shape(), &[batch_size, d_hidden]);
    check_alike!(OPERATION, product, bias, cell);
    if let Some(highway) = highway {
        check_shape(OPERATION, "highway", &highway.shape(), &[seq_length, batch_size, d_hidden]);
        check_alike!(OPERATION, product, highway);
    }
    if let Some(mask) = mask {
        check_shape(OPERATION, "mask", &mask.shape(), &[batch_size, d_hidden]);
        check_alike!(OPERATION, product, mask);
    }
}
