//! States of a layer, and the layout of sequences.

use burn::tensor::Tensor;

/// States of one layer at every step of a sequence.
#[derive(Debug, Clone)]
pub struct LayerStates<S> {
    /// `h_t`: `[batch_size, seq_length, d_hidden]` if the layer is `batch_first`, else
    /// `[seq_length, batch_size, d_hidden]`.
    pub hidden: Tensor<3>,
    /// `c_t`, in the shape of `hidden`.
    pub cell: Tensor<3>,
    /// State after the last step, still part of the graph.
    pub state: S,
}

impl<S> LayerStates<S> {
    /// In the other of the two layouts if `batch_first`.
    pub(super) fn swap_if(self, batch_first: bool) -> Self {
        let [hidden, cell] = [self.hidden, self.cell].map(|states| swap_if(batch_first, states));
        Self { hidden, cell, state: self.state }
    }
}

/// Change between `[batch_size, seq_length, ..]` and `[seq_length, batch_size, ..]` if
/// `batch_first`.
pub(super) fn swap_if(batch_first: bool, sequence: Tensor<3>) -> Tensor<3> {
    if batch_first { sequence.swap_dims(0, 1) } else { sequence }
}

/// `input` as `[seq_length, batch_size, d_input]`, once its width has been checked.
#[track_caller]
pub(super) fn time_first(
    layer: &str,
    input: Tensor<3>,
    batch_first: bool,
    d_input: usize,
) -> Tensor<3> {
    let width = input.dims()[2];
    assert_eq!(width, d_input, "the {layer}'s input has the width {width}, not {d_input}");
    swap_if(batch_first, input)
}
