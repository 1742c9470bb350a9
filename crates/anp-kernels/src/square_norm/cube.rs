//! Two kernels forward, so that each unit adds up few values and the sums then form a tree; one backward.

use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::SquareNormBackend;
use crate::cube::{cubes, empty, grid, into_contiguous, sum_of_cube, types, units_of_cube, wide};

/// Cubes that share the first sum.
const CUBES: usize = 512;

/// The sum of squares of each cube's share.
#[cube(launch)]
fn sums_of_squares<F: Float, A: Float>(
    values: &[F],
    sums: &mut [A],
    #[comptime] units: usize,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let cube = CUBE_POS as usize;
    if cube >= sums.len() {
        terminate!();
    }
    let mut sum = A::new(0.0);
    let mut index = cube * units + UNIT_POS as usize;
    while index < values.len() {
        let value = A::cast_from(values[index]);
        sum += value * value;
        index += sums.len() * units;
    }
    let sum = sum_of_cube::<A>(sum, units);
    if UNIT_POS == 0 {
        sums[cube] = sum;
    }
}

/// The sum of all.
#[cube(launch)]
fn total<F: Float, A: Float>(
    sums: &[A],
    total: &mut [F],
    #[comptime] units: usize,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let mut sum = A::new(0.0);
    let mut index = UNIT_POS as usize;
    while index < sums.len() {
        sum += sums[index];
        index += units;
    }
    let sum = sum_of_cube::<A>(sum, units);
    if UNIT_POS == 0 {
        total[0] = F::cast_from(sum);
    }
}

#[cube(launch)]
fn twice<F: Float, A: Float>(
    values: &[F],
    upstream: &[F],
    gradient: &mut [F],
    #[define(F, A)] _types: [ElemType; 2],
) {
    if ABSOLUTE_POS < values.len() {
        let factor = A::new(2.0) * A::cast_from(upstream[0]);
        gradient[ABSOLUTE_POS] = F::cast_from(factor * A::cast_from(values[ABSOLUTE_POS]));
    }
}

/// `Σ x²` of values that lie one after the other: `[1]`.
fn square_norm(tensor: CubeTensor) -> CubeTensor {
    let types = types(&tensor);
    let client = tensor.client.clone();
    let units = units_of_cube(&client);
    let shares = tensor.meta.num_elements().div_ceil(units).clamp(1, CUBES);
    let sums = empty(&tensor, [shares], wide(tensor.dtype));
    let sum = empty(&tensor, [1], tensor.dtype);
    sums_of_squares::launch(
        &client,
        cubes(&client, shares),
        CubeDim::new_1d(units as u32),
        tensor.into_buffer_arg(),
        sums.clone().into_buffer_arg(),
        units,
        types,
    );
    add_up(sums, &sum, types);
    sum
}

/// Write the sum of all `sums` to `sum`.
pub(crate) fn add_up(sums: CubeTensor, sum: &CubeTensor, types: [ElemType; 2]) {
    let client = sums.client.clone();
    let units = units_of_cube(&client);
    total::launch(
        &client,
        CubeCount::new_single(),
        CubeDim::new_1d(units as u32),
        sums.into_buffer_arg(),
        sum.clone().into_buffer_arg(),
        units,
        types,
    );
}

impl SquareNormBackend for CubeBackend {
    fn square_norm(tensor: CubeTensor) -> CubeTensor {
        square_norm(into_contiguous(tensor))
    }

    fn square_norm_backward(tensor: CubeTensor, upstream: CubeTensor) -> CubeTensor {
        let tensor = into_contiguous(tensor);
        let gradient = empty(&tensor, tensor.meta.shape().clone(), tensor.dtype);
        let (count, dim) = grid(&tensor.client, tensor.meta.num_elements());
        let (client, types) = (tensor.client.clone(), types(&tensor));
        twice::launch(
            &client,
            count,
            dim,
            tensor.into_buffer_arg(),
            upstream.into_buffer_arg(),
            gradient.clone().into_buffer_arg(),
            types,
        );
        gradient
    }
}
