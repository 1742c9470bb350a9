use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType, backend_extension};

use super::inputs::Activation;
use crate::backend::Optional;
#[cfg(feature = "fusion")]
use crate::backend::sequence_spec;

/// [`SruInputs`](super::SruInputs) as tensors of a backend.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct SruForward<B: Backend> {
    /// `[seq_length, batch_size, 3 or 4 · d_hidden]`.
    pub product: FloatTensor<B>,
    /// `[seq_length, batch_size, d_hidden]`; if absent, it is the fourth part of the product.
    #[extension_type]
    pub highway: Optional<B>,
    /// `[2 · d_hidden]`.
    pub bias: FloatTensor<B>,
    /// `[batch_size, d_hidden]`.
    #[extension_type]
    pub mask: Optional<B>,
    /// The cell state before the first step: `[batch_size, d_hidden]`.
    pub cell0: FloatTensor<B>,
    /// `g`.
    pub activation: Activation,
}

/// What [`sru_forward`](SruBackend::sru_forward) computes.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct SruOutputs<B: Backend> {
    /// Hidden states of all steps: `[seq_length, batch_size, d_hidden]`.
    pub hidden: FloatTensor<B>,
    /// Cell states of all steps: `[seq_length, batch_size, d_hidden]`.
    pub cell: FloatTensor<B>,
}

/// What the backward step needs of the forward step.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct SruSaved<B: Backend> {
    /// The inputs.
    #[extension_type]
    pub inputs: SruForward<B>,
    /// An output.
    pub cell: FloatTensor<B>,
}

/// Gradients of the inputs that have one, each in the shape of its input.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct SruGradients<B: Backend> {
    /// `[seq_length, batch_size, 3 or 4 · d_hidden]`.
    pub product: FloatTensor<B>,
    /// `[seq_length, batch_size, d_hidden]`; absent where the input is.
    #[extension_type]
    pub highway: Optional<B>,
    /// `[2 · d_hidden]`.
    pub bias: FloatTensor<B>,
    /// `[batch_size, d_hidden]`.
    pub cell0: FloatTensor<B>,
}

/// An SRU's scan as a backend's kernel; the caller has checked the shapes.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion"),
    Autodiff
)]
pub trait SruBackend: Backend {
    /// States of all steps.
    #[fusion(meta = |inputs| {
        let states = sequence_spec(&inputs.product, &inputs.cell0);
        SruOutputsMetadata { hidden: states.clone(), cell: states }
    })]
    fn sru_forward(#[extension_type] inputs: SruForward<Self>) -> SruOutputs<Self>;
}

/// The backward kernel, with which the operation becomes a step of the graph.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion")
)]
pub trait SruBackward: SruBackend {
    /// Gradients from those of all hidden and cell states.
    #[fusion(meta = |saved, _, _| {
        let SruForwardMetadata { product, highway, bias, cell0, .. } = saved.inputs.clone();
        SruGradientsMetadata { product, highway, bias, cell0 }
    })]
    fn sru_backward(
        #[extension_type] saved: SruSaved<Self>,
        hidden_grad: FloatTensor<Self>,
        #[extension_type] cell_grad: Optional<Self>,
    ) -> SruGradients<Self>;
}
