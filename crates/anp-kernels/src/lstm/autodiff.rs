use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend};

use super::LstmBackend;
use crate::auxiliary_output::SecondGradient;
use crate::backend::Optional;

#[derive(Debug)]
struct Sequence;

#[derive(Debug, Clone)]
struct Saved<B: Backend> {
    activated: FloatTensor<B>,
    weight_hidden: FloatTensor<B>,
    mask: Option<FloatTensor<B>>,
    hidden0: FloatTensor<B>,
    cell0: FloatTensor<B>,
    hidden: FloatTensor<B>,
    cell: FloatTensor<B>,
    cell_grad: SecondGradient<B>,
}

impl<B: LstmBackend> Backward<B, 5> for Sequence {
    type State = Saved<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 5>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let hidden_grad = grads.consume::<B>(&ops.node);
        let saved = ops.state;
        let cell_grad = saved.cell_grad.take();
        let (gates, bias, weight_hidden, hidden0, cell0) = B::lstm_backward(
            saved.activated,
            saved.weight_hidden,
            saved.mask.into(),
            saved.hidden0,
            saved.cell0,
            saved.hidden,
            saved.cell,
            hidden_grad,
            cell_grad.into(),
        );
        let gradients = [gates, bias, weight_hidden, hidden0, cell0];
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

impl<B: LstmBackend, C: CheckpointStrategy> LstmBackend for Autodiff<B, C> {
    fn lstm_forward(
        gates: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        weight_hidden: FloatTensor<Self>,
        mask: Optional<Self>,
        hidden0: FloatTensor<Self>,
        cell0: FloatTensor<Self>,
        forget_bias: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (gates, gates_node) = gates.into_parts();
        let (bias, bias_node) = bias.into_parts();
        let (weight_hidden, weight_node) = weight_hidden.into_parts();
        let (hidden0, hidden0_node) = hidden0.into_parts();
        let (cell0, cell0_node) = cell0.into_parts();
        let mask = mask.into_option().map(|mask| mask.into_primitive());

        let nodes = [gates_node, bias_node, weight_node, hidden0_node, cell0_node];
        let prepared = Sequence.prepare::<C>(nodes).compute_bound().stateful();
        let (hidden, cell, activated) = B::lstm_forward(
            gates,
            bias,
            weight_hidden.clone(),
            mask.clone().into(),
            hidden0.clone(),
            cell0.clone(),
            forget_bias,
        );
        let cell_grad = SecondGradient::new();
        let sequence = match prepared {
            OpsKind::Tracked(prepared) => {
                let saved = Saved {
                    activated: activated.clone(),
                    weight_hidden,
                    mask,
                    hidden0,
                    cell0,
                    hidden: hidden.clone(),
                    cell: cell.clone(),
                    cell_grad: cell_grad.clone(),
                };
                prepared.finish(saved, hidden)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(hidden),
        };
        let states = cell_grad.attach::<C>(&sequence, cell);
        (sequence, states, Self::from_inner(activated))
    }

    /// Of the first order only: the results are constants.
    fn lstm_backward(
        activated: FloatTensor<Self>,
        weight_hidden: FloatTensor<Self>,
        mask: Optional<Self>,
        hidden0: FloatTensor<Self>,
        cell0: FloatTensor<Self>,
        hidden: FloatTensor<Self>,
        cell: FloatTensor<Self>,
        hidden_grad: FloatTensor<Self>,
        cell_grad: Optional<Self>,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        let (gates, bias, weight, hidden0, cell0) = B::lstm_backward(
            activated.into_primitive(),
            weight_hidden.into_primitive(),
            mask.map(|mask| mask.into_primitive()),
            hidden0.into_primitive(),
            cell0.into_primitive(),
            hidden.into_primitive(),
            cell.into_primitive(),
            hidden_grad.into_primitive(),
            cell_grad.map(|gradient| gradient.into_primitive()),
        );
        let [gates, bias, weight, hidden0, cell0] =
            [gates, bias, weight, hidden0, cell0].map(Self::from_inner);
        (gates, bias, weight, hidden0, cell0)
    }
}
