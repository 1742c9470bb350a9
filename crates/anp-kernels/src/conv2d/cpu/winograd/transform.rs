//! The transforms of the algorithm, with the letters of [`winograd`](super).

use std::array;
use std::mem::MaybeUninit;

use pulp::Simd;

use super::points::{POINTS, SIDE};
use crate::cpu::scalar::Scalar;

/// `G` times three numbers.
#[inline(always)]
fn spread_taps<E: Scalar>([a, b, c]: [E; 3]) -> [E; SIDE] {
    let half = E::from_f64(0.5);
    [a, half * (a + c + b), half * (a + c - b), c]
}

/// `Gᵀ` times four numbers.
#[inline(always)]
fn gather_taps<E: Scalar>([a, b, c, d]: [E; SIDE]) -> [E; 3] {
    let half = E::from_f64(0.5);
    let (sum, difference) = (half * (b + c), half * (b - c));
    [a + sum, difference, sum + d]
}

/// `G g Gᵀ` of taps `[9, columns]`, and zeros after them.
#[inline(always)]
pub(super) fn points_of_taps<E: Scalar>(taps: &[E], mut points: [&mut [MaybeUninit<E>]; POINTS]) {
    let columns = taps.len() / 9;
    let taps: [&[E]; 9] = array::from_fn(|tap| &taps[tap * columns..][..columns]);
    // One row of points at a time: the compiler vectorises only loops over few slices.
    let (points, _) = points.as_chunks_mut::<SIDE>();
    for (i, row) in points.iter_mut().enumerate() {
        let [p0, p1, p2, p3] = row.each_mut().map(|points| {
            let (points, gap) = points.split_at_mut(columns);
            gap.fill(MaybeUninit::new(E::ZERO));
            points
        });
        for column in 0..columns {
            let [a, b, c] = [
                spread_taps([taps[0][column], taps[3][column], taps[6][column]])[i],
                spread_taps([taps[1][column], taps[4][column], taps[7][column]])[i],
                spread_taps([taps[2][column], taps[5][column], taps[8][column]])[i],
            ];
            let [a, b, c, d] = spread_taps([a, b, c]);
            p0[column].write(a);
            p1[column].write(b);
            p2[column].write(c);
            p3[column].write(d);
        }
    }
}

/// `Bᵀ` times `N` tiles of a row.
#[inline(always)]
pub(super) fn row_of_points<E: Scalar, const N: usize>(row: &[E]) -> [[E; N]; SIDE] {
    assert_eq!(row.len(), 2 * N + 2, "a tile sees four positions");
    let mut points = [[E::ZERO; N]; SIDE];
    for tile in 0..N {
        let [a, b, c, d] = [row[2 * tile], row[2 * tile + 1], row[2 * tile + 2], row[2 * tile + 3]];
        points[0][tile] = a - c;
        points[1][tile] = b + c;
        points[2][tile] = c - b;
        points[3][tile] = b - d;
    }
    points
}

/// `Aᵀ m A` of `N` tiles: two rows of positions.
#[inline(always)]
pub(super) fn positions_of_tiles<E: Scalar, const N: usize>(
    products: [&[E]; POINTS],
    bias: E,
) -> [[[E; 2]; N]; 2] {
    for products in products {
        assert_eq!(products.len(), N, "as many tiles at each point");
    }
    let mut positions = [[[E::ZERO; 2]; N]; 2];
    for tile in 0..N {
        let mut columns = [[E::ZERO; SIDE]; 2];
        for j in 0..SIDE {
            let (upper, lower) = (products[SIDE + j][tile], products[2 * SIDE + j][tile]);
            columns[0][j] = products[j][tile] + upper + lower;
            columns[1][j] = upper - lower - products[3 * SIDE + j][tile];
        }
        for (positions, [a, b, c, d]) in positions.iter_mut().zip(columns) {
            positions[tile] = [a + bias + b + c, b + bias - c - d];
        }
    }
    positions
}

/// `Bᵀ` times four vectors.
// Without `map` and `from_fn`, which would be compiled for the baseline.
#[inline(always)]
pub(super) fn vectors_of_points<E: Scalar, S: Simd>(
    simd: S,
    [a, b, c, d]: [E::Vector<S>; SIDE],
) -> [E::Vector<S>; SIDE] {
    let one = E::splat(simd, E::ONE);
    let minus = E::splat(simd, -E::ONE);
    [
        E::mul_add(simd, minus, c, a),
        E::mul_add(simd, one, b, c),
        E::mul_add(simd, minus, b, c),
        E::mul_add(simd, minus, d, b),
    ]
}

/// `A ∂y Aᵀ` of `N` tiles.
#[inline(always)]
pub(super) fn points_of_positions<E: Scalar, const N: usize>(
    positions: &[[[E; 2]; N]; 2],
) -> [[[E; N]; SIDE]; SIDE] {
    let mut points = [[[E::ZERO; N]; SIDE]; SIDE];
    for tile in 0..N {
        let [[a, b], [c, d]] = [positions[0][tile], positions[1][tile]];
        let columns = [[a, c], [a + b, c + d], [a - b, c - d], [-b, -d]];
        for (j, [upper, lower]) in columns.into_iter().enumerate() {
            points[0][j][tile] = upper;
            points[1][j][tile] = upper + lower;
            points[2][j][tile] = upper - lower;
            points[3][j][tile] = -lower;
        }
    }
    points
}

/// `Gᵀ s G`, one kernel per input channel: `[columns, 9]`.
#[inline(always)]
pub(super) fn taps_of_points<E: Scalar>(points: &[Vec<E>; POINTS], taps: &mut [E]) {
    let columns = taps.len() / 9;
    let points = points.each_ref().map(|points| &points[..columns]);
    for (column, taps) in taps.chunks_exact_mut(9).enumerate() {
        let mut rows = [[E::ZERO; 3]; SIDE];
        for (i, row) in rows.iter_mut().enumerate() {
            let at = SIDE * i;
            *row = gather_taps([
                points[at][column],
                points[at + 1][column],
                points[at + 2][column],
                points[at + 3][column],
            ]);
        }
        for x in 0..3 {
            let column = gather_taps([rows[0][x], rows[1][x], rows[2][x], rows[3][x]]);
            for (y, tap) in column.into_iter().enumerate() {
                taps[3 * y + x] = tap;
            }
        }
    }
}
