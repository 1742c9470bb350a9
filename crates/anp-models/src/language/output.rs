use burn::tensor::Tensor;

use super::pointer::{PointerState, Pointing};
use crate::cell::LayerState;

/// State of every layer between two windows, first layer first.
#[derive(Debug, Clone)]
pub struct LmState {
    /// One state per layer.
    pub layers: Vec<LayerState>,
    /// What the pointer points at, if the model has one.
    pub pointer: Option<PointerState>,
}

impl LmState {
    /// The same values, cut from the graph that made them: what is carried into the next window.
    #[must_use]
    pub fn detach(self) -> Self {
        Self {
            layers: self.layers.into_iter().map(LayerState::detach).collect(),
            pointer: self.pointer.map(PointerState::detach),
        }
    }
}

/// What one window makes, by site.
#[derive(Debug, Clone)]
pub struct LmOutput {
    /// The embedding before dropout: `[seq_length, batch_size, d_embed]`.
    pub embedding: Tensor<3>,
    /// Hidden states of each layer before dropout: `[seq_length, batch_size, d_hidden]`.
    pub hidden: Vec<Tensor<3>>,
    /// Cell states of each layer that has some: `[seq_length, batch_size, d_hidden]`.
    pub cell: Vec<Option<Tensor<3>>>,
    /// Hidden states of the last layer after dropout, the decoder's input:
    /// `[seq_length, batch_size, d_output]`.
    pub dropped: Tensor<3>,
    /// Hidden states of the last layer without its noise, where it has some:
    /// `[seq_length, batch_size, d_output]`.
    pub mean: Option<Tensor<3>>,
    /// Where the tokens point, if the model has a pointer: its [`mix`](Pointing::mix) makes the
    /// loss of the softmax that of both.
    pub pointing: Option<Pointing>,
    /// State after the window, still part of the graph.
    pub state: LmState,
}
