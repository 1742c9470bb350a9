use super::tile::{Product, Sums, TILE};

/// A number of bfloat16 is one in single precision whose lower half is zero.
pub(super) fn multiply(product: Product<'_>, rows: usize, sums: &mut Sums) {
    let Product { left, right, steps } = product;
    let number = |bits: u16| f32::from_bits(u32::from(bits) << 16);
    for (row, sums) in sums.iter_mut().take(rows).enumerate() {
        let left_numbers = &left.numbers[row / TILE][row % TILE * left.line..];
        for (column, sum) in sums.iter_mut().enumerate() {
            let right_numbers = &right.numbers[column / TILE][2 * (column % TILE)..];
            for &[left_offset, right_offset] in steps.offsets() {
                for pair in 0..TILE {
                    let left = &left_numbers[left_offset + 2 * pair..];
                    let right = &right_numbers[right_offset + pair * right.line..];
                    *sum += number(left[0]) * number(right[0]) + number(left[1]) * number(right[1]);
                }
            }
        }
    }
}
