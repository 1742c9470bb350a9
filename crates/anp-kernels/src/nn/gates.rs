//! What recurrent layers do to the columns of a weight, which belong to several gates side by side.

use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use crate::kernels::Kernels;
use crate::precision::MatmulPrecision;

/// Draw a parameter of `num_gates` gates, which lie side by side in the last dimension.
///
/// An initializer sees one gate: its fans are those of a gate, and so are the columns that it makes
/// orthogonal. All others draw each element by itself, so they draw the gates at once.
pub(super) fn draw<const D: usize>(
    initializer: &Initializer,
    shape: [usize; D],
    num_gates: usize,
    fan_in: usize,
    device: &Device,
) -> Tensor<D> {
    let width = shape[D - 1] / num_gates;
    let fans = (Some(fan_in), Some(width));
    if D == 1 || !matches!(initializer, Initializer::Orthogonal { .. }) {
        // At once: Burn would draw it where it is first looked at, in whatever order that is.
        return initializer.init_with(shape, fans.0, fans.1, device).into_value().detach();
    }
    let rows = shape[D - 2];
    let gate = |_| initializer.init_with([rows, width], fans.0, fans.1, device).into_value();
    let matrix = |_| Tensor::<2>::cat((0..num_gates).map(gate).collect(), 1);
    let num_matrices = shape[..D - 2].iter().product();
    Tensor::cat((0..num_matrices).map(matrix).collect(), 0).reshape(shape).detach()
}

/// `(input ⊙ mask) weight` at every step, with one mask for all gates or one per gate.
///
/// # Shapes
///
/// - `input`: `[seq_length, batch_size, d_input]`
/// - `weight`: `[d_input, num_gates · d_hidden]`
/// - `mask`: `[1 or num_gates, batch_size, d_input]`
/// - returns: `[seq_length, batch_size, num_gates · d_hidden]`
#[track_caller]
pub(super) fn project(
    kernels: Kernels,
    input: Tensor<3>,
    weight: Tensor<2>,
    mask: Option<Tensor<3>>,
    num_gates: usize,
    precision: MatmulPrecision,
) -> Tensor<3> {
    let [seq_length, batch_size, d_input] = input.dims();
    let product = |input: Tensor<3>, weight: Tensor<2>| {
        let [_, width] = weight.dims();
        let input = input.reshape([seq_length * batch_size, d_input]);
        kernels.matmul(input, weight, precision).reshape([seq_length, batch_size, width])
    };
    let Some(mask) = mask else { return product(input, weight) };
    let num_masks = mask.dims()[0];
    if num_masks == 1 {
        return product(input * mask, weight);
    }
    assert_eq!(num_masks, num_gates, "the masks of a layer's input are 1 or as many as its gates");
    let by_gate = mask.chunk(num_gates, 0).into_iter().zip(weight.chunk(num_gates, 1));
    let products = by_gate.map(|(mask, weight)| product(input.clone() * mask, weight));
    Tensor::cat(products.collect(), 2)
}
