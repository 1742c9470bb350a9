//! One recurrent layer of any kind.

use anp_kernels::nn::{LayerMasks, Lstm, Rhn, Sru};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::lstm::LstmCellConfig;
use super::nas::{Nas, NasCellConfig};
use super::rhn::RhnCellConfig;
use super::sru::SruCellConfig;
use super::traits::{Cell, CellTraits, LayerInit, LayerOutput, LayerState, ParamCount};

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

            /// The weight matrices, without the biases: the one on the input, and those on the
            /// recurrence (matrices, rows, columns) where there are some.
            pub fn weights(&self) -> (Tensor<2>, Option<Tensor<3>>) {
                match self { $(Self::$name(layer) => layer.weights(),)* }
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
