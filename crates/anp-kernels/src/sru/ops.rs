use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};

use super::Activation;
use crate::backend::Optional;

/// The two halves of an SRU's scan, as a backend's kernels.
///
/// Shapes are those of [`SruInputs`](super::SruInputs); the caller has checked them.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion"),
    Autodiff
)]
pub trait SruBackend: Backend {
    /// Hidden and cell states, both `[seq_length, batch_size, d_hidden]`.
    #[fusion(meta = |product, _, _, _, cell0, _| {
        let states = super::states_spec(product, cell0);
        (states.clone(), states)
    })]
    fn sru_forward(
        product: FloatTensor<Self>,
        #[extension_type] highway: Optional<Self>,
        bias: FloatTensor<Self>,
        #[extension_type] mask: Optional<Self>,
        cell0: FloatTensor<Self>,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients of the product, the bias, the initial state and, last, the highway (`[1]` and meaningless if it is part
    /// of the product), from those of all hidden and cell states.
    #[fusion(meta = |product, highway, bias, _, cell0, _, _, hidden_grad, _| {
        let highway = super::highway_spec(highway, hidden_grad);
        (product.clone(), bias.clone(), cell0.clone(), highway)
    })]
    #[allow(clippy::too_many_arguments, clippy::type_complexity)]
    fn sru_backward(
        product: FloatTensor<Self>,
        #[extension_type] highway: Optional<Self>,
        bias: FloatTensor<Self>,
        #[extension_type] mask: Optional<Self>,
        cell0: FloatTensor<Self>,
        activation: Activation,
        cell: FloatTensor<Self>,
        hidden_grad: FloatTensor<Self>,
        #[extension_type] cell_grad: Optional<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}
