use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};

use super::Momentum;
use crate::backend::Optional;

/// What a step does to one parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdOptions {
    /// Factor of the gradient.
    pub learning_rate: f64,
    /// Factor of the parameter in its gradient.
    pub coupled_decay: f64,
    /// Share of the parameter that the step removes.
    pub decoupled_decay: f64,
}

/// A step of stochastic gradient descent, as a backend's kernels.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion"),
)]
pub trait SgdBackend: Backend {
    /// `p · (1 − decoupled) − learning_rate · (scale · g + coupled · p)`, in place where nobody else holds `p`; `scale` is
    /// `[1]`.
    #[fusion(dtype = tensor, shape = tensor)]
    fn sgd_step(
        tensor: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        options: SgdOptions,
    ) -> FloatTensor<Self>;

    /// The same with `v ← factor · v + (1 − dampening) · (scale · g + coupled · p)`, or with this gradient itself where there is no
    /// velocity yet, in place of the gradient, or with the gradient and `factor · v` with Nesterov: `p` and `v`, which is flat.
    #[fusion(meta = |tensor, _, _, _, _, _| (tensor.clone(), super::velocity_spec(tensor)))]
    fn sgd_momentum_step(
        tensor: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        #[extension_type] velocity: Optional<Self>,
        scale: FloatTensor<Self>,
        options: SgdOptions,
        momentum: Momentum,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// `p − learning_rate · scale · g` for a gradient that is the sum of `values`, `[num_lookups, width]`, at `rows`.
    ///
    /// On the host a row that is not there is a panic; a GPU, which is not waited for, leaves it out.
    #[fusion(dtype = tensor, shape = tensor)]
    fn sgd_rows(
        tensor: FloatTensor<Self>,
        values: FloatTensor<Self>,
        rows: IntTensor<Self>,
        scale: FloatTensor<Self>,
        learning_rate: f64,
    ) -> FloatTensor<Self>;

    /// Squared norm of such a gradient, `[1]`; on a GPU, for `values` of half precision, in single precision.
    #[fusion(dtype = crate::cube::wide(values), shape = [1].into())]
    fn rows_square_norm(
        values: FloatTensor<Self>,
        rows: IntTensor<Self>,
        num_rows: usize,
    ) -> FloatTensor<Self>;
}
