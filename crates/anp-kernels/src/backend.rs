//! What all operations share: optional tensors, device checks and shape checks.

#[cfg(feature = "fusion")]
pub(crate) use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, DispatchDevice, ExtensionType};
use burn::tensor::{Device, Shape};

use crate::precision::MatmulPrecision;

/// A tensor that may be absent, as an input or output of a backend's operation.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub enum Optional<B: Backend> {
    /// There is no tensor.
    Absent,
    /// The tensor.
    Present(FloatTensor<B>),
}

impl<B: Backend> Optional<B> {
    pub(crate) fn map<C: Backend>(
        self,
        f: impl FnOnce(FloatTensor<B>) -> FloatTensor<C>,
    ) -> Optional<C> {
        match self {
            Self::Absent => Optional::Absent,
            Self::Present(tensor) => Optional::Present(f(tensor)),
        }
    }

    pub(crate) fn into_option(self) -> Option<FloatTensor<B>> {
        match self {
            Self::Absent => None,
            Self::Present(tensor) => Some(tensor),
        }
    }
}

impl<B: Backend> From<Option<FloatTensor<B>>> for Optional<B> {
    fn from(tensor: Option<FloatTensor<B>>) -> Self {
        tensor.map_or(Self::Absent, Self::Present)
    }
}

/// Whether `device` is a CPU backend that this build has fused operations for.
pub(crate) fn is_cpu(device: &Device) -> bool {
    match without_autodiff(device) {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => true,
        #[cfg(feature = "ndarray")]
        DispatchDevice::NdArray(_) => true,
        #[allow(unreachable_patterns)]
        _ => false,
    }
}

/// Whether `device` is a CubeCL backend that this build has fused operations for.
pub(crate) fn is_cube(device: &Device) -> bool {
    match without_autodiff(device) {
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(_) => true,
        _ => false,
    }
}

/// Whether this build has fused operations for `device`, on a CPU or through CubeCL.
pub(crate) fn is_cpu_or_cube(device: &Device) -> bool {
    is_cpu(device) || is_cube(device)
}

/// Whether this build has a fused operation for `device` with products of this precision: GPUs have
/// none for rounded operands.
pub(crate) fn has_kernel(device: &Device, precision: MatmulPrecision) -> bool {
    is_cpu(device) || is_cube(device) && precision == MatmulPrecision::Full
}

fn without_autodiff(device: &Device) -> &DispatchDevice {
    match device.as_dispatch() {
        DispatchDevice::Autodiff(device) => device,
        device => device,
    }
}

/// Panic unless the tensor called `name` has the shape `expected`.
#[track_caller]
pub(crate) fn check_shape(operation: &str, name: &str, actual: &Shape, expected: &[usize]) {
    assert!(
        actual.as_slice() == expected,
        "{operation}: `{name}` has the shape {:?}, but {expected:?} is needed",
        actual.as_slice()
    );
}

/// Panic unless all named tensors are on one device and of one data type.
macro_rules! check_alike {
    ($operation:expr, $first:ident $(, $other:ident)* $(,)?) => {
        $(
            assert!(
                $other.device() == $first.device(),
                "{}: `{}` is on {:?}, but `{}` on {:?}",
                $operation, stringify!($other), $other.device(), stringify!($first), $first.device()
            );
            assert!(
                $other.dtype() == $first.dtype(),
                "{}: `{}` is of {:?}, but `{}` of {:?}",
                $operation, stringify!($other), $other.dtype(), stringify!($first), $first.dtype()
            );
        )*
    };
}
pub(crate) use check_alike;

/// Metadata of a tensor with the given shape and the data type of `like`, for Burn's fusion.
#[cfg(feature = "fusion")]
pub(crate) fn spec(like: &TensorSpec, shape: impl Into<Shape>) -> TensorSpec {
    TensorSpec::new(shape.into(), like.dtype)
}

/// Metadata of the states of all steps, `[seq_length, batch_size, d_hidden]`.
///
/// `steps` is a tensor with the length of the sequence, `state` has the shape of one state.
#[cfg(feature = "fusion")]
pub(crate) fn sequence_spec(steps: &TensorSpec, state: &TensorSpec) -> TensorSpec {
    spec(steps, [steps.shape[0], state.shape[0], state.shape[1]])
}
