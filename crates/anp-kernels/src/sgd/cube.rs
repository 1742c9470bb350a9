//! A step of a dense gradient is one kernel. A step of rows takes two kernels, their norm three:
//! the first one links the lookups of each row, so that their values are added in order and without
//! atomics. It compares every two lookups, which is little for the thousands of lookups in a
//! window.

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{SgdBackend, SgdOptions, SgdRows, SgdStep, SgdUpdated};
use crate::backend::Optional;
use crate::cube::reduce::{add_up, shares};
use crate::cube::{empty, grid, into_contiguous, owned, sum_of_cube, types, wide};

#[cube(launch)]
fn step<F: Float, A: Float>(
    values: &mut [F],
    gradient: &[F],
    scale: &[A],
    learning_rate: InputScalar,
    coupled_decay: InputScalar,
    kept: InputScalar,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let at = ABSOLUTE_POS;
    if at < values.len() {
        let value = A::cast_from(values[at]);
        let gradient = scale[0] * A::cast_from(gradient[at]) + coupled_decay.get::<A>() * value;
        values[at] = F::cast_from(value * kept.get::<A>() - learning_rate.get::<A>() * gradient);
    }
}

/// The same with a velocity, which is not set before the `first` step and then becomes the
/// gradient.
#[cube(launch)]
fn momentum_step<F: Float, A: Float>(
    values: &mut [F],
    gradient: &[F],
    velocity: &mut [F],
    scale: &[A],
    learning_rate: InputScalar,
    coupled_decay: InputScalar,
    kept: InputScalar,
    factor: InputScalar,
    undamped: InputScalar,
    #[comptime] first: bool,
    #[comptime] nesterov: bool,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let at = ABSOLUTE_POS;
    if at < values.len() {
        let value = A::cast_from(values[at]);
        let gradient = scale[0] * A::cast_from(gradient[at]) + coupled_decay.get::<A>() * value;
        let mut moved = gradient;
        if comptime!(!first) {
            moved = factor.get::<A>() * A::cast_from(velocity[at]) + undamped.get::<A>() * gradient;
        }
        let mut direction = moved;
        if comptime!(nesterov) {
            direction = gradient + factor.get::<A>() * moved;
        }
        velocity[at] = F::cast_from(moved);
        values[at] = F::cast_from(value * kept.get::<A>() - learning_rate.get::<A>() * direction);
    }
}

/// The first lookup of `row` from `from` on, or `to`.
#[cube]
fn find<I: Int>(rows: &[I], row: I, from: usize, to: usize) -> usize {
    let mut lookup = from;
    while lookup < to && rows[lookup] != row {
        lookup += 1;
    }
    lookup
}

/// For each lookup, whether it is the first of its row, and the next lookup of that row, or the
/// number of lookups if there is none.
///
/// A lookup of a row that does not exist is not a first one.
#[cube(launch)]
fn link<I: Int>(
    rows: &[I],
    first: &mut [u32],
    next: &mut [u32],
    num_rows: u32,
    #[define(I)] _type: ElemType,
) {
    let lookup = ABSOLUTE_POS;
    if lookup >= rows.len() {
        terminate!();
    }
    let row = rows[lookup];
    let is_there = usize::cast_from(row) < num_rows as usize;
    let is_first = is_there && find::<I>(rows, row, 0, lookup) == lookup;
    first[lookup] = u32::cast_from(is_first);
    next[lookup] = find::<I>(rows, row, lookup + 1, rows.len()) as u32;
}

/// Sum over `lookup` and all later lookups of its row of the values in one column.
#[cube]
fn sum_of_row<F: Float, A: Float>(
    values: &[F],
    next: &[u32],
    lookup: usize,
    column: usize,
    width: usize,
) -> A {
    let mut sum = A::new(0.0);
    let mut lookup = lookup;
    while lookup < next.len() {
        sum += A::cast_from(values[lookup * width + column]);
        lookup = next[lookup] as usize;
    }
    sum
}

#[cube(launch)]
fn step_rows<F: Float, A: Float, I: Int>(
    tensor: &mut [F],
    values: &[F],
    rows: &[I],
    first: &[u32],
    next: &[u32],
    scale: &[A],
    learning_rate: InputScalar,
    #[define(F, A, I)] _types: [ElemType; 3],
) {
    if ABSOLUTE_POS >= values.len() {
        terminate!();
    }
    let width = values.len() / rows.len();
    let lookup = ABSOLUTE_POS / width;
    let column = ABSOLUTE_POS % width;
    if first[lookup] == 1u32 {
        let gradient = scale[0] * sum_of_row::<F, A>(values, next, lookup, column, width);
        let at = usize::cast_from(rows[lookup]) * width + column;
        tensor[at] = F::cast_from(A::cast_from(tensor[at]) - learning_rate.get::<A>() * gradient);
    }
}

/// The sum of squares of each cube's share.
#[cube(launch)]
fn sums_of_row_squares<F: Float, A: Float>(
    values: &[F],
    first: &[u32],
    next: &[u32],
    sums: &mut [A],
    #[comptime] units: usize,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let width = values.len() / next.len();
    let mut sum = A::new(0.0);
    let mut index = ABSOLUTE_POS;
    while index < values.len() {
        let lookup = index / width;
        if first[lookup] == 1u32 {
            let value = sum_of_row::<F, A>(values, next, lookup, index % width, width);
            sum += value * value;
        }
        index += CUBE_COUNT * units;
    }
    let sum = sum_of_cube::<A>(sum, units);
    if UNIT_POS == 0 {
        sums[CUBE_POS] = sum;
    }
}

/// The results of [`link`].
fn links(rows: &CubeTensor, num_rows: usize) -> [CubeTensor; 2] {
    let [num_lookups] = rows.shape().dims();
    let [first, next] = [(); 2].map(|()| empty(rows, [num_lookups], DType::U32));
    let (count, dim) = grid(&rows.client, num_lookups);
    link::launch(
        &rows.client,
        count,
        dim,
        rows.clone().into_buffer_arg(),
        first.clone().into_buffer_arg(),
        next.clone().into_buffer_arg(),
        num_rows as u32,
        dtype_to_storage_type(rows.dtype),
    );
    [first, next]
}

/// The scale in the type that a kernel computes with.
fn wide_scale(scale: CubeTensor, tensor: &CubeTensor) -> CubeTensor {
    CubeBackend::float_cast(scale, wide(tensor.dtype).into())
}

impl SgdBackend for CubeBackend {
    fn sgd_step(inputs: SgdStep<Self>) -> SgdUpdated<Self> {
        let SgdStep { tensor, gradient, scale, velocity, options } = inputs;
        let SgdOptions { learning_rate, coupled_decay, decoupled_decay, momentum } = options;
        let tensor = owned(tensor);
        let len = tensor.shape().num_elements();
        let types = types(&tensor);
        let number = |number: f64| InputScalar::new(number, types[1]);
        let (count, dim) = grid(&tensor.client, len);
        let Some(momentum) = momentum else {
            step::launch(
                &tensor.client,
                count,
                dim,
                tensor.clone().into_buffer_arg(),
                into_contiguous(gradient).into_buffer_arg(),
                wide_scale(scale, &tensor).into_buffer_arg(),
                number(learning_rate),
                number(coupled_decay),
                number(1.0 - decoupled_decay),
                types,
            );
            return SgdUpdated { tensor, velocity: Optional::Absent };
        };
        let velocity = velocity.into_option().map(owned);
        let first = velocity.is_none();
        let velocity = velocity.unwrap_or_else(|| empty(&tensor, [len], tensor.dtype));
        momentum_step::launch(
            &tensor.client,
            count,
            dim,
            tensor.clone().into_buffer_arg(),
            into_contiguous(gradient).into_buffer_arg(),
            velocity.clone().into_buffer_arg(),
            wide_scale(scale, &tensor).into_buffer_arg(),
            number(learning_rate),
            number(coupled_decay),
            number(1.0 - decoupled_decay),
            number(momentum.factor),
            number(1.0 - momentum.dampening),
            first,
            momentum.nesterov,
            types,
        );
        SgdUpdated { tensor, velocity: Optional::Present(velocity) }
    }

    fn sgd_rows(step: SgdRows<Self>) -> CubeTensor {
        let SgdRows { tensor, values, rows, scale, learning_rate } = step;
        let tensor = owned(tensor);
        let [values, rows] = [values, rows].map(into_contiguous);
        let [first, next] = links(&rows, tensor.shape()[0]);
        let [own, arithmetic] = types(&tensor);
        let index = dtype_to_storage_type(rows.dtype);
        let (count, dim) = grid(&tensor.client, values.shape().num_elements());
        step_rows::launch(
            &tensor.client,
            count,
            dim,
            tensor.clone().into_buffer_arg(),
            values.into_buffer_arg(),
            rows.into_buffer_arg(),
            first.into_buffer_arg(),
            next.into_buffer_arg(),
            wide_scale(scale, &tensor).into_buffer_arg(),
            InputScalar::new(learning_rate, arithmetic),
            [own, arithmetic, index],
        );
        tensor
    }

    fn rows_square_norm(values: CubeTensor, rows: CubeTensor, num_rows: usize) -> CubeTensor {
        let [values, rows] = [values, rows].map(into_contiguous);
        let [first, next] = links(&rows, num_rows);
        let (client, types, wide) = (values.client.clone(), types(&values), wide(values.dtype));
        let (cubes, units) = shares(&client, values.shape().num_elements());
        let sums = empty(&values, [cubes], wide);
        let sum = empty(&values, [1], wide);
        sums_of_row_squares::launch(
            &client,
            CubeCount::new_1d(cubes as u32),
            CubeDim::new_1d(units as u32),
            values.into_buffer_arg(),
            first.into_buffer_arg(),
            next.into_buffer_arg(),
            sums.clone().into_buffer_arg(),
            units,
            types,
        );
        add_up(sums, &sum, [types[1]; 2]);
        sum
    }
}
