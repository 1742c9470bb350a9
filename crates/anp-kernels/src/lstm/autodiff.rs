use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::{Autodiff, AutodiffBackend};

use super::{LstmBackend, LstmBackward, LstmForward, LstmGradients, LstmOutputs, LstmSaved};
use crate::autodiff::Step;
use crate::auxiliary_output::AuxiliaryGradient;
use crate::recurrence::Recurrence;

impl<B: LstmBackward, C: CheckpointStrategy> LstmBackend for Autodiff<B, C> {
    fn lstm_forward(inputs: LstmForward<Self>) -> LstmOutputs<Self> {
        let LstmForward { gates, bias, recurrence, cell0, forget_bias } = inputs;
        let (gates, gates_node) = gates.into_parts();
        let (bias, bias_node) = bias.into_parts();
        let (recurrence, [weight_node, hidden0_node]) = Recurrence::from_autodiff(recurrence);
        let (cell0, cell0_node) = cell0.into_parts();

        let nodes = [gates_node, bias_node, weight_node, hidden0_node, cell0_node];
        let step = Step::<B, C, _, _>::prepare(nodes, |(saved, cell_grad), hidden_grad, _| {
            let cell_grad: AuxiliaryGradient<B> = cell_grad;
            let LstmGradients { gates, bias, weight_hidden, hidden0, cell0 } =
                B::lstm_backward(saved, hidden_grad, cell_grad.take().into());
            [gates, bias, weight_hidden, hidden0, cell0].map(Some)
        });
        let (kept, kept_cell0) = (recurrence.clone(), cell0.clone());
        let outputs = B::lstm_forward(LstmForward { gates, bias, recurrence, cell0, forget_bias });
        let LstmOutputs { hidden, cell, activated } = outputs.clone();
        let cell_grad = AuxiliaryGradient::new();
        let hidden = step.finish(hidden, || {
            let saved = LstmSaved { recurrence: kept, cell0: kept_cell0, outputs };
            (saved, cell_grad.clone())
        });
        let cell = cell_grad.attach::<C>(&hidden, cell);
        LstmOutputs { hidden, cell, activated: Self::from_inner(activated) }
    }
}
