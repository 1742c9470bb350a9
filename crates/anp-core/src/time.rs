//! Differences over time.

use burn::tensor::Tensor;

/// `x[t + 1] − x[t]`, one step shorter than `sequence`; `None` if that leaves nothing.
///
/// # Shapes
///
/// - `sequence`: `[batch_size, seq_length, ..]` if `batch_first`, else
///   `[seq_length, batch_size, ..]`
pub(crate) fn differences(sequence: Tensor<3>, batch_first: bool) -> Option<Tensor<3>> {
    let time = if batch_first { 1 } else { 0 };
    let seq_length = sequence.dims()[time];
    if seq_length < 2 {
        return None;
    }
    let later = sequence.clone().narrow(time, 1, seq_length - 1);
    Some(later - sequence.narrow(time, 0, seq_length - 1))
}
