use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};

use crate::backend::Optional;

/// The two halves of an LSTM over a sequence, as a backend's kernels.
///
/// Shapes are those of [`LstmInputs`](super::LstmInputs); the caller has checked them.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion"),
    Autodiff
)]
pub trait LstmBackend: Backend {
    /// Hidden states, cell states (both `[seq_length, batch_size, d_hidden]`) and the activated gates
    /// `σ(i), σ(f + forget_bias), tanh(g), σ(o)` (`[seq_length, batch_size, 4 · d_hidden]`), which the backward half needs.
    #[fusion(meta = |gates, _, _, _, hidden0, _, _| {
        let states = super::states_spec(gates, hidden0);
        (states.clone(), states, gates.clone())
    })]
    fn lstm_forward(
        gates: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        weight_hidden: FloatTensor<Self>,
        #[extension_type] mask: Optional<Self>,
        hidden0: FloatTensor<Self>,
        cell0: FloatTensor<Self>,
        forget_bias: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients of the gates' inputs, the bias, the recurrent weight and the initial states, from those of all hidden and
    /// cell states.
    #[fusion(meta = |activated, weight_hidden, _, hidden0, cell0, _, _, _, _| {
        (activated.clone(), super::bias_spec(activated), weight_hidden.clone(), hidden0.clone(), cell0.clone())
    })]
    #[allow(clippy::too_many_arguments, clippy::type_complexity)]
    fn lstm_backward(
        activated: FloatTensor<Self>,
        weight_hidden: FloatTensor<Self>,
        #[extension_type] mask: Optional<Self>,
        hidden0: FloatTensor<Self>,
        cell0: FloatTensor<Self>,
        hidden: FloatTensor<Self>,
        cell: FloatTensor<Self>,
        hidden_grad: FloatTensor<Self>,
        #[extension_type] cell_grad: Optional<Self>,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    );
}
