use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend};

use super::RhnBackend;
use crate::backend::Optional;

#[derive(Debug)]
struct Sequence;

#[derive(Debug, Clone)]
struct Saved<B: Backend> {
    activated: FloatTensor<B>,
    inner: FloatTensor<B>,
    hidden: FloatTensor<B>,
    weight_hidden: FloatTensor<B>,
    mask: Option<FloatTensor<B>>,
    state0: FloatTensor<B>,
}

impl<B: RhnBackend> Backward<B, 4> for Sequence {
    type State = Saved<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 4>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let hidden_grad = grads.consume::<B>(&ops.node);
        let Saved { activated, inner, hidden, weight_hidden, mask, state0 } = ops.state;
        let (gates, weight, bias, state0) = B::rhn_backward(
            activated,
            inner,
            hidden,
            weight_hidden,
            mask.into(),
            state0,
            hidden_grad,
        );
        for (parent, gradient) in ops.parents.into_iter().zip([gates, weight, bias, state0]) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

impl<B: RhnBackend, C: CheckpointStrategy> RhnBackend for Autodiff<B, C> {
    fn rhn_forward(
        gates: FloatTensor<Self>,
        weight_hidden: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mask: Optional<Self>,
        state0: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (gates, gates_node) = gates.into_parts();
        let (weight_hidden, weight_node) = weight_hidden.into_parts();
        let (bias, bias_node) = bias.into_parts();
        let (state0, state_node) = state0.into_parts();
        let mask = mask.into_option().map(|mask| mask.into_primitive());

        let nodes = [gates_node, weight_node, bias_node, state_node];
        let prepared = Sequence.prepare::<C>(nodes).compute_bound().stateful();
        let (hidden, activated, inner) =
            B::rhn_forward(gates, weight_hidden.clone(), bias, mask.clone().into(), state0.clone());
        let rest = [activated.clone(), inner.clone()].map(Self::from_inner);
        let hidden = match prepared {
            OpsKind::Tracked(prepared) => {
                let saved =
                    Saved { activated, inner, hidden: hidden.clone(), weight_hidden, mask, state0 };
                prepared.finish(saved, hidden)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(hidden),
        };
        let [activated, inner] = rest;
        (hidden, activated, inner)
    }

    /// Of the first order only: the results are constants.
    fn rhn_backward(
        activated: FloatTensor<Self>,
        inner: FloatTensor<Self>,
        hidden: FloatTensor<Self>,
        weight_hidden: FloatTensor<Self>,
        mask: Optional<Self>,
        state0: FloatTensor<Self>,
        hidden_grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (gates, weight, bias, state0) = B::rhn_backward(
            activated.into_primitive(),
            inner.into_primitive(),
            hidden.into_primitive(),
            weight_hidden.into_primitive(),
            mask.map(|mask| mask.into_primitive()),
            state0.into_primitive(),
            hidden_grad.into_primitive(),
        );
        let [gates, weight, bias, state0] = [gates, weight, bias, state0].map(Self::from_inner);
        (gates, weight, bias, state0)
    }
}
