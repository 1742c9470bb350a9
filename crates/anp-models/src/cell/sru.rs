use anp_kernels::nn::{LayerMasks, LayerStates, Sru, SruConfig, SruState};
use anp_kernels::sru::Activation;
use burn::config::Config;
use burn::tensor::{Device, Tensor};

use super::traits::{Cell, CellTraits, LayerInit, LayerOutput, LayerState, ParamCount};
use crate::init::within;

/// Configuration of SRU layers.
#[derive(Config, Debug, PartialEq)]
pub struct SruCellConfig {
    /// Function of the cell state.
    #[config(default = "Activation::Identity")]
    pub activation: Activation,
    /// What the bias of the highway gate starts at; that of the forget gate starts at zero.
    #[config(default = 0.0)]
    pub highway_bias: f64,
}

impl Cell for Sru {
    type Config = SruCellConfig;

    const TRAITS: CellTraits =
        CellTraits { carries_hidden: false, has_cells: true, input_masks: 1, recurrent_masks: 1 };

    fn param_count(_: &SruCellConfig, [d_input, d_hidden]: [usize; 2]) -> ParamCount {
        let parts = SruConfig::new(d_input, d_hidden).num_parts();
        ParamCount { weights: d_input * parts * d_hidden, biases: 2 * d_hidden }
    }

    fn init(config: &SruCellConfig, layer: LayerInit, device: &Device) -> Self {
        SruConfig::new(layer.d_input, layer.d_hidden)
            .with_batch_first(false)
            .with_initializer(within(layer.range))
            .with_activation(config.activation)
            .with_reset_bias(config.highway_bias)
            .with_kernels(layer.kernels)
            .with_precision(layer.precision)
            .init(device)
    }

    fn dims(&self) -> [usize; 2] {
        self.dims()
    }

    fn weights(&self) -> (Tensor<2>, Option<Tensor<3>>) {
        (self.weight.val(), None)
    }

    fn forward(&self, input: Tensor<3>, state: LayerState, masks: LayerMasks) -> LayerOutput {
        let state = SruState { cell: state.cell.expect("an SRU carries cell states") };
        let LayerStates { hidden, cell, state } =
            self.forward_states(input, Some(state), Some(masks));
        let state = LayerState { hidden: None, cell: Some(state.cell) };
        LayerOutput { hidden, cell: Some(cell), state }
    }
}
