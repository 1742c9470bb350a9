use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::{Autodiff, AutodiffBackend};

use super::{
    BatchNormBackend, BatchNormBackward, BatchNormForward, BatchNormGradients, BatchNormOutputs,
    BatchNormSaved,
};
use crate::autodiff::Step;

impl<B: BatchNormBackward, C: CheckpointStrategy> BatchNormBackend for Autodiff<B, C> {
    fn batch_norm_forward(inputs: BatchNormForward<Self>) -> BatchNormOutputs<Self> {
        let BatchNormForward { input, gamma, beta, mean, variance, epsilon, relu } = inputs;
        let (input, input_node) = input.into_parts();
        let (gamma, gamma_node) = gamma.into_parts();
        let (beta, beta_node) = beta.into_parts();
        let [mean, variance] =
            [mean, variance].map(|given| given.map(|tensor| tensor.into_primitive()));
        let inputs = BatchNormForward { input, gamma, beta, mean, variance, epsilon, relu };

        let nodes = [input_node, gamma_node, beta_node];
        let step = Step::<B, C, _, _>::prepare(nodes, |saved, output_grad, _| {
            let BatchNormGradients { input, gamma, beta } =
                B::batch_norm_backward(saved, output_grad);
            [input, gamma, beta].map(Some)
        });
        let BatchNormOutputs { output, mean, variance } = B::batch_norm_forward(inputs.clone());
        let [mean_output, variance_output] =
            [&mean, &variance].map(|it| Self::from_inner(it.clone()));
        BatchNormOutputs {
            output: step.finish(output, || BatchNormSaved { inputs, mean, variance }),
            mean: mean_output,
            variance: variance_output,
        }
    }
}
