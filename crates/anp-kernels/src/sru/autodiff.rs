use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend};

use super::{Activation, SruBackend};
use crate::auxiliary_output::SecondGradient;
use crate::backend::Optional;

#[derive(Debug)]
struct Scan;

#[derive(Debug, Clone)]
struct Saved<B: Backend> {
    product: FloatTensor<B>,
    highway: Option<FloatTensor<B>>,
    bias: FloatTensor<B>,
    mask: Option<FloatTensor<B>>,
    cell0: FloatTensor<B>,
    activation: Activation,
    cell: FloatTensor<B>,
    cell_grad: SecondGradient<B>,
}

/// Parents: product, bias, initial state, highway (the product again if there is none of its own).
impl<B: SruBackend> Backward<B, 4> for Scan {
    type State = Saved<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 4>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let hidden_grad = grads.consume::<B>(&ops.node);
        let saved = ops.state;
        let has_highway = saved.highway.is_some();
        let (product, bias, cell0, highway) = B::sru_backward(
            saved.product,
            saved.highway.into(),
            saved.bias,
            saved.mask.into(),
            saved.cell0,
            saved.activation,
            saved.cell,
            hidden_grad,
            saved.cell_grad.take().into(),
        );
        let gradients = [Some(product), Some(bias), Some(cell0), has_highway.then_some(highway)];
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

impl<B: SruBackend, C: CheckpointStrategy> SruBackend for Autodiff<B, C> {
    fn sru_forward(
        product: FloatTensor<Self>,
        highway: Optional<Self>,
        bias: FloatTensor<Self>,
        mask: Optional<Self>,
        cell0: FloatTensor<Self>,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let highway = highway.into_option();
        let highway_node = highway.as_ref().unwrap_or(&product).node();
        let highway = highway.map(|highway| highway.into_primitive());
        let mask = mask.into_option().map(|mask| mask.into_primitive());
        let (product, product_node) = product.into_parts();
        let (bias, bias_node) = bias.into_parts();
        let (cell0, cell0_node) = cell0.into_parts();

        let nodes = [product_node, bias_node, cell0_node, highway_node];
        let prepared = Scan.prepare::<C>(nodes).compute_bound().stateful();
        let (hidden, cell) = B::sru_forward(
            product.clone(),
            highway.clone().into(),
            bias.clone(),
            mask.clone().into(),
            cell0.clone(),
            activation,
        );
        let cell_grad = SecondGradient::new();
        let sequence = match prepared {
            OpsKind::Tracked(prepared) => {
                let saved = Saved {
                    product,
                    highway,
                    bias,
                    mask,
                    cell0,
                    activation,
                    cell: cell.clone(),
                    cell_grad: cell_grad.clone(),
                };
                prepared.finish(saved, hidden)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(hidden),
        };
        let states = cell_grad.attach::<C>(&sequence, cell);
        (sequence, states)
    }

    /// Of the first order only: the results are constants.
    fn sru_backward(
        product: FloatTensor<Self>,
        highway: Optional<Self>,
        bias: FloatTensor<Self>,
        mask: Optional<Self>,
        cell0: FloatTensor<Self>,
        activation: Activation,
        cell: FloatTensor<Self>,
        hidden_grad: FloatTensor<Self>,
        cell_grad: Optional<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (product, bias, cell0, highway) = B::sru_backward(
            product.into_primitive(),
            highway.map(|highway| highway.into_primitive()),
            bias.into_primitive(),
            mask.map(|mask| mask.into_primitive()),
            cell0.into_primitive(),
            activation,
            cell.into_primitive(),
            hidden_grad.into_primitive(),
            cell_grad.map(|gradient| gradient.into_primitive()),
        );
        let [product, bias, cell0, highway] = [product, bias, cell0, highway].map(Self::from_inner);
        (product, bias, cell0, highway)
    }
}
