//! Eigenvalues of symmetric matrices, and how many of them count.

use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_linalg::svd;

use crate::device::Backend;

/// Most sweeps per eigenvalue; three or four are usual.
const SWEEPS: usize = 60;

/// Eigenvalues, descending, and eigenvectors of a symmetric matrix without negative eigenvalues.
///
/// Its singular values are its eigenvalues, so Burn's singular value decomposition on the host
/// does: Householder reflections to two diagonals, then implicitly shifted QR steps. In double
/// precision, unless no backend for CPUs is compiled in.
///
/// Row i of the second part is the eigenvector of eigenvalue i.
///
/// # Panics
///
/// If `matrix` is not `size · size` long or has a value that is not finite.
pub(super) fn eigen(matrix: Vec<f64>, size: usize) -> (Vec<f64>, Vec<f64>) {
    assert!(matrix.iter().all(|value| value.is_finite()), "the matrix must be finite");
    let (device, dtype) = host();
    let matrix = Tensor::<2>::from_data(TensorData::new(matrix, [size, size]), (&device, dtype));
    let (_, values, vectors) = svd::<2, 1>(matrix, SWEEPS);
    let read = |data: TensorData| data.iter::<f64>().collect();
    (read(values.into_data()), read(vectors.into_data()))
}

/// A device with double precision, if this build has one.
pub(super) fn host() -> (Device, DType) {
    let on_cpu = Backend::all().filter(|backend| backend.is_cpu());
    let device = on_cpu.flat_map(Backend::devices).find(|it| it.supports_dtype(DType::F64));
    match device {
        Some(device) => (device, DType::F64),
        None => (Device::default(), DType::F32),
    }
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

    /// Q diag(λ) Qᵀ has the eigenvalues λ and the columns of Q as eigenvectors.
    #[test]
    fn known_eigenvalues_are_found() {
        let wanted = [1e3, 12.0, 12.0, 1.0, 1e-3, 1e-9, 0.0];
        let size = wanted.len();
        let q = reflection(size);
        let element = |i: usize, j: usize| -> f64 {
            (0..size).map(|k| q[i * size + k] * wanted[k] * q[j * size + k]).sum()
        };
        let matrix: Vec<f64> =
            (0..size * size).map(|index| element(index / size, index % size)).collect();
        let (values, vectors) = eigen(matrix.clone(), size);
        for (value, wanted) in values.iter().zip(wanted) {
            // Rounding of a matrix with norm 1e3.
            assert!((value - wanted).abs() < 1e-12 * 1e3, "{values:?}");
        }
        for (value, vector) in values.iter().zip(vectors.chunks(size)) {
            for (row, x) in matrix.chunks(size).zip(vector) {
                let product: f64 = row.iter().zip(vector).map(|(a, b)| a * b).sum();
                assert!((product - value * x).abs() < 1e-12 * 1e3, "{product} {value} {x}");
            }
        }
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
