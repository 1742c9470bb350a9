use anp_kernels::Kernels;
use anp_kernels::lstm::LstmState;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::lstm::{BiasInit, LstmLayer, LstmLayerConfig};

/// Kind of the recurrent layers, with what only that kind has.
#[derive(Debug, Clone, PartialEq)]
pub enum CellConfig {
    /// Long Short-Term Memory.
    Lstm {
        /// Constant added to the forget gate's pre-activation.
        forget_bias: f64,
        /// Bias vectors a layer, 1 or 2.
        num_biases: usize,
        /// Initial values of the biases.
        bias_init: BiasInit,
    },
}

impl CellConfig {
    /// Draw the parameters of one layer.
    pub(crate) fn init(
        &self,
        [d_input, d_hidden]: [usize; 2],
        init_range: f64,
        kernels: Kernels,
        device: &Device,
    ) -> RecurrentLayer {
        match *self {
            Self::Lstm { forget_bias, num_biases, bias_init } => {
                let config = LstmLayerConfig {
                    d_input,
                    d_hidden,
                    num_biases,
                    forget_bias,
                    bias_init,
                    init_range,
                    kernels,
                };
                RecurrentLayer::Lstm(config.init(device))
            }
        }
    }
}

/// One recurrent layer of a language model.
#[derive(Module, Debug)]
pub enum RecurrentLayer {
    /// Long Short-Term Memory.
    Lstm(LstmLayer),
}

/// What a layer carries from step to step: as much of it as its kind has, `[batch_size, d_hidden]` each.
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

    fn both(self, kind: &str) -> [Tensor<2>; 2] {
        match self {
            Self { hidden: Some(hidden), cell: Some(cell) } => [hidden, cell],
            _ => panic!("the state of {kind} is a hidden and a cell state, but one is missing"),
        }
    }
}

/// The masks inside one layer, constant over the window and scaled by `1 / (1 − p)`; `None` leaves the place alone.
#[derive(Debug, Clone, Default)]
pub struct LayerMasks {
    /// On the layer's input, in its product only: `[1, batch_size, d_input]`, or `[4, …]` for each gate of an LSTM its own.
    pub product: Option<Tensor<3>>,
    /// On what goes from step to step: `[1, batch_size, d_hidden]`, or `[4, …]` (LSTM) or `[2, …]` (RHN) for each gate its own.
    /// In an SRU it is on the activation of the cell.
    pub recurrent: Option<Tensor<3>>,
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

impl RecurrentLayer {
    /// Number of units.
    pub fn d_hidden(&self) -> usize {
        match self {
            Self::Lstm(layer) => layer.weight_hidden.dims()[0],
        }
    }

    /// Width of the input.
    pub fn d_input(&self) -> usize {
        match self {
            Self::Lstm(layer) => layer.weight_input.dims()[0],
        }
    }

    /// Whether there are cell states that can be penalised.
    pub fn has_cells(&self) -> bool {
        match self {
            Self::Lstm(_) => true,
        }
    }

    /// The state before a text: zero.
    pub fn zero_state(&self, batch_size: usize, device: &Device) -> LayerState {
        let zeros = || Some(Tensor::zeros([batch_size, self.d_hidden()], device));
        match self {
            Self::Lstm(_) => LayerState { hidden: zeros(), cell: zeros() },
        }
    }

    /// Run over a window.
    ///
    /// # Shapes
    ///
    /// - `input`: `[seq_length, batch_size, d_input]`
    ///
    /// # Panics
    ///
    /// If the state is that of another kind of layer, or a shape does not fit.
    pub fn forward(&self, input: Tensor<3>, state: LayerState, masks: LayerMasks) -> LayerOutput {
        match self {
            Self::Lstm(layer) => {
                let [hidden, cell] = state.both("an LSTM");
                let state = LstmState { hidden, cell };
                let sequence = layer.forward(input, state, masks.recurrent);
                let LstmState { hidden, cell } = sequence.state;
                LayerOutput {
                    hidden: sequence.hidden,
                    cell: Some(sequence.cell),
                    state: LayerState { hidden: Some(hidden), cell: Some(cell) },
                }
            }
        }
    }
}
