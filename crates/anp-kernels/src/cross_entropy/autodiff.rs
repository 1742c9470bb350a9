use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend, Backend};

use super::CrossEntropyBackend;

#[derive(Debug)]
struct LinearCrossEntropy;

#[derive(Debug, Clone)]
struct Saved<B: Backend> {
    hidden: FloatTensor<B>,
    weight: FloatTensor<B>,
    targets: IntTensor<B>,
    values: FloatTensor<B>,
    kept: FloatTensor<B>,
    statistics: FloatTensor<B>,
    tied: bool,
}

impl<B: CrossEntropyBackend> Backward<B, 3> for LinearCrossEntropy {
    type State = Saved<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let upstream = grads.consume::<B>(&ops.node);
        let Saved { hidden, weight, targets, values, kept, statistics, tied } = ops.state;
        let (hidden, weight, bias) = B::cross_entropy_backward(
            hidden, weight, targets, values, kept, statistics, upstream, tied,
        );
        for (parent, gradient) in ops.parents.into_iter().zip([hidden, weight, bias]) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

impl<B: CrossEntropyBackend, C: CheckpointStrategy> CrossEntropyBackend for Autodiff<B, C> {
    fn cross_entropy_forward(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        targets: IntTensor<Self>,
        tied: bool,
        terms: bool,
        keep: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (hidden, hidden_node) = hidden.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (bias, bias_node) = bias.into_parts();
        let nodes = [hidden_node, weight_node, bias_node];
        let prepared = LinearCrossEntropy.prepare::<C>(nodes).compute_bound().stateful();
        let keep = keep || matches!(prepared, OpsKind::Tracked(_));
        let (values, kept, statistics) = B::cross_entropy_forward(
            hidden.clone(),
            weight.clone(),
            bias,
            targets.clone(),
            tied,
            terms,
            keep,
        );
        let rest = [kept.clone(), statistics.clone()].map(Self::from_inner);
        let values = match prepared {
            OpsKind::Tracked(prepared) => {
                let saved = Saved {
                    hidden,
                    weight,
                    targets,
                    values: values.clone(),
                    kept,
                    statistics,
                    tied,
                };
                prepared.finish(saved, values)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(values),
        };
        let [kept, statistics] = rest;
        (values, kept, statistics)
    }

    /// Of the first order only: the results are constants.
    fn cross_entropy_backward(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        values: FloatTensor<Self>,
        kept: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
        tied: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (hidden, weight, bias) = B::cross_entropy_backward(
            hidden.into_primitive(),
            weight.into_primitive(),
            targets,
            values.into_primitive(),
            kept.into_primitive(),
            statistics.into_primitive(),
            upstream.into_primitive(),
            tied,
        );
        (Self::from_inner(hidden), Self::from_inner(weight), Self::from_inner(bias))
    }
}
