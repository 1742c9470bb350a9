//! Sums over all elements: each cube sums a share of them, and one cube sums the results.
//!
//! With cubes of 256 units, a unit adds every 131,072nd element in order, and all further sums form
//! a tree. So the relative error of a sum of `n` squares in single precision is below `(n / 131,072
//! + 19) · 2⁻²⁴`: 6 · 10⁻⁶ for ten million, where adding them in order may lose half of the sum.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{sum_of_cube, units_of_cube};

/// Most cubes that share a sum.
pub(crate) const MOST_CUBES: usize = 512;

/// How many cubes share a sum of `elements` elements, and how many units each has.
pub(crate) fn shares(client: &Client, elements: usize) -> (usize, usize) {
    let units = units_of_cube(client);
    (elements.div_ceil(units).clamp(1, MOST_CUBES), units)
}

/// Write the total of `sums` to `sum`.
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
