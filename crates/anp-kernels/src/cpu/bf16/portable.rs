use super::tile::{Pair, Sums, TILE};

/// A pair of bfloat16 is two numbers in single precision whose lower halves are zero.
pub(super) fn multiply(left: Pair<'_>, right: Pair<'_>, sums: &mut Sums) {
    let halves = |pair: u32| [f32::from_bits(pair << 16), f32::from_bits(pair & 0xFFFF_0000)];
    for (row, sums) in sums.iter_mut().enumerate() {
        for (column, sum) in sums.iter_mut().enumerate() {
            for (left, right) in left[row / TILE].iter().zip(right[column / TILE]) {
                for pair in 0..TILE {
                    let [first, second] = halves(left[row % TILE * TILE + pair]);
                    let [other_first, other_second] = halves(right[pair * TILE + column % TILE]);
                    *sum += first * other_first + second * other_second;
                }
            }
        }
    }
}
