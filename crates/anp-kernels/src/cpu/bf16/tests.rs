use super::*;
use crate::cpu::disjoint_slice::DisjointSlice;
use crate::cpu::scalar::Scalar;
use crate::cpu::tests::{narrow, noise};

/// Added to ones in rows that have a gap of three elements behind them.
#[allow(unsafe_code)]
fn product(kernel: Kernel, lhs: Matrix<'_, f32>, rhs: Matrix<'_, f32>, threads: usize) -> Vec<f32> {
    let stride = rhs.columns() + 3;
    let mut out = vec![1.0; lhs.rows() * stride];
    let destination = Destination::Accumulate;
    // SAFETY: there are as many rows of this length as the product has.
    unsafe { matmul(kernel, out.as_mut_ptr(), stride, destination, lhs, rhs, threads) };
    out
}

/// Sizes below, at and above those of tiles, blocks and parts of a sum; each operand by rows and by
/// columns.
#[test]
fn products_are_those_of_the_rounded_operands() {
    for &kernel in Kernel::ALL.iter().filter(|kernel| kernel.is_present()) {
        for (m, k, n) in
            [(1, 1, 1), (3, 5, 2), (16, 32, 16), (17, 33, 40), (70, 129, 65), (33, 1100, 31)]
        {
            let (lhs, rhs) = (narrow::<f32>(&noise(1)(m * k)), narrow::<f32>(&noise(2)(k * n)));
            for (left_by_rows, right_by_rows) in
                [(true, true), (true, false), (false, true), (false, false)]
            {
                let left = match left_by_rows {
                    true => Matrix::new(&lhs, m, k),
                    false => Matrix::new(&lhs, k, m).t(),
                };
                let right = match right_by_rows {
                    true => Matrix::new(&rhs, k, n),
                    false => Matrix::new(&rhs, n, k).t(),
                };
                let left_at =
                    |i: usize, t: usize| lhs[if left_by_rows { i * k + t } else { t * m + i }];
                let right_at =
                    |t: usize, j: usize| rhs[if right_by_rows { t * n + j } else { j * k + t }];
                let out = product(kernel, left, right, 1);
                assert!(product(kernel, left, right, 2) == out, "{kernel:?}: {m} {k} {n}");
                for (i, row) in out.chunks_exact(n + 3).enumerate() {
                    for (j, &actual) in row[..n].iter().enumerate() {
                        let terms = (0..k).map(|t| [left_at(i, t), right_at(t, j)]);
                        let terms = terms.map(|both| both.map(|x| f64::from(x.to_bf16())));
                        let (mut expected, mut size) = (1.0, 1.0);
                        for [left, right] in terms {
                            expected += left * right;
                            size += (left * right).abs();
                        }
                        // Errors of single precision, far below those of bfloat16.
                        let error = (f64::from(actual) - expected).abs() / size;
                        assert!(error < 1e-6, "{kernel:?}: {m} {k} {n}: {error:e} at {i}, {j}");
                    }
                    assert_eq!(row[n..], [1.0; 3]);
                }
            }
        }
    }
}

#[test]
fn what_is_not_finite_goes_where_arithmetic_sends_it() {
    for &kernel in Kernel::ALL.iter().filter(|kernel| kernel.is_present()) {
        let mut lhs = vec![1.0; 3 * 40];
        lhs[7] = f32::INFINITY;
        lhs[40 + 39] = f32::NAN;
        let rhs = vec![2.0; 40 * 5];
        let out = product(kernel, Matrix::new(&lhs, 3, 40), Matrix::new(&rhs, 40, 5), 1);
        let rows: Vec<&[f32]> = out.chunks_exact(8).map(|row| &row[..5]).collect();
        assert_eq!(rows[0], [f32::INFINITY; 5]);
        assert!(rows[1].iter().all(|value| value.is_nan()));
        assert_eq!(rows[2], [81.0; 5]);
    }
}

/// Products of few rows with a weight and with its transposed blocks: the number of threads changes
/// no bit, nor does it matter how a matrix's rows are cut.
#[test]
#[allow(unsafe_code)]
fn products_with_panels_are_those_of_the_rounded_operands() {
    for &kernel in Kernel::ALL.iter().filter(|kernel| kernel.is_present()) {
        for (d_hidden, blocks, rows) in [(1, 1, 1), (33, 4, 3), (64, 2, 17), (150, 3, 35)] {
            let width = blocks * d_hidden;
            let weight = narrow::<f32>(&noise(3)(d_hidden * width));
            let lhs = narrow::<f32>(&noise(4)(rows * d_hidden));
            let mut storage = Bf16Matrices::storage(2, [rows, d_hidden]);
            let matrices = Bf16Matrices::new(&mut storage, [rows, d_hidden]);
            for (row, values) in lhs.chunks_exact(d_hidden).enumerate() {
                // SAFETY: there is one thread, and nothing else is borrowed.
                let out = unsafe { matrices.get_mut(1, row, &(0..d_hidden)) };
                out.iter_mut().zip(values).for_each(|(out, value)| *out = value.to_bf16_bits());
            }
            for is_transposed in [false, true] {
                let run = |threads: usize| {
                    let panels = Bf16Panels::new(kernel, d_hidden, blocks, rows, threads);
                    assert_eq!(panels.shares().len(), threads);
                    let mut packed = panels.storage();
                    let mut out = vec![1.0; rows * width];
                    let shared = DisjointSlice::new(&mut out);
                    for chunk in 0..panels.shares().last().unwrap().end {
                        let packed = &mut packed[panels.packed(chunk)];
                        panels.pack(&weight, is_transposed, chunk, packed);
                        for block in 0..blocks {
                            // SAFETY: there is one thread, and nothing else is borrowed.
                            let lhs = unsafe { matrices.get(1) };
                            panels.product(chunk, packed, block, lhs, |row, columns| {
                                let start = row * width + block * d_hidden;
                                // SAFETY: a product borrows one row at a time.
                                unsafe {
                                    shared.get_mut(start + columns.start..start + columns.end)
                                }
                            });
                        }
                    }
                    out
                };
                let out = run(1);
                assert!(out == run(3), "{kernel:?}: {d_hidden} {blocks} {rows}");
                for (index, &actual) in out.iter().enumerate() {
                    let (row, block, column) =
                        (index / width, index % width / d_hidden, index % d_hidden);
                    let (mut expected, mut size) = (1.0, 1.0);
                    for k in 0..d_hidden {
                        let (from, to) = if is_transposed { (column, k) } else { (k, column) };
                        let term =
                            [lhs[row * d_hidden + k], weight[from * width + block * d_hidden + to]];
                        let [left, right] = term.map(|x| f64::from(x.to_bf16()));
                        expected += left * right;
                        size += (left * right).abs();
                    }
                    let error = (f64::from(actual) - expected).abs() / size;
                    assert!(error < 1e-6, "{kernel:?}: {d_hidden} {rows}: {error:e} at {index}");
                }
            }
        }
    }
}
