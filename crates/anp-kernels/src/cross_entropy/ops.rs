use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};

/// The two halves of a linear layer with cross-entropy, as a backend's kernels.
///
/// `K` is the number of terms: 1, or 3 with those on the logits. `weight` is `[d_hidden, num_classes]`, or `[num_classes,
/// d_hidden]` if it is tied to an embedding.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion"),
    Autodiff
)]
pub trait CrossEntropyBackend: Backend {
    /// The terms, `[K, num_tokens]`; what backward needs in place of the logits, `[num_tokens, num_classes]`, and the rows'
    /// statistics, `[num_tokens, 2]`, both only if `keep` is set (else `[1, 1]`), the statistics only for `K = 3`.
    #[fusion(meta = |hidden, _, bias, targets, _, terms, keep| {
        super::forward_specs(hidden, bias, targets, *terms, *keep)
    })]
    fn cross_entropy_forward(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        targets: IntTensor<Self>,
        tied: bool,
        terms: bool,
        keep: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients of the hidden states, the weight and the bias, from those of the terms (`upstream`, `[K, num_tokens]`).
    #[fusion(meta = |hidden, weight, _, _, kept, _, _, _| {
        (hidden.clone(), weight.clone(), super::bias_spec(kept))
    })]
    #[allow(clippy::too_many_arguments)]
    fn cross_entropy_backward(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        values: FloatTensor<Self>,
        kept: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
        tied: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}
