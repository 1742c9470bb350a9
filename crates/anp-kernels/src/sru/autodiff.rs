use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;

use super::{SruBackend, SruBackward, SruForward, SruGradients, SruOutputs, SruSaved};
use crate::autodiff::Step;
use crate::auxiliary_output::AuxiliaryGradient;
use crate::backend::Optional;

impl<B: SruBackward, C: CheckpointStrategy> SruBackend for Autodiff<B, C> {
    fn sru_forward(inputs: SruForward<Self>) -> SruOutputs<Self> {
        let SruForward { product, highway, bias, mask, cell0, activation } = inputs;
        // Without a separate highway, the product is also the last parent, which then gets no
        // gradient.
        let highway_node = match &highway {
            Optional::Present(highway) => highway.node(),
            Optional::Absent => product.node(),
        };
        let (product, product_node) = product.into_parts();
        let (bias, bias_node) = bias.into_parts();
        let (cell0, cell0_node) = cell0.into_parts();
        let [highway, mask] =
            [highway, mask].map(|tensor| tensor.map(|tensor| tensor.into_primitive()));
        let inputs = SruForward { product, highway, bias, mask, cell0, activation };

        // The order of the parents decides the order in which gradients of several steps add up.
        let nodes = [product_node, bias_node, cell0_node, highway_node];
        let step = Step::<B, C, _, _>::prepare(nodes, |saved, hidden_grad, _| {
            let (saved, cell_grad): (_, AuxiliaryGradient<B>) = saved;
            let SruGradients { product, highway, bias, cell0 } =
                B::sru_backward(saved, hidden_grad, cell_grad.take().into());
            [Some(product), Some(bias), Some(cell0), highway.into_option()]
        });
        let SruOutputs { hidden, cell } = B::sru_forward(inputs.clone());
        let cell_grad = AuxiliaryGradient::new();
        let hidden =
            step.finish(hidden, || (SruSaved { inputs, cell: cell.clone() }, cell_grad.clone()));
        let cell = cell_grad.attach::<C>(&hidden, cell);
        SruOutputs { hidden, cell }
    }
}
