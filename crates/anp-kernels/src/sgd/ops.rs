use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, ExtensionType, backend_extension};

use super::inputs::SgdOptions;
use crate::backend::Optional;

/// [`SgdInputs`](super::SgdInputs) as tensors of a backend.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct SgdStep<B: Backend> {
    /// The parameter.
    pub tensor: FloatTensor<B>,
    /// Its gradient, in the same shape.
    pub gradient: FloatTensor<B>,
    /// Factor of the gradient: `[1]`.
    pub scale: FloatTensor<B>,
    /// The velocity after the last step, flat; absent in the first step and without momentum.
    #[extension_type]
    pub velocity: Optional<B>,
    /// What the step does.
    pub options: SgdOptions,
}

/// What [`sgd_step`](SgdBackend::sgd_step) computes.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct SgdUpdated<B: Backend> {
    /// The parameter.
    pub tensor: FloatTensor<B>,
    /// Its velocity, flat, with momentum.
    #[extension_type]
    pub velocity: Optional<B>,
}

/// The step of an embedding whose gradient is the sum of `values` at `rows`, without decay and
/// momentum.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct SgdRows<B: Backend> {
    /// The embedding's weight, `[num_rows, width]`.
    pub tensor: FloatTensor<B>,
    /// `[num_lookups, width]`.
    pub values: FloatTensor<B>,
    /// `[num_lookups]`, in any order, with repetitions.
    pub rows: IntTensor<B>,
    /// Factor of the gradient: `[1]`.
    pub scale: FloatTensor<B>,
    /// Also a factor of the gradient.
    pub learning_rate: f64,
}

/// A step of stochastic gradient descent, as a backend's kernels.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion"),
)]
pub trait SgdBackend: Backend {
    /// The parameter and the velocity after the step, in place if they have no other owner.
    #[fusion(meta = |step| updated_spec(step))]
    fn sgd_step(#[extension_type] step: SgdStep<Self>) -> SgdUpdated<Self>;

    /// The embedding after the step, in place if it has no other owner.
    ///
    /// A row that does not exist is a panic on the CPU; a GPU skips it, as nothing waits for the
    /// GPU.
    #[fusion(meta = |step| step.tensor.clone())]
    fn sgd_rows(#[extension_type] step: SgdRows<Self>) -> FloatTensor<Self>;

    /// Squared norm of a gradient of rows, as in [`SgdRows`]: `[1]`. On a GPU, the result for
    /// values of half precision has single precision.
    #[fusion(dtype = crate::cube::wide(values), shape = [1].into())]
    fn rows_square_norm(
        values: FloatTensor<Self>,
        rows: IntTensor<Self>,
        num_rows: usize,
    ) -> FloatTensor<Self>;
}

#[cfg(feature = "fusion")]
fn updated_spec(step: &SgdStepMetadata) -> SgdUpdatedMetadata {
    use burn::backend::fusion::custom::TensorSpec;

    use crate::backend::OptionalMetadata;

    let tensor = step.tensor.clone();
    let velocity = match step.options.momentum {
        None => OptionalMetadata::Absent,
        Some(_) => {
            let len = tensor.shape.num_elements();
            OptionalMetadata::Present(TensorSpec::new([len].into(), tensor.dtype))
        }
    };
    SgdUpdatedMetadata { tensor, velocity }
}
