use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType, backend_extension};

use crate::backend::Optional;
#[cfg(feature = "fusion")]
use crate::backend::{OptionalMetadata, TensorSpec, sequence_spec, spec};
use crate::recurrence::Recurrence;

/// [`RhnInputs`](super::RhnInputs) as tensors of a backend.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct RhnForward<B: Backend> {
    /// `x_t W` of all steps: `[seq_length, batch_size, 2 · d_hidden]`.
    pub gates: FloatTensor<B>,
    /// `[depth, 2 · d_hidden]`.
    pub bias: FloatTensor<B>,
    /// With a weight of `[depth, d_hidden, 2 · d_hidden]`.
    #[extension_type]
    pub recurrence: Recurrence<B>,
}

/// What [`rhn_forward`](RhnBackend::rhn_forward) computes.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct RhnOutputs<B: Backend> {
    /// `y` of all steps: `[seq_length, batch_size, d_hidden]`.
    pub hidden: FloatTensor<B>,
    /// `tanh(h), σ(u)`: `[depth, seq_length, batch_size, 2 · d_hidden]`.
    pub activated: FloatTensor<B>,
    /// States after all micro-steps but the last, if there are others: `[depth − 1, seq_length, batch_size, d_hidden]`.
    #[extension_type]
    pub inner: Optional<B>,
}

/// What the backward step needs of the forward step.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct RhnSaved<B: Backend> {
    /// An input.
    #[extension_type]
    pub recurrence: Recurrence<B>,
    /// The outputs.
    #[extension_type]
    pub outputs: RhnOutputs<B>,
}

/// Gradients of the inputs that have one.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct RhnGradients<B: Backend> {
    /// `[seq_length, batch_size, 2 · d_hidden]`.
    pub gates: FloatTensor<B>,
    /// `[depth, 2 · d_hidden]`.
    pub bias: FloatTensor<B>,
    /// `[depth, d_hidden, 2 · d_hidden]`.
    pub weight_hidden: FloatTensor<B>,
    /// `[batch_size, d_hidden]`.
    pub hidden0: FloatTensor<B>,
}

/// A Recurrent Highway Network over a sequence as a backend's kernel; the caller has checked the shapes.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion"),
    Autodiff
)]
pub trait RhnBackend: Backend {
    /// States of all steps and micro-steps.
    #[fusion(meta = |inputs| {
        let hidden = sequence_spec(&inputs.gates, &inputs.recurrence.hidden0);
        let by_layer = |depth: usize, of_layer: &TensorSpec| {
            let [seq_length, batch_size, width] = of_layer.shape.dims();
            spec(of_layer, [depth, seq_length, batch_size, width])
        };
        let depth = inputs.bias.shape[0];
        RhnOutputsMetadata {
            activated: by_layer(depth, &inputs.gates),
            inner: match depth {
                1 => OptionalMetadata::Absent,
                _ => OptionalMetadata::Present(by_layer(depth - 1, &hidden)),
            },
            hidden,
        }
    })]
    fn rhn_forward(#[extension_type] inputs: RhnForward<Self>) -> RhnOutputs<Self>;
}

/// The backward kernel, with which the operation becomes a step of the graph.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion")
)]
pub trait RhnBackward: RhnBackend {
    /// Gradients from that of `y`.
    #[fusion(meta = |saved, _| {
        let RhnSavedMetadata { recurrence, outputs } = saved;
        let [depth, seq_length, batch_size, d_gates] = outputs.activated.shape.dims();
        RhnGradientsMetadata {
            gates: spec(&outputs.activated, [seq_length, batch_size, d_gates]),
            bias: spec(&outputs.activated, [depth, d_gates]),
            weight_hidden: recurrence.weight_hidden.clone(),
            hidden0: recurrence.hidden0.clone(),
        }
    })]
    fn rhn_backward(
        #[extension_type] saved: RhnSaved<Self>,
        hidden_grad: FloatTensor<Self>,
    ) -> RhnGradients<Self>;
}
