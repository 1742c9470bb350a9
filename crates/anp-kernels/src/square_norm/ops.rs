use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};

/// The squared norm of a tensor, as a backend's kernels.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion"),
    Autodiff
)]
pub trait SquareNormBackend: Backend {
    /// `Σ x²`: `[1]`.
    #[fusion(dtype = tensor, shape = [1].into())]
    fn square_norm(tensor: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `2 · output_grad · x`, where `output_grad` is `[1]`.
    #[fusion(dtype = tensor, shape = tensor)]
    fn square_norm_backward(
        tensor: FloatTensor<Self>,
        output_grad: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// The squared norm of several tensors together, as kernels of GPUs.
#[cfg(feature = "cube")]
#[backend_extension(Cube, Fusion: cfg(feature = "fusion"))]
pub trait SquareSumsBackend: Backend {
    /// Add the squares of `tensor` to the elements of `sums`, so that the total of `sums` grows by
    /// `Σ x²`. The two may differ in type; `sums` is updated in place if it has no other owner.
    #[fusion(dtype = sums, shape = sums)]
    fn add_squares(sums: FloatTensor<Self>, tensor: FloatTensor<Self>) -> FloatTensor<Self>;
}
