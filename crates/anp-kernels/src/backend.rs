//! What all operations need of a backend.

#[cfg(feature = "fusion")]
pub(crate) use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, DispatchDevice, ExtensionType};
use burn::tensor::{Device, Shape};

/// A tensor that may be absent, as an input of a backend operation.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub enum Optional<B: Backend> {
    /// It is absent.
    Absent,
    /// It is there.
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

/// Whether `device` is in the host's memory, and this build has fused operations for it.
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

/// Whether `device` is one of CubeCL's, and this build has fused operations for it.
pub(crate) fn is_cube(device: &Device) -> bool {
    match without_autodiff(device) {
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(_) => true,
        _ => false,
    }
}

/// Whether `device` is in the host's memory or one of CubeCL's, and this build has fused operations for it.
pub(crate) fn is_cpu_or_cube(device: &Device) -> bool {
    is_cpu(device) || is_cube(device)
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

/// A tensor of this shape and of the type of another one, as the fusion of CubeCL's backends asks for.
#[cfg(feature = "fusion")]
pub(crate) fn spec(like: &TensorSpec, shape: impl Into<Shape>) -> TensorSpec {
    TensorSpec::new(shape.into(), like.dtype)
}

/// That of the states of all steps, `[seq_length, batch_size, d_hidden]`, from what has the steps and one of the states.
#[cfg(feature = "fusion")]
pub(crate) fn sequence_spec(steps: &TensorSpec, state: &TensorSpec) -> TensorSpec {
    spec(steps, [steps.shape[0], state.shape[0], state.shape[1]])
}
