use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;

use super::{
    SampledWeightBackend, SampledWeightBackward, SampledWeightForward, SampledWeightGradients,
    SampledWeightOutputs, SampledWeightSaved,
};
use crate::autodiff::Step;
use crate::auxiliary_output::AuxiliaryGradient;

impl<B: SampledWeightBackward, C: CheckpointStrategy> SampledWeightBackend for Autodiff<B, C> {
    /// The main output is the divergence, the auxiliary one the weights.
    fn sampled_weight_forward(inputs: SampledWeightForward<Self>) -> SampledWeightOutputs<Self> {
        let SampledWeightForward { mean, rho, noise, prior } = inputs;
        let ((mean, mean_node), (rho, rho_node)) = (mean.into_parts(), rho.into_parts());
        let noise = noise.into_primitive();

        let step =
            Step::<B, C, _, _>::prepare([mean_node, rho_node], |saved, divergence_grad, _| {
                let (saved, weights_grad): (_, AuxiliaryGradient<B>) = saved;
                let SampledWeightGradients { mean, rho } =
                    B::sampled_weight_backward(saved, divergence_grad, weights_grad.take());
                [mean, rho].map(Some)
            });
        let SampledWeightOutputs { weights, divergence } =
            B::sampled_weight_forward(SampledWeightForward {
                mean,
                rho: rho.clone(),
                noise: noise.clone(),
                prior,
            });
        let weights_grad = AuxiliaryGradient::new();
        let divergence = step.finish(divergence, || {
            let weights = weights.clone();
            (SampledWeightSaved { weights, rho, noise, prior }, weights_grad.clone())
        });
        let weights = weights_grad.attach::<C>(&divergence, weights);
        SampledWeightOutputs { weights, divergence }
    }
}
