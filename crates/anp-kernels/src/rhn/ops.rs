use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};

use crate::backend::Optional;

/// The two halves of a Recurrent Highway Network over a sequence, as a backend's kernels.
///
/// Shapes are those of [`RhnInputs`](super::RhnInputs); the caller has checked them.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion"),
    Autodiff
)]
pub trait RhnBackend: Backend {
    /// `y`, and what the backward half needs: the activated gates, `[depth, seq_length, batch_size, 2 · d_hidden]`, and the
    /// states after all micro-steps but the last, `[depth, seq_length, batch_size, d_hidden]`, the last of which is unused.
    #[fusion(meta = |gates, weight_hidden, _, _, state0| super::forward_specs(gates, weight_hidden, state0))]
    fn rhn_forward(
        gates: FloatTensor<Self>,
        weight_hidden: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        #[extension_type] mask: Optional<Self>,
        state0: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients of the gates' inputs, the recurrent weight, the bias and the initial state, from that of `y`.
    #[fusion(meta = |activated, _, _, weight_hidden, _, state0, _| {
        let (gates, bias) = super::gradient_specs(activated);
        (gates, weight_hidden.clone(), bias, state0.clone())
    })]
    #[allow(clippy::type_complexity)]
    fn rhn_backward(
        activated: FloatTensor<Self>,
        inner: FloatTensor<Self>,
        hidden: FloatTensor<Self>,
        weight_hidden: FloatTensor<Self>,
        #[extension_type] mask: Optional<Self>,
        state0: FloatTensor<Self>,
        hidden_grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}
