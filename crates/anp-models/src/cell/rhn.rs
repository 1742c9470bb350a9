use anp_kernels::nn::{LayerMasks, Rhn, RhnConfig, RhnState};
use burn::config::Config;
use burn::tensor::{Device, Tensor};

use super::traits::{Cell, CellTraits, LayerInit, LayerOutput, LayerState, ParamCount};
use crate::init::within;

/// Configuration of layers of a Recurrent Highway Network.
#[derive(Config, Debug, PartialEq)]
pub struct RhnCellConfig {
    /// Micro-steps in each time step.
    pub depth: usize,
    /// What the biases of the transform gates start at; the others start like the weights.
    #[config(default = "-2.0")]
    pub transform_bias: f64,
}

impl Cell for Rhn {
    type Config = RhnCellConfig;

    const TRAITS: CellTraits =
        CellTraits { carries_hidden: true, has_cells: false, input_masks: 1, recurrent_masks: 2 };

    fn param_count(config: &RhnCellConfig, [d_input, d_hidden]: [usize; 2]) -> ParamCount {
        let (depth, d_gates) = (config.depth, 2 * d_hidden);
        ParamCount { weights: d_gates * (d_input + depth * d_hidden), biases: depth * d_gates }
    }

    fn init(config: &RhnCellConfig, layer: LayerInit, device: &Device) -> Self {
        RhnConfig::new(layer.d_input, layer.d_hidden, config.depth)
            .with_batch_first(false)
            .with_initializer(within(layer.range))
            .with_transform_bias(config.transform_bias)
            .with_kernels(layer.kernels)
            .with_precision(layer.precision)
            .init(device)
    }

    fn dims(&self) -> [usize; 2] {
        self.dims()
    }

    fn weights(&self) -> (Tensor<2>, Option<Tensor<3>>) {
        (self.weight_input.val(), Some(self.weight_hidden.val()))
    }

    fn forward(&self, input: Tensor<3>, state: LayerState, masks: LayerMasks) -> LayerOutput {
        let state = RhnState { hidden: state.hidden.expect("an RHN carries hidden states") };
        let (hidden, state) = self.forward_masked(input, Some(state), Some(masks));
        let state = LayerState { hidden: Some(state.hidden), cell: None };
        LayerOutput { hidden, cell: None, state }
    }
}
