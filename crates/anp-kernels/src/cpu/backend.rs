//! Tensors of the CPU backends as slices: what Flex and NdArray have in common.

use std::ops::Deref;

use burn::backend::tensor::{Device, FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, Element, Shape, TensorData, read_sync};

use crate::backend::Optional;
use crate::cpu::recurrent;
use crate::cpu::scalar::Scalar;
use crate::precision::MatmulPrecision;
use crate::recurrence::Recurrence;

/// A scalar that both the kernels and Burn support: `f32` or `f64`.
pub(crate) trait CpuScalar: Scalar + Element + bytemuck::Pod {}

impl CpuScalar for f32 {}
impl CpuScalar for f64 {}

/// A backend whose tensors are in main memory.
///
/// Half-precision tensors are widened to `f32` when read; [`Like`] narrows the results.
pub(crate) trait CpuBackend: Backend {
    /// The values of a tensor.
    type Values<E: CpuScalar>: Deref<Target = [E]>;

    /// The values of a tensor of type `E` in row-major order, not copied if they already are.
    fn contiguous<E: CpuScalar>(tensor: FloatTensor<Self>) -> Self::Values<E>;

    /// The values of a tensor of any type in row-major order, copied only if necessary.
    fn values<E: CpuScalar>(tensor: FloatTensor<Self>) -> Self::Values<E> {
        Self::contiguous(as_type::<Self>(tensor, E::dtype()))
    }

    /// The values of a tensor that may be absent.
    fn optional<E: CpuScalar>(tensor: Optional<Self>) -> Option<Self::Values<E>> {
        tensor.into_option().map(Self::values)
    }

    /// The values of a tensor as a buffer to overwrite, not copied if no one else holds them.
    fn owned<E: CpuScalar>(tensor: FloatTensor<Self>) -> Vec<E> {
        let tensor = as_type::<Self>(tensor, E::dtype());
        let data = read_sync(Self::float_into_data(tensor)).expect("main memory can be read");
        data.try_into_vec().expect("the tensor is of this type")
    }

    /// Indices. A negative one becomes `usize::MAX`, which is out of range everywhere.
    fn indices(tensor: IntTensor<Self>) -> Vec<usize> {
        let data = read_sync(Self::int_into_data(tensor)).expect("main memory can be read");
        data.iter::<i64>().map(|index| usize::try_from(index).unwrap_or(usize::MAX)).collect()
    }
}

fn as_type<B: Backend>(tensor: FloatTensor<B>, dtype: DType) -> FloatTensor<B> {
    if tensor.dtype() == dtype { tensor } else { B::float_cast(tensor, dtype.into()) }
}

/// The device and data type of results.
pub(crate) struct Like<B: Backend> {
    device: Device<B>,
    dtype: DType,
}

impl<B: CpuBackend> Like<B> {
    pub(crate) fn new(tensor: &FloatTensor<B>) -> Self {
        Self { device: tensor.device(), dtype: tensor.dtype() }
    }

    /// A tensor of these values, not copied.
    pub(crate) fn tensor<E: CpuScalar>(
        &self,
        values: Vec<E>,
        shape: impl Into<Shape>,
    ) -> FloatTensor<B> {
        let data = TensorData::new(values, shape.into());
        as_type::<B>(B::float_from_data(data, &self.device), self.dtype)
    }
}

#[cfg(feature = "flex")]
mod flex {
    use std::marker::PhantomData;

    use burn::backend::Flex;
    use burn_flex::FlexTensor;

    use super::*;

    pub(crate) struct FlexValues<E> {
        contiguous: FlexTensor,
        element: PhantomData<E>,
    }

    impl<E: CpuScalar> Deref for FlexValues<E> {
        type Target = [E];

        fn deref(&self) -> &[E] {
            self.contiguous.as_slice().expect("it is contiguous and of this type")
        }
    }

    impl CpuBackend for Flex {
        type Values<E: CpuScalar> = FlexValues<E>;

        fn contiguous<E: CpuScalar>(tensor: FloatTensor<Self>) -> FlexValues<E> {
            FlexValues { contiguous: tensor.to_contiguous(), element: PhantomData }
        }
    }
}

#[cfg(feature = "ndarray")]
impl CpuBackend for burn::backend::NdArray {
    type Values<E: CpuScalar> = Vec<E>;

    fn contiguous<E: CpuScalar>(tensor: FloatTensor<Self>) -> Vec<E> {
        Self::owned(tensor)
    }
}

/// The values of a [`Recurrence`].
pub(crate) struct RecurrenceValues<B: CpuBackend, E: CpuScalar> {
    weight_hidden: B::Values<E>,
    mask: Option<B::Values<E>>,
    hidden0: B::Values<E>,
    precision: MatmulPrecision,
}

impl<B: CpuBackend, E: CpuScalar> RecurrenceValues<B, E> {
    pub(crate) fn new(recurrence: Recurrence<B>) -> Self {
        let Recurrence { weight_hidden, mask, hidden0, precision } = recurrence;
        Self {
            weight_hidden: B::values(weight_hidden),
            mask: B::optional(mask),
            hidden0: B::values(hidden0),
            precision,
        }
    }

    pub(crate) fn slices(&self, dims: recurrent::Dims) -> recurrent::Recurrence<'_, E> {
        let Self { weight_hidden, mask, hidden0, precision } = self;
        recurrent::Recurrence::new(dims, weight_hidden, mask.as_deref(), hidden0)
            .with_precision(*precision)
    }
}

/// The number of threads a kernel may use: those of the pool it is called in.
pub(crate) fn threads() -> usize {
    rayon::current_num_threads()
}

/// Call `$kernel::<$backend, E>`, where `E` is the scalar that tensors of `$dtype` are computed in.
macro_rules! with_scalar {
    ($dtype:expr, $kernel:ident::<$backend:ty>($($argument:expr),* $(,)?)) => {
        match $dtype {
            burn::tensor::DType::F64 => $kernel::<$backend, f64>($($argument),*),
            _ => $kernel::<$backend, f32>($($argument),*),
        }
    };
}
pub(crate) use with_scalar;
