use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::{Autodiff, AutodiffBackend};

use super::{RhnBackend, RhnBackward, RhnForward, RhnGradients, RhnOutputs, RhnSaved};
use crate::autodiff::Step;
use crate::recurrence::Recurrence;

impl<B: RhnBackward, C: CheckpointStrategy> RhnBackend for Autodiff<B, C> {
    fn rhn_forward(inputs: RhnForward<Self>) -> RhnOutputs<Self> {
        let RhnForward { gates, bias, recurrence } = inputs;
        let (gates, gates_node) = gates.into_parts();
        let (bias, bias_node) = bias.into_parts();
        let (recurrence, [weight_node, hidden0_node]) = Recurrence::from_autodiff(recurrence);

        let nodes = [gates_node, bias_node, weight_node, hidden0_node];
        let step = Step::<B, C, _, _>::prepare(nodes, |saved, hidden_grad, _| {
            let RhnGradients { gates, bias, weight_hidden, hidden0 } =
                B::rhn_backward(saved, hidden_grad);
            [gates, bias, weight_hidden, hidden0].map(Some)
        });
        let inputs = RhnForward { gates, bias, recurrence: recurrence.clone() };
        let outputs = B::rhn_forward(inputs);
        let RhnOutputs { hidden, activated, inner } = outputs.clone();
        RhnOutputs {
            hidden: step.finish(hidden, || RhnSaved { recurrence, outputs }),
            activated: Self::from_inner(activated),
            inner: inner.map(Self::from_inner),
        }
    }
}
