//! Forward, two kernels as a [sum](crate::cube::reduce) needs them; several tensors share the
//! second one. Backward, one kernel.

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{SquareNormBackend, SquareSumsBackend};
use crate::cube::reduce::{add_up, shares};
use crate::cube::{empty, grid, into_contiguous, owned, sum_of_cube, types, wide};

/// The sum of squares of each cube's share, written to `sums` or added to them.
#[cube(launch)]
fn sums_of_squares<F: Float, A: Float>(
    values: &[F],
    sums: &mut [A],
    #[comptime] add: bool,
    #[comptime] units: usize,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let mut sum = A::new(0.0);
    let mut index = ABSOLUTE_POS;
    while index < values.len() {
        let value = A::cast_from(values[index]);
        sum += value * value;
        index += CUBE_COUNT * units;
    }
    let sum = sum_of_cube::<A>(sum, units);
    if UNIT_POS == 0 {
        if comptime!(add) {
            sums[CUBE_POS] += sum;
        } else {
            sums[CUBE_POS] = sum;
        }
    }
}

#[cube(launch)]
fn twice<F: Float, A: Float>(
    values: &[F],
    output_grad: &[F],
    gradient: &mut [F],
    #[define(F, A)] _types: [ElemType; 2],
) {
    if ABSOLUTE_POS < values.len() {
        let factor = A::new(2.0) * A::cast_from(output_grad[0]);
        gradient[ABSOLUTE_POS] = F::cast_from(factor * A::cast_from(values[ABSOLUTE_POS]));
    }
}

/// Launch [`sums_of_squares`].
fn launch_sums(tensor: CubeTensor, sums: &CubeTensor, add: bool) {
    let client = tensor.client.clone();
    let (cubes, units) = shares(&client, tensor.shape().num_elements());
    let types = [tensor.dtype, sums.dtype].map(dtype_to_storage_type);
    sums_of_squares::launch(
        &client,
        CubeCount::new_1d(cubes as u32),
        CubeDim::new_1d(units as u32),
        tensor.into_buffer_arg(),
        sums.clone().into_buffer_arg(),
        add,
        units,
        types,
    );
}

impl SquareNormBackend for CubeBackend {
    fn square_norm(tensor: CubeTensor) -> CubeTensor {
        let tensor = into_contiguous(tensor);
        let (types, dtype) = (types(&tensor), tensor.dtype);
        let (cubes, _) = shares(&tensor.client, tensor.shape().num_elements());
        let sums = empty(&tensor, [cubes], wide(dtype));
        let sum = empty(&tensor, [1], dtype);
        launch_sums(tensor, &sums, false);
        add_up(sums, &sum, types);
        sum
    }

    fn square_norm_backward(tensor: CubeTensor, output_grad: CubeTensor) -> CubeTensor {
        let tensor = into_contiguous(tensor);
        let (client, types) = (tensor.client.clone(), types(&tensor));
        let gradient = empty(&tensor, tensor.shape(), tensor.dtype);
        let (count, dim) = grid(&client, tensor.shape().num_elements());
        twice::launch(
            &client,
            count,
            dim,
            tensor.into_buffer_arg(),
            output_grad.into_buffer_arg(),
            gradient.clone().into_buffer_arg(),
            types,
        );
        gradient
    }
}

impl SquareSumsBackend for CubeBackend {
    fn add_squares(sums: CubeTensor, tensor: CubeTensor) -> CubeTensor {
        let sums = owned(sums);
        launch_sums(into_contiguous(tensor), &sums, true);
        sums
    }
}
