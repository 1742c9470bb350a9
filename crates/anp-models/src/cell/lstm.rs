use anp_kernels::nn::{LayerMasks, LayerStates, Lstm, LstmConfig, LstmState};
use burn::config::Config;
use burn::tensor::{Device, Tensor};

use super::traits::{Cell, CellTraits, LayerInit, LayerOutput, LayerState, ParamCount};
use crate::init::{BiasInit, within};

/// Configuration of LSTM layers.
#[derive(Config, Debug, PartialEq)]
pub struct LstmCellConfig {
    /// Constant added to the forget gate's pre-activation; not a parameter.
    #[config(default = 0.0)]
    pub forget_bias: f64,
    /// Bias vectors per layer: 1, or 2 (one with the input product and one with the recurrent
    /// product, as in `torch.nn.LSTM`; they add up, so each gradient step moves their sum twice as
    /// far).
    #[config(default = 1)]
    pub num_biases: usize,
    /// Initial values of the biases.
    #[config(default = "BiasInit::Zeros")]
    pub bias_init: BiasInit,
}

impl Cell for Lstm {
    type Config = LstmCellConfig;

    const TRAITS: CellTraits =
        CellTraits { carries_hidden: true, has_cells: true, input_masks: 4, recurrent_masks: 4 };

    fn param_count(config: &LstmCellConfig, [d_input, d_hidden]: [usize; 2]) -> ParamCount {
        let d_gates = 4 * d_hidden;
        ParamCount { weights: d_gates * (d_input + d_hidden), biases: d_gates * config.num_biases }
    }

    fn init(config: &LstmCellConfig, layer: LayerInit, device: &Device) -> Self {
        LstmConfig::new(layer.d_input, layer.d_hidden, true)
            .with_batch_first(false)
            .with_initializer(within(layer.range))
            .with_bias_initializer(Some(config.bias_init.initializer(layer.range)))
            .with_num_biases(config.num_biases)
            .with_forget_bias(config.forget_bias)
            .with_kernels(layer.kernels)
            .with_precision(layer.precision)
            .init(device)
    }

    fn dims(&self) -> [usize; 2] {
        self.dims()
    }

    fn weights(&self) -> (Tensor<2>, Option<Tensor<3>>) {
        (self.weight_input.val(), Some(self.weight_hidden.val().unsqueeze()))
    }

    fn forward(&self, input: Tensor<3>, state: LayerState, masks: LayerMasks) -> LayerOutput {
        let state = LstmState {
            hidden: state.hidden.expect("an LSTM carries hidden states"),
            cell: state.cell.expect("an LSTM carries cell states"),
        };
        let LayerStates { hidden, cell, state } =
            self.forward_states(input, Some(state), Some(masks));
        LayerOutput {
            hidden,
            cell: Some(cell),
            state: LayerState { hidden: Some(state.hidden), cell: Some(state.cell) },
        }
    }
}
