use anp_kernels::Kernels;
use anp_kernels::lstm::LstmState;
use anp_kernels::sru::Activation;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::dropout::apply_mask;
use crate::lstm::{BiasInit, LstmLayer, LstmLayerConfig};
use crate::nas::{NasLayer, NasLayerConfig};
use crate::rhn::{RhnLayer, RhnLayerConfig};
use crate::sru::{SruLayer, SruLayerConfig};

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
    /// Simple Recurrent Unit, first version.
    Sru {
        /// Function of the cell state.
        activation: Activation,
        /// What the bias of the highway gate starts at.
        highway_bias: f64,
    },
    /// Recurrent Highway Network.
    Rhn {
        /// Micro-steps in each time step.
        depth: usize,
        /// What the biases of the transform gates start at.
        transform_bias: f64,
    },
    /// The cell of neural architecture search, base 8.
    Nas,
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
            Self::Sru { activation, highway_bias } => {
                let config = SruLayerConfig {
                    d_input,
                    d_hidden,
                    activation,
                    highway_bias,
                    init_range,
                    kernels,
                };
                RecurrentLayer::Sru(config.init(device))
            }
            Self::Rhn { depth, transform_bias } => {
                let config = RhnLayerConfig {
                    d_input,
                    d_hidden,
                    depth,
                    transform_bias,
                    init_range,
                    kernels,
                };
                RecurrentLayer::Rhn(config.init(device))
            }
            Self::Nas => {
                let config = NasLayerConfig { d_input, d_hidden, init_range };
                RecurrentLayer::Nas(config.init(device))
            }
        }
    }

    /// Parameters of one layer, without drawing them.
    pub(crate) fn num_params(&self, [d_input, d_hidden]: [usize; 2]) -> usize {
        match *self {
            Self::Lstm { num_biases, .. } => 4 * d_hidden * (d_input + d_hidden + num_biases),
            Self::Sru { .. } => {
                let parts = if d_input == d_hidden { 3 } else { 4 };
                d_hidden * (parts * d_input + 2)
            }
            Self::Rhn { depth, .. } => 2 * d_hidden * (d_input + depth * (d_hidden + 1)),
            Self::Nas => 8 * d_hidden * (d_input + d_hidden),
        }
    }
}

/// One recurrent layer of a language model.
#[derive(Module, Debug)]
pub enum RecurrentLayer {
    /// Long Short-Term Memory.
    Lstm(LstmLayer),
    /// Simple Recurrent Unit.
    Sru(SruLayer),
    /// Recurrent Highway Network.
    Rhn(RhnLayer),
    /// The cell of neural architecture search.
    Nas(NasLayer),
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

    fn take_hidden(&mut self, kind: &str) -> Tensor<2> {
        self.hidden.take().unwrap_or_else(|| panic!("the state of {kind} has a hidden state"))
    }

    fn take_cell(&mut self, kind: &str) -> Tensor<2> {
        self.cell.take().unwrap_or_else(|| panic!("the state of {kind} has a cell state"))
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
    /// On the elements of the recurrent matrices: `[1, d_hidden, gates · d_hidden]`, or `[depth, …]` in an RHN. Not in an SRU,
    /// which has none.
    pub weight: Option<Tensor<3>>,
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
            Self::Sru(layer) => layer.d_hidden(),
            Self::Rhn(layer) => layer.bias.dims()[1] / 2,
            Self::Nas(layer) => layer.weight_hidden.dims()[0],
        }
    }

    /// Width of the input.
    pub fn d_input(&self) -> usize {
        match self {
            Self::Lstm(layer) => layer.weight_input.dims()[0],
            Self::Sru(layer) => layer.weight.dims()[0],
            Self::Rhn(layer) => layer.weight_input.dims()[0],
            Self::Nas(layer) => layer.weight_input.dims()[0],
        }
    }

    /// Its weight matrices, without the biases, each as a flat tensor.
    pub fn weights(&self) -> Vec<Tensor<1>> {
        let flat = |weight: &Param<Tensor<2>>| weight.val().reshape([-1]);
        match self {
            Self::Lstm(layer) => vec![flat(&layer.weight_input), flat(&layer.weight_hidden)],
            Self::Sru(layer) => vec![flat(&layer.weight)],
            Self::Rhn(layer) => {
                vec![flat(&layer.weight_input), layer.weight_hidden.val().reshape([-1])]
            }
            Self::Nas(layer) => vec![flat(&layer.weight_input), flat(&layer.weight_hidden)],
        }
    }

    /// Shape of a mask on the recurrent matrices: matrices, rows, columns; `None` where there are none.
    pub(crate) fn recurrent_weight_dims(&self) -> Option<[usize; 3]> {
        let of_one = |[rows, columns]: [usize; 2]| Some([1, rows, columns]);
        match self {
            Self::Lstm(layer) => of_one(layer.weight_hidden.dims()),
            Self::Sru(_) => None,
            Self::Rhn(layer) => Some(layer.weight_hidden.dims()),
            Self::Nas(layer) => of_one(layer.weight_hidden.dims()),
        }
    }

    /// Whether there are cell states that can be penalised.
    pub fn has_cells(&self) -> bool {
        match self {
            Self::Lstm(_) | Self::Sru(_) | Self::Nas(_) => true,
            Self::Rhn(_) => false,
        }
    }

    /// The state before a text: zero.
    pub fn zero_state(&self, batch_size: usize, device: &Device) -> LayerState {
        let zeros = || Some(Tensor::zeros([batch_size, self.d_hidden()], device));
        match self {
            Self::Lstm(_) | Self::Nas(_) => LayerState { hidden: zeros(), cell: zeros() },
            Self::Sru(_) => LayerState { hidden: None, cell: zeros() },
            Self::Rhn(_) => LayerState { hidden: zeros(), cell: None },
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
    /// If the state is that of another kind of layer, a shape does not fit, or an SRU is given a mask for a recurrent matrix.
    pub fn forward(
        &self,
        input: Tensor<3>,
        mut state: LayerState,
        masks: LayerMasks,
    ) -> LayerOutput {
        let LayerMasks { product, recurrent, weight } = masks;
        match self {
            Self::Lstm(layer) => {
                let state = LstmState {
                    hidden: state.take_hidden("an LSTM"),
                    cell: state.take_cell("an LSTM"),
                };
                let sequence = layer.forward(input, state, product, recurrent, weight);
                LayerOutput {
                    hidden: sequence.hidden,
                    cell: Some(sequence.cell),
                    state: sequence.state.into(),
                }
            }
            Self::Sru(layer) => {
                assert!(weight.is_none(), "an SRU has no recurrent matrix to mask");
                let cell = state.take_cell("an SRU");
                let sequence = layer.forward(input, cell, product, recurrent);
                LayerOutput {
                    hidden: sequence.hidden,
                    cell: Some(sequence.cell),
                    state: LayerState { hidden: None, cell: Some(sequence.last) },
                }
            }
            Self::Rhn(layer) => {
                let input = apply_mask(input, product.as_ref());
                let hidden = layer.forward(input, state.take_hidden("an RHN"), recurrent, weight);
                let [seq_length, batch_size, d_hidden] = hidden.dims();
                let last = hidden.clone().narrow(0, seq_length - 1, 1);
                let last = last.reshape([batch_size, d_hidden]);
                let state = LayerState { hidden: Some(last), cell: None };
                LayerOutput { hidden, cell: None, state }
            }
            Self::Nas(layer) => {
                let state = LstmState {
                    hidden: state.take_hidden("a NAS cell"),
                    cell: state.take_cell("a NAS cell"),
                };
                let input = apply_mask(input, product.as_ref());
                let sequence = layer.forward(input, state, recurrent, weight);
                LayerOutput {
                    hidden: sequence.hidden,
                    cell: Some(sequence.cell),
                    state: sequence.state.into(),
                }
            }
        }
    }
}

impl From<LstmState> for LayerState {
    fn from(state: LstmState) -> Self {
        Self { hidden: Some(state.hidden), cell: Some(state.cell) }
    }
}
