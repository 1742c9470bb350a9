//! The tensors that recurrent operations share.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::ops::NodeGuard;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, ExtensionType};
use burn::tensor::Tensor;

use crate::backend::Optional;
use crate::precision::MatmulPrecision;

/// The recurrent product of an LSTM or a Recurrent Highway Network: `(h ⊙ m) W_h` at each step.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct Recurrence<B: Backend> {
    /// `W_h`; its shape depends on the operation.
    pub weight_hidden: FloatTensor<B>,
    /// `m`, one mask for all gates or one per gate: `[groups, batch_size, d_hidden]`.
    #[extension_type]
    pub mask: Optional<B>,
    /// `h` before the first step: `[batch_size, d_hidden]`.
    pub hidden0: FloatTensor<B>,
    /// Of the products.
    pub precision: MatmulPrecision,
}

impl<B: Backend> Recurrence<B> {
    /// The inner tensors, and the graph nodes of the weight and the hidden state. The mask is not
    /// differentiated.
    pub(crate) fn from_autodiff<C: CheckpointStrategy>(
        recurrence: Recurrence<Autodiff<B, C>>,
    ) -> (Self, [NodeGuard; 2]) {
        let Recurrence { weight_hidden, mask, hidden0, precision } = recurrence;
        let (weight_hidden, weight_node) = weight_hidden.into_parts();
        let (hidden0, hidden0_node) = hidden0.into_parts();
        let mask = mask.map(|mask| mask.into_primitive());
        (Self { weight_hidden, mask, hidden0, precision }, [weight_node, hidden0_node])
    }
}

/// `(h ⊙ m) W_h` in Burn's operations, with no mask, one for all gates or one per gate. The weight
/// is [prepared](MatmulPrecision::prepare).
pub(crate) fn recurrent_product(
    h: Tensor<2>,
    weight: &Tensor<2>,
    mask: Option<&Tensor<3>>,
    precision: MatmulPrecision,
) -> Tensor<2> {
    let Some(mask) = mask else { return precision.matmul_prepared(h, weight.clone()) };
    let [groups, batch_size, d_hidden] = mask.dims();
    let by_gate = mask.clone().chunk(groups, 0).into_iter().zip(weight.clone().chunk(groups, 1));
    let products = by_gate.map(|(mask, weight)| {
        precision.matmul_prepared(h.clone() * mask.reshape([batch_size, d_hidden]), weight)
    });
    Tensor::cat(products.collect(), 1)
}
