use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::{Autodiff, AutodiffBackend};

use super::{
    CrossEntropyBackend, CrossEntropyBackward, CrossEntropyForward, CrossEntropyGradients,
    CrossEntropyOutputs, CrossEntropySaved,
};
use crate::autodiff::Step;

impl<B: CrossEntropyBackward, C: CheckpointStrategy> CrossEntropyBackend for Autodiff<B, C> {
    fn cross_entropy_forward(inputs: CrossEntropyForward<Self>) -> CrossEntropyOutputs<Self> {
        let CrossEntropyForward { hidden, weight, bias, targets, tied, terms, keep, precision } =
            inputs;
        let (hidden, hidden_node) = hidden.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (bias, bias_node) = bias.into_parts();

        let nodes = [hidden_node, weight_node, bias_node];
        let step = Step::<B, C, _, _>::prepare(nodes, |saved, values_grad, _| {
            let CrossEntropyGradients { hidden, weight, bias } =
                B::cross_entropy_backward(saved, values_grad);
            [hidden, weight, bias].map(Some)
        });
        let keep = keep || step.is_tracked();
        let inputs =
            CrossEntropyForward { hidden, weight, bias, targets, tied, terms, keep, precision };
        let outputs = B::cross_entropy_forward(inputs.clone());
        let CrossEntropyOutputs { values, logits, statistics } = outputs.clone();
        CrossEntropyOutputs {
            values: step.finish(values, || CrossEntropySaved { inputs, outputs }),
            logits: logits.map(Self::from_inner),
            statistics: statistics.map(Self::from_inner),
        }
    }
}
