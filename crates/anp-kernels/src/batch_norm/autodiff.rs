use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend};

use super::BatchNormBackend;
use crate::backend::Optional;

#[derive(Debug)]
struct BatchNorm;

#[derive(Debug, Clone)]
struct Saved<B: Backend> {
    input: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    mean: FloatTensor<B>,
    variance: FloatTensor<B>,
    of_batch: bool,
    epsilon: f64,
    relu: bool,
}

impl<B: BatchNormBackend> Backward<B, 3> for BatchNorm {
    type State = Saved<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let upstream = grads.consume::<B>(&ops.node);
        let Saved { input, gamma, beta, mean, variance, of_batch, epsilon, relu } = ops.state;
        let (input, gamma, beta) = B::batch_norm_backward(
            input, gamma, beta, mean, variance, upstream, of_batch, epsilon, relu,
        );
        for (parent, gradient) in ops.parents.into_iter().zip([input, gamma, beta]) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

impl<B: BatchNormBackend, C: CheckpointStrategy> BatchNormBackend for Autodiff<B, C> {
    fn batch_norm_forward(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: Optional<Self>,
        variance: Optional<Self>,
        epsilon: f64,
        relu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let mean = mean.into_option().map(|mean| mean.into_primitive());
        let variance = variance.into_option().map(|variance| variance.into_primitive());
        let of_batch = mean.is_none();
        let (input, input_node) = input.into_parts();
        let (gamma, gamma_node) = gamma.into_parts();
        let (beta, beta_node) = beta.into_parts();
        let nodes = [input_node, gamma_node, beta_node];
        let prepared = BatchNorm.prepare::<C>(nodes).compute_bound().stateful();
        let (output, mean, variance) = B::batch_norm_forward(
            input.clone(),
            gamma.clone(),
            beta.clone(),
            mean.into(),
            variance.into(),
            epsilon,
            relu,
        );
        let statistics = [mean.clone(), variance.clone()].map(Self::from_inner);
        let output = match prepared {
            OpsKind::Tracked(prepared) => {
                let saved = Saved { input, gamma, beta, mean, variance, of_batch, epsilon, relu };
                prepared.finish(saved, output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        };
        let [mean, variance] = statistics;
        (output, mean, variance)
    }

    /// Of the first order only: the results are constants.
    fn batch_norm_backward(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
        of_batch: bool,
        epsilon: f64,
        relu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (input, gamma, beta) = B::batch_norm_backward(
            input.into_primitive(),
            gamma.into_primitive(),
            beta.into_primitive(),
            mean.into_primitive(),
            variance.into_primitive(),
            upstream.into_primitive(),
            of_batch,
            epsilon,
            relu,
        );
        (Self::from_inner(input), Self::from_inner(gamma), Self::from_inner(beta))
    }
}
