//! What a kind of recurrent layer implements, and what it takes and returns.

use anp_kernels::nn::LayerMasks;
use anp_kernels::{Kernels, MatmulPrecision};
use burn::module::Module;
use burn::tensor::{Device, Tensor};

/// A kind of recurrent layer, implemented by the layer itself. Sequences are time-first.
pub trait Cell: Module {
    /// What only this kind of layer has to be told.
    type Config;

    /// What is known before a layer is drawn.
    const TRAITS: CellTraits;

    /// Parameters of a layer with these widths of input and output.
    fn param_count(config: &Self::Config, dims: [usize; 2]) -> ParamCount;

    /// Draw the parameters on `device`, from its random number generator.
    ///
    /// # Panics
    ///
    /// If a value is outside of its range.
    fn init(config: &Self::Config, layer: LayerInit, device: &Device) -> Self;

    /// Widths of input and output.
    fn dims(&self) -> [usize; 2];

    /// The weight matrix on the input, and those on the recurrence: matrices, rows, columns.
    fn weights(&self) -> (Tensor<2>, Option<Tensor<3>>);

    /// Run over a window; see [`RecurrentLayer::forward`](super::RecurrentLayer::forward).
    fn forward(&self, input: Tensor<3>, state: LayerState, masks: LayerMasks) -> LayerOutput;
}

/// What is known of a kind of layer before one is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellTraits {
    /// Whether hidden states go from step to step, through recurrent matrices. If not, only cell
    /// states do, and a recurrent mask is on the activation of the cell, in all layers of a model
    /// but the last.
    pub carries_hidden: bool,
    /// Whether there are cell states that can be penalised.
    pub has_cells: bool,
    /// Gates that can each have a mask of their own on the layer's input; 1 if they share one.
    pub input_masks: usize,
    /// The same on the recurrence.
    pub recurrent_masks: usize,
}

/// How many parameters a layer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParamCount {
    /// Elements of the weight matrices: multiply-adds of one step.
    pub weights: usize,
    /// Elements of the biases.
    pub biases: usize,
}

/// What every kind of layer is drawn from.
#[derive(Debug, Clone, Copy)]
pub struct LayerInit {
    /// Width of the input.
    pub d_input: usize,
    /// Number of units.
    pub d_hidden: usize,
    /// Weights start uniform in `[-range, range]`.
    pub range: f64,
    /// How the layer is computed.
    pub kernels: Kernels,
    /// Of the matrix products.
    pub precision: MatmulPrecision,
}

/// What a layer carries from step to step: as much of it as its kind has, `[batch_size, d_hidden]`
/// each.
#[derive(Debug, Clone, Default)]
pub struct LayerState {
    /// `h`: LSTM, NAS cell, RHN.
    pub hidden: Option<Tensor<2>>,
    /// `c`: LSTM, NAS cell, SRU.
    pub cell: Option<Tensor<2>>,
}

impl LayerState {
    /// The same values, cut from the graph that made them.
    #[must_use]
    pub fn detach(self) -> Self {
        Self { hidden: self.hidden.map(Tensor::detach), cell: self.cell.map(Tensor::detach) }
    }
}

/// What one layer makes of a window.
#[derive(Debug, Clone)]
pub struct LayerOutput {
    /// `h_t`: `[seq_length, batch_size, d_hidden]`.
    pub hidden: Tensor<3>,
    /// `c_t`, if the layer has cells: `[seq_length, batch_size, d_hidden]`.
    pub cell: Option<Tensor<3>>,
    /// State after the window, still part of the graph.
    pub state: LayerState,
}
