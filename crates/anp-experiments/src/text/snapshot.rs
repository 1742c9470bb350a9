//! The contents of a language model's checkpoint.

use anp_models::{LayerState, LmState, PointerState, RecurrentLm};
use burn::module::{Module, Param, ParamId};
use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use super::averaging::Averaging;
use super::schedule::Schedule;

/// Everything except tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextState {
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Learning rate, best validation loss, decays.
    pub schedule: Schedule,
    /// State of the averaging, once it has begun.
    pub averaging: Option<Averaging>,
    pub(super) has_best: bool,
    pub(super) has_average: bool,
    pub(super) has_state: bool,
}

/// The tensors, as one module that Burn writes to one file.
#[derive(Module, Debug)]
pub struct TextTensors {
    /// Parameters after the last step.
    pub model: RecurrentLm,
    /// Parameters with the best validation loss.
    pub best: Option<RecurrentLm>,
    /// Averaged parameters, once averaging has begun.
    pub average: Option<RecurrentLm>,
    hidden: Vec<Option<Param<Tensor<2>>>>,
    cell: Vec<Option<Param<Tensor<2>>>>,
    pointer_states: Option<Param<Tensor<3>>>,
    pointer_words: Option<Param<Tensor<2, Int>>>,
}

impl TextTensors {
    pub(super) fn new(
        model: RecurrentLm,
        best: Option<RecurrentLm>,
        average: Option<RecurrentLm>,
        state: Option<LmState>,
    ) -> Self {
        let LmState { layers, pointer } =
            state.unwrap_or(LmState { layers: Vec::new(), pointer: None });
        let saved = |state: Option<Tensor<2>>| state.map(Param::from_tensor);
        let (hidden, cell) =
            layers.into_iter().map(|layer| (saved(layer.hidden), saved(layer.cell))).unzip();
        let (pointer_states, pointer_words) = pointer
            .map(|PointerState { states, words }| {
                let words = Param::initialized(ParamId::new(), words);
                (Param::from_tensor(states), words)
            })
            .unzip();
        Self { model, best, average, hidden, cell, pointer_states, pointer_words }
    }

    /// Tensors like those of a checkpoint with this state, on the device of `model`.
    pub fn like(model: &RecurrentLm, state: &TextState, batch_size: usize) -> Self {
        let copy = |is_there: bool| is_there.then(|| model.clone());
        let carried = state.has_state.then(|| model.zero_state(batch_size));
        Self::new(model.clone(), copy(state.has_best), copy(state.has_average), carried)
    }

    /// Remove and return the state that the next window starts with.
    pub(super) fn take_state(&mut self) -> Option<LmState> {
        let layers: Vec<_> = std::mem::take(&mut self.hidden)
            .into_iter()
            .zip(std::mem::take(&mut self.cell))
            .map(|(hidden, cell)| LayerState {
                hidden: hidden.map(|hidden| hidden.val().detach()),
                cell: cell.map(|cell| cell.val().detach()),
            })
            .collect();
        let pointer = self.pointer_states.take().zip(self.pointer_words.take());
        let pointer = pointer.map(|(states, words)| PointerState {
            states: states.val().detach(),
            words: words.val(),
        });
        (!layers.is_empty()).then_some(LmState { layers, pointer })
    }
}
