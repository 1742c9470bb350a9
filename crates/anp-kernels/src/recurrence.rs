//! What recurrent operations read in both directions.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::ops::NodeGuard;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, ExtensionType};

use crate::backend::Optional;

/// What a recurrence multiplies at each step: the hidden state, masked, and a weight.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct Recurrence<B: Backend> {
    /// The recurrent weight.
    pub weight_hidden: FloatTensor<B>,
    /// The mask on the hidden state, one for all gates or one for each: `[groups, batch_size, d_hidden]`.
    #[extension_type]
    pub mask: Optional<B>,
    /// The hidden state before the first step: `[batch_size, d_hidden]`.
    pub hidden0: FloatTensor<B>,
}

impl<B: Backend> Recurrence<B> {
    /// The tensors, and the nodes of the weight and of the state; the mask is not differentiated.
    pub(crate) fn from_autodiff<C: CheckpointStrategy>(
        recurrence: Recurrence<Autodiff<B, C>>,
    ) -> (Self, [NodeGuard; 2]) {
        let Recurrence { weight_hidden, mask, hidden0 } = recurrence;
        let (weight_hidden, weight_node) = weight_hidden.into_parts();
        let (hidden0, hidden0_node) = hidden0.into_parts();
        let mask = mask.map(|mask| mask.into_primitive());
        (Self { weight_hidden, mask, hidden0 }, [weight_node, hidden0_node])
    }
}
