//! Recurrent layers of a language model, whatever their kind.
//!
//! A kind of layer is a file here that implements [`Cell`], and a line of `cells!` below.

mod lstm;
mod nas;
mod rhn;
mod sru;

use anp_kernels::Kernels;
use anp_kernels::nn::{LayerMasks, Lstm, Rhn, Sru};
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

pub use lstm::LstmCellConfig;
pub use nas::{Nas, NasCellConfig};
pub use rhn::RhnCellConfig;
pub use sru::SruCellConfig;

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

    /// The weight matrices, without the biases, each as a flat tensor.
    fn weights(&self) -> Vec<Tensor<1>>;

    /// Shape of a mask on the recurrent matrices: matrices, rows, columns; `None` where there are
    /// none.
    fn recurrent_weight_dims(&self) -> Option<[usize; 3]>;

    /// Run over a window; see [`RecurrentLayer::forward`].
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

/// Define both enums over all kinds of layers: their configurations, and the layers.
macro_rules! cells {
    ($($(#[$doc:meta])* $name:ident($config:ident) => $layer:ident,)*) => {
        /// Kind of the recurrent layers, with what only that kind has.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum CellConfig { $($(#[$doc])* $name($config),)* }

        /// One recurrent layer of a language model.
        #[derive(Module, Debug)]
        pub enum RecurrentLayer { $($(#[$doc])* $name($layer),)* }

        impl CellConfig {
            /// What is known of these layers before one is drawn.
            pub fn traits(&self) -> CellTraits {
                match self { $(Self::$name(_) => $layer::TRAITS,)* }
            }

            /// Parameters of one layer with these widths of input and output, without drawing them.
            pub fn param_count(&self, dims: [usize; 2]) -> ParamCount {
                match self {
                    $(Self::$name(config) => $layer::param_count(config, dims),)*
                }
            }

            /// Draw the parameters of one layer on `device`, from its random number generator.
            ///
            /// # Panics
            ///
            /// If a value is outside of its range.
            pub fn init(&self, layer: LayerInit, device: &Device) -> RecurrentLayer {
                match self {
                    $(Self::$name(config) => {
                        RecurrentLayer::$name(<$layer as Cell>::init(config, layer, device))
                    })*
                }
            }
        }

        impl RecurrentLayer {
            /// What is known of all layers of this kind.
            pub fn traits(&self) -> CellTraits {
                match self { $(Self::$name(_) => $layer::TRAITS,)* }
            }

            /// Widths of input and output.
            pub fn dims(&self) -> [usize; 2] {
                match self { $(Self::$name(layer) => Cell::dims(layer),)* }
            }

            /// The weight matrices, without the biases, each as a flat tensor.
            pub fn weights(&self) -> Vec<Tensor<1>> {
                match self { $(Self::$name(layer) => layer.weights(),)* }
            }

            /// Shape of a mask on the recurrent matrices: matrices, rows, columns; `None` where
            /// there are none.
            pub fn recurrent_weight_dims(&self) -> Option<[usize; 3]> {
                match self { $(Self::$name(layer) => layer.recurrent_weight_dims(),)* }
            }

            /// Run over a window.
            ///
            /// # Shapes
            ///
            /// - `input`: `[seq_length, batch_size, d_input]`
            ///
            /// # Panics
            ///
            /// If the state is that of another kind of layer, a shape does not fit, or an SRU is
            /// given a mask for a recurrent matrix.
            pub fn forward(
                &self,
                input: Tensor<3>,
                state: LayerState,
                masks: LayerMasks,
            ) -> LayerOutput {
                match self { $(Self::$name(layer) => Cell::forward(layer, input, state, masks),)* }
            }
        }
    };
}

cells! {
    /// Long Short-Term Memory.
    Lstm(LstmCellConfig) => Lstm,
    /// Simple Recurrent Unit, first version.
    Sru(SruCellConfig) => Sru,
    /// Recurrent Highway Network.
    Rhn(RhnCellConfig) => Rhn,
    /// The cell of neural architecture search, base 8.
    Nas(NasCellConfig) => Nas,
}

impl Default for CellConfig {
    /// An LSTM.
    fn default() -> Self {
        Self::Lstm(LstmCellConfig::new())
    }
}

impl RecurrentLayer {
    /// The state before a text: zero.
    pub fn zero_state(&self, batch_size: usize, device: &Device) -> LayerState {
        let [_, d_hidden] = self.dims();
        let zeros = |exists: bool| exists.then(|| Tensor::zeros([batch_size, d_hidden], device));
        let CellTraits { carries_hidden, has_cells, .. } = self.traits();
        LayerState { hidden: zeros(carries_hidden), cell: zeros(has_cells) }
    }
}

/// A weight as a flat tensor.
fn flat<const D: usize>(weight: &Param<Tensor<D>>) -> Tensor<1> {
    weight.val().reshape([-1])
}
