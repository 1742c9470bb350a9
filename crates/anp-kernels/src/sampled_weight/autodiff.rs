use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend};

use super::{SampledWeightBackend, ScaleMixture};
use crate::auxiliary_output::SecondGradient;
use crate::backend::Optional;

/// The step of the divergence; the weights are a second one behind it, which hands over their gradient.
#[derive(Debug)]
struct WeightDraw;

#[derive(Debug, Clone)]
struct Saved<B: Backend> {
    weights: FloatTensor<B>,
    rho: FloatTensor<B>,
    noise: FloatTensor<B>,
    prior: ScaleMixture,
    weights_grad: SecondGradient<B>,
}

impl<B: SampledWeightBackend> Backward<B, 2> for WeightDraw {
    type State = Saved<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let divergence_grad = grads.consume::<B>(&ops.node);
        let Saved { weights, rho, noise, prior, weights_grad } = ops.state;
        let (mean_grad, rho_grad) = B::sampled_weight_backward(
            weights,
            rho,
            noise,
            prior,
            divergence_grad,
            weights_grad.take().into(),
        );
        for (parent, gradient) in ops.parents.into_iter().zip([mean_grad, rho_grad]) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

impl<B: SampledWeightBackend, C: CheckpointStrategy> SampledWeightBackend for Autodiff<B, C> {
    fn sampled_weight_forward(
        mean: FloatTensor<Self>,
        rho: FloatTensor<Self>,
        noise: FloatTensor<Self>,
        prior: ScaleMixture,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let ((mean, mean_node), (rho, rho_node)) = (mean.into_parts(), rho.into_parts());
        let noise = noise.into_primitive();
        let prepared = WeightDraw.prepare::<C>([mean_node, rho_node]).compute_bound().stateful();
        let (divergence, weights) =
            B::sampled_weight_forward(mean, rho.clone(), noise.clone(), prior);
        let weights_grad = SecondGradient::new();
        let divergence = match prepared {
            OpsKind::Tracked(prepared) => {
                let (weights, weights_grad) = (weights.clone(), weights_grad.clone());
                prepared.finish(Saved { weights, rho, noise, prior, weights_grad }, divergence)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(divergence),
        };
        let weights = weights_grad.attach::<C>(&divergence, weights);
        (divergence, weights)
    }

    /// Of the first order only: the results are constants.
    fn sampled_weight_backward(
        weights: FloatTensor<Self>,
        rho: FloatTensor<Self>,
        noise: FloatTensor<Self>,
        prior: ScaleMixture,
        divergence_grad: FloatTensor<Self>,
        weights_grad: Optional<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (mean, rho) = B::sampled_weight_backward(
            weights.into_primitive(),
            rho.into_primitive(),
            noise.into_primitive(),
            prior,
            divergence_grad.into_primitive(),
            weights_grad.map(|gradient| gradient.into_primitive()),
        );
        (Self::from_inner(mean), Self::from_inner(rho))
    }
}
