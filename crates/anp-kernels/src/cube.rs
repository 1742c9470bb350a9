//! What the kernels of CubeCL's runtimes have in common.

pub(crate) mod recurrent;

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Shape};
use burn_cubecl::kernel;
use burn_cubecl::kernel::matmul::MatmulStrategy;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

pub(crate) use burn_cubecl::kernel::into_contiguous;

/// Types of a kernel's tensors and of its arithmetic: tensors of half precision are computed with in single precision.
pub(crate) fn types(tensor: &CubeTensor) -> [ElemType; 2] {
    [tensor.dtype, wide(tensor.dtype)].map(dtype_to_storage_type)
}

/// Type that tensors of `dtype` are computed with.
pub(crate) fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// A tensor in row-major order whose values are not set.
pub(crate) fn empty(like: &CubeTensor, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape.into(), dtype)
}

/// The tensor in row-major order, to be written over: a copy where somebody else holds it.
pub(crate) fn owned(tensor: CubeTensor) -> CubeTensor {
    let tensor = into_contiguous(tensor);
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

/// A kernel's argument that may be absent.
pub(crate) fn optional<T>(tensor: &Option<CubeTensor>) -> ComptimeOptionArgs<T>
where
    T: LaunchArg<RuntimeArg = BufferArg>,
{
    tensor.clone().map(CubeTensor::into_buffer_arg).into()
}

/// Cubes with at least `units` units together.
pub(crate) fn grid(client: &Client, units: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(client, units);
    (calculate_cube_count_elemwise(client, units, dim), dim)
}

/// A matrix product, or one a batch, into `out`.
pub(crate) fn product(lhs: CubeTensor, rhs: CubeTensor, out: &CubeTensor) {
    kernel::matmul::matmul(lhs, rhs, Some(out.clone()), MatmulStrategy::default(), out.dtype)
        .expect("some kernel multiplies any two matrices");
}

#[cube]
pub(crate) fn sigmoid<A: Float>(x: A) -> A {
    A::new(1.0) / (A::new(1.0) + (-x).exp())
}
