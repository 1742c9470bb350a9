//! Eigenvalues of symmetric matrices, and how many of them count.

/// Most steps per eigenvalue; two are usual.
const MAX_STEPS: usize = 100;

/// Eigenvalues of a symmetric matrix, descending.
///
/// Householder reflections to a tridiagonal matrix (Martin, Reinsch & Wilkinson, 1968), then QL
/// steps with implicit shifts (Martin & Wilkinson, 1968). Errors are within a few roundings of the
/// largest eigenvalue. Time `size³`.
///
/// The libraries that have them, nalgebra, faer and burn-linalg with a backend, would change
/// features of what Burn is built with.
///
/// # Panics
///
/// If `matrix` is not `size · size` long, or has a value that is not finite.
pub(super) fn eigenvalues(matrix: Vec<f64>, size: usize) -> Vec<f64> {
    assert_eq!(matrix.len(), size * size, "the matrix is not square");
    assert!(matrix.iter().all(|value| value.is_finite()), "the matrix must be finite");
    let (mut diagonal, mut off_diagonal) = tridiagonalize(matrix, size);
    diagonalize(&mut diagonal, &mut off_diagonal);
    diagonal.sort_by(|a, b| b.total_cmp(a));
    diagonal
}

/// Diagonal, and the elements beside it, of a tridiagonal matrix with the same eigenvalues. The
/// last of the latter is 0.
fn tridiagonalize(mut matrix: Vec<f64>, size: usize) -> (Vec<f64>, Vec<f64>) {
    let mut off_diagonal = vec![0.0; size];
    // Far below rounding; dividing by a smaller number could overflow.
    let nothing = f64::EPSILON.powi(4) * matrix.iter().map(|x| x * x).sum::<f64>();
    for k in 0..size.saturating_sub(1) {
        let (above, below) = matrix.split_at_mut((k + 1) * size);
        let mut v = above[k * size + k + 1..].to_vec();
        let square: f64 = v.iter().map(|x| x * x).sum();
        if square <= nothing {
            continue;
        }
        off_diagonal[k] = -square.sqrt().copysign(v[0]);
        v[0] -= off_diagonal[k];
        // With H = I − βvvᵀ: HAH = A − vwᵀ − wvᵀ, w = p − (β/2)(pᵀv)v, p = βAv.
        let beta = 2.0 / v.iter().map(|x| x * x).sum::<f64>();
        let rows = || below.chunks_exact(size).map(|row| &row[k + 1..]);
        let mut w: Vec<f64> = rows().map(|row| beta * dot(row, &v)).collect();
        let half = 0.5 * beta * dot(&w, &v);
        w.iter_mut().zip(&v).for_each(|(w, v)| *w -= half * v);
        for (i, row) in below.chunks_exact_mut(size).enumerate() {
            for ((x, v_j), w_j) in row[k + 1..].iter_mut().zip(&v).zip(&w) {
                *x -= v[i] * w_j + w[i] * v_j;
            }
        }
    }
    ((0..size).map(|k| matrix[k * size + k]).collect(), off_diagonal)
}

/// Replace the diagonal of a tridiagonal matrix by its eigenvalues.
fn diagonalize(d: &mut [f64], e: &mut [f64]) {
    let size = d.len();
    // QL steps find small eigenvalues first, and fast if they stand first (as in LAPACK's dsteqr).
    if size > 1 && d[size - 1].abs() < d[0].abs() {
        d.reverse();
        e[..size - 1].reverse();
    }
    let largest = d.iter().chain(&*e).fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let negligible = 2.0 * f64::EPSILON * largest;
    for first in 0..size {
        for step in 0.. {
            let split = (first..size).find(|&i| e[i].abs() <= negligible);
            let last = split.expect("the last element beside the diagonal is 0");
            e[last] = 0.0;
            if last == first {
                break;
            }
            assert!(step < MAX_STEPS, "QL steps converge");
            ql_step(&mut d[first..=last], &mut e[first..=last]);
        }
    }
}

/// A QL step on an unreduced block, shifted by an eigenvalue of its first two rows.
fn ql_step(d: &mut [f64], e: &mut [f64]) {
    let last = d.len() - 1;
    let ratio = (d[1] - d[0]) / (2.0 * e[0]);
    let mut g = d[last] - d[0] + e[0] / (ratio + ratio.hypot(1.0).copysign(ratio));
    let (mut sine, mut cosine, mut p) = (1.0, 1.0, 0.0);
    for i in (0..last).rev() {
        let (f, b) = (sine * e[i], cosine * e[i]);
        let r = f.hypot(g);
        e[i + 1] = r;
        if r == 0.0 {
            // The block falls apart here.
            d[i + 1] -= p;
            e[last] = 0.0;
            return;
        }
        (sine, cosine) = (f / r, g / r);
        g = d[i + 1] - p;
        let r = (d[i] - g) * sine + 2.0 * cosine * b;
        p = sine * r;
        d[i + 1] = g + p;
        g = cosine * r - b;
    }
    d[0] -= p;
    e[0] = g;
    e[last] = 0.0;
}

/// Sum of products, eight at a time, as the compiler may not reorder a sum.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

/// Effective rank: the exponential of the entropy of the normalised eigenvalues.
///
/// ```text
/// pᵢ = λᵢ/Σⱼ λⱼ,   effective rank = exp(−Σᵢ pᵢ ln pᵢ)
/// ```
///
/// [Roy & Vetterli, 2007](https://ieeexplore.ieee.org/document/7098875) define it with singular
/// values; of a covariance or a Gram matrix the two are the same. From 1 to the rank; NaN if all
/// eigenvalues are 0.
pub fn effective_rank(eigenvalues: &[f64]) -> f64 {
    let sum: f64 = eigenvalues.iter().sum();
    let shares = eigenvalues.iter().map(|value| value / sum).filter(|&share| share != 0.0);
    let entropy: f64 = shares.map(|share| -share * share.ln()).sum();
    entropy.exp()
}

/// Participation ratio: (Σᵢ λᵢ)²/Σᵢ λᵢ², from 1 to the rank.
///
/// The number of principal components that share the variance, if they shared it equally. NaN if
/// all eigenvalues are 0.
pub fn participation_ratio(eigenvalues: &[f64]) -> f64 {
    let sum: f64 = eigenvalues.iter().sum();
    sum * sum / eigenvalues.iter().map(|value| value * value).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An orthogonal matrix: a reflection.
    fn reflection(size: usize) -> Vec<f64> {
        let vector: Vec<f64> = (0..size).map(|i| (i as f64 + 1.0).sin()).collect();
        let square: f64 = vector.iter().map(|x| x * x).sum();
        let element =
            |i: usize, j: usize| f64::from(u8::from(i == j)) - 2.0 * vector[i] * vector[j] / square;
        (0..size * size).map(|index| element(index / size, index % size)).collect()
    }

    /// Q diag(λ) Qᵀ has the eigenvalues λ: also negative, equal and very different ones.
    #[test]
    fn known_eigenvalues_are_found() {
        for wanted in [
            &[1e3, 12.0, 12.0, 1.0, 1e-3, 1e-9, 0.0][..],
            &[5.0, 2.0, 0.0, -1.0, -7.0],
            &[1.0; 6],
            &[0.0; 4],
            &[4.0],
        ] {
            let size = wanted.len();
            let q = reflection(size);
            let element = |i: usize, j: usize| -> f64 {
                (0..size).map(|k| q[i * size + k] * wanted[k] * q[j * size + k]).sum()
            };
            let matrix = (0..size * size).map(|index| element(index / size, index % size));
            let values = eigenvalues(matrix.collect(), size);
            let largest = wanted.iter().fold(0.0, |it: f64, value| it.max(value.abs()));
            for (value, wanted) in values.iter().zip(wanted) {
                // Some tens of roundings.
                assert!((value - wanted).abs() <= 1e-14 * largest, "{values:?}");
            }
        }
    }

    /// 2 on the diagonal and −1 beside it: 2 − 2 cos(πk/(n + 1)).
    #[test]
    fn the_second_difference_has_its_closed_form() {
        let size = 200;
        let mut matrix = vec![0.0; size * size];
        for i in 0..size {
            matrix[i * size + i] = 2.0;
            if i + 1 < size {
                matrix[i * size + i + 1] = -1.0;
                matrix[(i + 1) * size + i] = -1.0;
            }
        }
        let values = eigenvalues(matrix, size);
        for (index, value) in values.iter().enumerate() {
            let angle = std::f64::consts::PI * (size - index) as f64 / (size + 1) as f64;
            let expected = 2.0 - 2.0 * angle.cos();
            assert!((value - expected).abs() < 1e-13, "{value} and {expected}");
        }
    }

    /// Of few dimensions among many, as features are: the others are 0 but for rounding, and the
    /// elements span 300 orders of magnitude.
    #[test]
    fn matrices_of_low_rank_have_as_many_eigenvalues() {
        for (size, rank, shrink) in
            [(150, 1, 0.5), (300, 20, 1e-3), (300, 150, 0.01), (40, 40, 1e-8)]
        {
            let row = |i: usize| -> Vec<f64> {
                let factor = |k: usize| f64::powi(shrink, (i / 2 + k) as i32);
                (0..rank).map(|k| factor(k) * (0.7 + (i * (k + 3)) as f64).sin()).collect()
            };
            let rows: Vec<_> = (0..size).map(row).collect();
            let matrix = (0..size * size).map(|it| dot(&rows[it / size], &rows[it % size]));
            let matrix: Vec<f64> = matrix.collect();
            let trace: f64 = (0..size).map(|i| matrix[i * size + i]).sum();
            let values = eigenvalues(matrix, size);
            assert!((values.iter().sum::<f64>() - trace).abs() < 1e-13 * trace, "{rank}");
            assert!(values[rank..].iter().all(|value| value.abs() < 1e-14 * trace), "{rank}");
        }
    }

    /// Of any symmetric matrix: Σλ = tr A and Σλ² = ‖A‖².
    #[test]
    fn eigenvalues_keep_the_trace_and_the_norm() {
        let size = 60;
        let element = |i: usize, j: usize| (1.3 * (i * j) as f64 + (i + j) as f64).sin();
        let matrix: Vec<f64> =
            (0..size * size).map(|index| element(index / size, index % size)).collect();
        let trace: f64 = (0..size).map(|i| element(i, i)).sum();
        let square: f64 = matrix.iter().map(|x| x * x).sum();
        let values = eigenvalues(matrix, size);
        assert!((values.iter().sum::<f64>() - trace).abs() < 1e-11);
        assert!((values.iter().map(|x| x * x).sum::<f64>() - square).abs() < 1e-10);
    }

    #[test]
    fn equal_eigenvalues_count_fully_and_zeros_not_at_all() {
        for measure in [effective_rank, participation_ratio] {
            assert!((measure(&[0.25; 8]) - 8.0).abs() < 1e-12);
            assert!((measure(&[3.0, 3.0, 0.0, 0.0]) - 2.0).abs() < 1e-12);
            assert!((measure(&[5.0]) - 1.0).abs() < 1e-12);
            assert!(measure(&[0.0, 0.0]).is_nan());
            // The unit does not matter.
            let scaled = [3.0, 2.0, 1.0].map(|value| 1e-7 * value);
            assert!((measure(&[3.0, 2.0, 1.0]) - measure(&scaled)).abs() < 1e-12);
        }
    }

    /// p = (½, ¼, ¼): entropy 1.5 ln 2, squares 3/8.
    #[test]
    fn unequal_eigenvalues_have_their_closed_forms() {
        let values = [2.0, 1.0, 1.0];
        assert!((effective_rank(&values) - 2.0_f64.powf(1.5)).abs() < 1e-12);
        assert!((participation_ratio(&values) - 8.0 / 3.0).abs() < 1e-12);
    }
}
