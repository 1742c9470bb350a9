use super::*;
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
