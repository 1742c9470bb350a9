//! A dense step is one kernel. A step of rows is two, its norm three: the first links lookups of the same row, so that
//! their sum has one order, without atomics.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{SgdBackend, SgdOptions};
use crate::cube::{
    cubes, empty, grid, into_contiguous, owned, sum_of_cube, types, units_of_cube, wide,
};
use crate::square_norm::add_up;

#[cube(launch)]
fn step<F: Float, A: Float>(
    values: &mut [F],
    gradient: &[F],
    scale: &[F],
    learning_rate: InputScalar,
    coupled_decay: InputScalar,
    kept: InputScalar,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let at = ABSOLUTE_POS;
    if at < values.len() {
        let value = A::cast_from(values[at]);
        let gradient = A::cast_from(scale[0]) * A::cast_from(gradient[at]);
        let gradient = gradient + coupled_decay.get::<A>() * value;
        let value = value * kept.get::<A>() - learning_rate.get::<A>() * gradient;
        values[at] = F::cast_from(value);
    }
}

/// For each lookup, whether it is the first of its row, and one more than the next of that row, or 0.
#[cube(launch)]
fn link<I: Int>(rows: &[I], first: &mut [u32], next: &mut [u32], #[define(I)] _type: ElemType) {
    let lookup = ABSOLUTE_POS;
    if lookup >= rows.len() {
        terminate!();
    }
    let row = rows[lookup];
    let mut is_first = 1u32;
    for earlier in 0..lookup {
        if rows[earlier] == row {
            is_first = 0u32;
        }
    }
    let mut later = lookup + 1;
    while later < rows.len() && rows[later] != row {
        later += 1;
    }
    first[lookup] = is_first;
    next[lookup] = select(later < rows.len(), later as u32 + 1u32, 0u32);
}

/// Sum of the values in one column of `lookup` and all later ones of its row.
#[cube]
fn sum_of_row<F: Float, A: Float>(
    values: &[F],
    next: &[u32],
    lookup: usize,
    column: usize,
    width: usize,
) -> A {
    let mut sum = A::cast_from(values[lookup * width + column]);
    let mut link = next[lookup];
    while link > 0u32 {
        let later = (link - 1u32) as usize;
        sum += A::cast_from(values[later * width + column]);
        link = next[later];
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
    scale: &[F],
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
        let gradient =
            A::cast_from(scale[0]) * sum_of_row::<F, A>(values, next, lookup, column, width);
        let at = usize::cast_from(rows[lookup]) * width + column;
        let value = A::cast_from(tensor[at]) - learning_rate.get::<A>() * gradient;
        tensor[at] = F::cast_from(value);
    }
}

/// The sum of squares of each cube's share.
#[cube(launch)]
fn sums_of_squares<F: Float, A: Float>(
    values: &[F],
    first: &[u32],
    next: &[u32],
    sums: &mut [A],
    #[comptime] units: usize,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let cube = CUBE_POS as usize;
    if cube >= sums.len() {
        terminate!();
    }
    let width = values.len() / next.len();
    let mut sum = A::new(0.0);
    let mut index = cube * units + UNIT_POS as usize;
    while index < values.len() {
        let lookup = index / width;
        if first[lookup] == 1u32 {
            let value = sum_of_row::<F, A>(values, next, lookup, index % width, width);
            sum += value * value;
        }
        index += sums.len() * units;
    }
    let sum = sum_of_cube::<A>(sum, units);
    if UNIT_POS == 0 {
        sums[cube] = sum;
    }
}

/// Of each lookup, whether it is the first of its row, and the next one.
fn links(rows: &CubeTensor) -> [CubeTensor; 2] {
    let lookups = rows.meta.num_elements();
    let [first, next] = [(); 2].map(|()| empty(rows, [lookups], DType::U32));
    let (count, dim) = grid(&rows.client, lookups);
    link::launch(
        &rows.client,
        count,
        dim,
        rows.clone().into_buffer_arg(),
        first.clone().into_buffer_arg(),
        next.clone().into_buffer_arg(),
        dtype_to_storage_type(rows.dtype),
    );
    [first, next]
}

impl SgdBackend for CubeBackend {
    fn sgd_step(
        tensor: CubeTensor,
        gradient: CubeTensor,
        scale: CubeTensor,
        options: SgdOptions,
    ) -> CubeTensor {
        let SgdOptions { learning_rate, coupled_decay, decoupled_decay } = options;
        let tensor = owned(tensor);
        let types = types(&tensor);
        let number = |number: f64| InputScalar::new(number, types[1]);
        let (count, dim) = grid(&tensor.client, tensor.meta.num_elements());
        step::launch(
            &tensor.client,
            count,
            dim,
            tensor.clone().into_buffer_arg(),
            into_contiguous(gradient).into_buffer_arg(),
            scale.into_buffer_arg(),
            number(learning_rate),
            number(coupled_decay),
            number(1.0 - decoupled_decay),
            types,
        );
        tensor
    }

    fn sgd_rows(
        tensor: CubeTensor,
        values: CubeTensor,
        rows: CubeTensor,
        scale: CubeTensor,
        learning_rate: f64,
    ) -> CubeTensor {
        let tensor = owned(tensor);
        let [values, rows] = [values, rows].map(into_contiguous);
        let [first, next] = links(&rows);
        let [own, arithmetic] = types(&tensor);
        let (count, dim) = grid(&tensor.client, values.meta.num_elements());
        let index = dtype_to_storage_type(rows.dtype);
        step_rows::launch(
            &tensor.client,
            count,
            dim,
            tensor.clone().into_buffer_arg(),
            values.into_buffer_arg(),
            rows.into_buffer_arg(),
            first.into_buffer_arg(),
            next.into_buffer_arg(),
            scale.into_buffer_arg(),
            InputScalar::new(learning_rate, arithmetic),
            [own, arithmetic, index],
        );
        tensor
    }

    fn rows_square_norm(values: CubeTensor, rows: CubeTensor, _num_rows: usize) -> CubeTensor {
        /// Cubes that share the first sum.
        const CUBES: usize = 512;

        let [values, rows] = [values, rows].map(into_contiguous);
        let [first, next] = links(&rows);
        let types = types(&values);
        let client = values.client.clone();
        let units = units_of_cube(&client);
        let shares = values.meta.num_elements().div_ceil(units).clamp(1, CUBES);
        let sums = empty(&values, [shares], wide(values.dtype));
        let sum = empty(&values, [1], values.dtype);
        sums_of_squares::launch(
            &client,
            cubes(&client, shares),
            CubeDim::new_1d(units as u32),
            values.into_buffer_arg(),
            first.into_buffer_arg(),
            next.into_buffer_arg(),
            sums.clone().into_buffer_arg(),
            units,
            types,
        );
        add_up(sums, &sum, types);
        sum
    }
}
