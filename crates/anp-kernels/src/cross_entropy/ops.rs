use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, ExtensionType, backend_extension};

use crate::backend::Optional;
#[cfg(feature = "fusion")]
use crate::backend::{OptionalMetadata, TensorSpec, spec};
use crate::precision::MatmulPrecision;

/// [`LinearCrossEntropyInputs`](super::LinearCrossEntropyInputs) as tensors of a backend.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct CrossEntropyForward<B: Backend> {
    /// `[num_tokens, d_hidden]`.
    pub hidden: FloatTensor<B>,
    /// `[d_hidden, num_classes]`, or `[num_classes, d_hidden]` if `tied`.
    pub weight: FloatTensor<B>,
    /// `[num_classes]`.
    pub bias: FloatTensor<B>,
    /// `[num_tokens]`.
    pub targets: IntTensor<B>,
    /// Whether `weight` is that of an embedding.
    pub tied: bool,
    /// Whether to compute the other terms of [`LogitTerms`](super::LogitTerms), too.
    pub terms: bool,
    /// Whether to keep what the backward step needs.
    pub keep: bool,
    /// Of the products.
    pub precision: MatmulPrecision,
}

/// What [`cross_entropy_forward`](CrossEntropyBackend::cross_entropy_forward) computes.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct CrossEntropyOutputs<B: Backend> {
    /// `nll`, and with `terms` the squared norm, the entropy and the logarithm of the partition
    /// function: `[1 or 4, num_tokens]`.
    pub values: FloatTensor<B>,
    /// With `keep`, `[num_tokens, num_classes]`: the gradient of `nll` with respect to the logits,
    /// or with `terms` the logits themselves.
    #[extension_type]
    pub logits: Optional<B>,
    /// With `keep` and `terms`, `[num_tokens, 2]`: the largest logit `m`, and `ln Σᵥ e^(z[v] − m)`.
    /// Their sum would be less precise.
    #[extension_type]
    pub statistics: Optional<B>,
}

/// What the backward step needs of the forward step.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct CrossEntropySaved<B: Backend> {
    /// The inputs.
    #[extension_type]
    pub inputs: CrossEntropyForward<B>,
    /// The outputs.
    #[extension_type]
    pub outputs: CrossEntropyOutputs<B>,
}

/// Gradients of the inputs that have one, each in the shape of its input.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct CrossEntropyGradients<B: Backend> {
    /// `[num_tokens, d_hidden]`.
    pub hidden: FloatTensor<B>,
    /// `[d_hidden, num_classes]`, or `[num_classes, d_hidden]` if tied.
    pub weight: FloatTensor<B>,
    /// `[num_classes]`.
    pub bias: FloatTensor<B>,
}

/// A linear layer with cross-entropy as a backend's kernel; the caller has checked the shapes.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion"),
    Autodiff
)]
pub trait CrossEntropyBackend: Backend {
    /// The values of all tokens.
    #[fusion(meta = |inputs| {
        let CrossEntropyForwardMetadata { hidden, bias, targets, terms, keep, .. } = inputs;
        let (num_tokens, num_classes) = (targets.shape[0], bias.shape[0]);
        let optional = |present: bool, spec| match present {
            true => OptionalMetadata::Present(spec),
            false => OptionalMetadata::Absent,
        };
        let wide = crate::cube::wide(hidden.dtype);
        let statistics = TensorSpec::new([num_tokens, 2].into(), wide);
        CrossEntropyOutputsMetadata {
            values: spec(hidden, [if *terms { 4 } else { 1 }, num_tokens]),
            logits: optional(*keep, spec(hidden, [num_tokens, num_classes])),
            statistics: optional(*keep && *terms, statistics),
        }
    })]
    fn cross_entropy_forward(
        #[extension_type] inputs: CrossEntropyForward<Self>,
    ) -> CrossEntropyOutputs<Self>;
}

/// The backward kernel, with which the operation becomes a step of the graph.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion")
)]
pub trait CrossEntropyBackward: CrossEntropyBackend {
    /// Gradients from that of the values. The forward step has kept what this needs.
    #[fusion(meta = |saved, _| {
        let CrossEntropyForwardMetadata { hidden, weight, bias, .. } = saved.inputs.clone();
        CrossEntropyGradientsMetadata { hidden, weight, bias }
    })]
    fn cross_entropy_backward(
        #[extension_type] saved: CrossEntropySaved<Self>,
        values_grad: FloatTensor<Self>,
    ) -> CrossEntropyGradients<Self>;
}
