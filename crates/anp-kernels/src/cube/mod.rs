//! Tools of the CubeCL kernels.

pub(crate) mod recurrent;
pub(crate) mod reduce;

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Shape};
use burn_cubecl::kernel;
use burn_cubecl::kernel::matmul::MatmulStrategy;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;
use cubecl::server::CubeCountSelection;

pub(crate) use burn_cubecl::kernel::into_contiguous;

/// Types of a kernel's tensors and of its arithmetic, which is in single precision for
/// half-precision tensors.
pub(crate) fn types(tensor: &CubeTensor) -> [ElemType; 2] {
    [tensor.dtype, wide(tensor.dtype)].map(dtype_to_storage_type)
}

/// The type of arithmetic on tensors of `dtype`.
pub(crate) fn wide(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// An uninitialised tensor in row-major order.
pub(crate) fn empty(like: &CubeTensor, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape.into(), dtype)
}

/// The tensor in row-major order as a buffer to overwrite; copied if someone else holds it.
pub(crate) fn owned(tensor: CubeTensor) -> CubeTensor {
    let tensor = into_contiguous(tensor);
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

/// An optional argument of a kernel.
pub(crate) fn optional<T>(tensor: &Option<CubeTensor>) -> ComptimeOptionArgs<T>
where
    T: LaunchArg<RuntimeArg = BufferArg>,
{
    tensor.clone().map(CubeTensor::into_buffer_arg).into()
}

/// Cubes with at least `units` units in total.
pub(crate) fn grid(client: &Client, units: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(client, units);
    (calculate_cube_count_elemwise(client, units, dim), dim)
}

/// Units per cube in kernels that use [`sum_of_cube`]: a power of two.
pub(crate) fn units_of_cube(client: &Client) -> usize {
    let most = client.properties().hardware.max_units_per_cube.min(256);
    1 << most.ilog2()
}

/// At least `cubes` cubes; surplus ones must do nothing.
pub(crate) fn cubes(client: &Client, cubes: usize) -> CubeCount {
    CubeCountSelection::new(client, cubes as u32).cube_count()
}

/// A matrix product, or one for each matrix of a batch, into `out`.
pub(crate) fn matmul_into(lhs: CubeTensor, rhs: CubeTensor, out: &CubeTensor) {
    kernel::matmul::matmul(lhs, rhs, Some(out.clone()), MatmulStrategy::default(), out.dtype)
        .expect("some kernel multiplies any two matrices");
}

#[cube]
pub(crate) fn sigmoid<A: Float>(x: A) -> A {
    A::new(1.0) / (A::new(1.0) + (-x).exp())
}

/// Sum of `value` over the `units` units of a cube, all of which must call this.
#[cube]
pub(crate) fn sum_of_cube<A: Float>(value: A, #[comptime] units: usize) -> A {
    fold_cube::<A>(value, units, false)
}

/// Largest `value` of the `units` units of a cube, all of which must call this.
#[cube]
pub(crate) fn maximum_of_cube<A: Float>(value: A, #[comptime] units: usize) -> A {
    fold_cube::<A>(value, units, true)
}

#[cube]
fn fold_cube<A: Float>(value: A, #[comptime] units: usize, #[comptime] maximum: bool) -> A {
    let mut values = Shared::<[A]>::new_slice(units);
    let unit = UNIT_POS as usize;
    values[unit] = value;
    sync_cube();
    let mut half = comptime!(units / 2).runtime();
    while half > 0 {
        if unit < half {
            let other = values[unit + half];
            if comptime!(maximum) {
                values[unit] = max(values[unit], other);
            } else {
                values[unit] += other;
            }
        }
        sync_cube();
        half /= 2;
    }
    values[0]
}
