//! The activations of some items, and what follows from their inner products.

use anp_core::HyperParamError;
use anp_core::estimators::GaussianMixture;
use burn::tensor::{DType, Device, Tensor, TensorData};
use rayon::prelude::*;

use super::spectrum::{dot, eigenvalues};
use crate::device::Backend;

/// Activations Φ of N items with K units, without a mean subtracted.
///
/// Spectra and distances need no more than the coordinates of the items in the space that they
/// span. With more units than items, these are computed from the N² inner products, as the rows of
/// a Cholesky factor L:
///
/// ```text
/// ΦΦᵀ = LLᵀ
/// ```
///
/// Distances keep an absolute error of about 1e-8 of the largest norm.
#[derive(Debug, Clone)]
pub struct Features {
    /// `[N, min(N, K)]`, row by row.
    coordinates: Vec<f64>,
    num_items: usize,
    num_units: usize,
    /// Eigenvalues of ΦΦᵀ, descending; the smaller of N and K.
    eigenvalues: Vec<f64>,
}

impl Features {
    /// The features whose elements are `rows`, row by row, with `num_units` (K) columns.
    ///
    /// # Panics
    ///
    /// If there are none, or one is not finite.
    pub fn new(rows: Vec<f64>, num_units: usize) -> Self {
        assert!(num_units > 0 && !rows.is_empty(), "there are no features");
        let num_items = rows.len() / num_units;
        if num_items >= num_units {
            let columns = transpose(&rows, num_units);
            let eigenvalues = not_negative(gram(&columns, num_items), num_units);
            return Self { coordinates: rows, num_items, num_units, eigenvalues };
        }
        let products = gram(&rows, num_units);
        let coordinates = cholesky(&products, num_items);
        let eigenvalues = not_negative(products, num_items);
        Self { coordinates, num_items, num_units, eigenvalues }
    }

    /// Number of items N.
    pub fn num_items(&self) -> usize {
        self.num_items
    }

    fn width(&self) -> usize {
        self.coordinates.len() / self.num_items
    }

    /// Root of the mean square of an element.
    pub fn rms(&self) -> f64 {
        let squares: f64 = self.coordinates.iter().map(|x| x * x).sum();
        (squares / (self.num_items * self.num_units) as f64).sqrt()
    }

    /// Eigenvalues of ΦΦᵀ/K, descending: the smaller of N and K. The others of the N are 0.
    pub fn kernel(&self) -> Vec<f64> {
        let scale = 1.0 / self.num_units as f64;
        self.eigenvalues.iter().map(|value| scale * value).collect()
    }

    /// The parts of the divergence of N(0, K̂) from N(0, I), K̂ = ΦΦᵀ/K + εI, in nats:
    ///
    /// ```text
    /// ½ (tr K̂ − N)   and   −½ ln det K̂
    /// ```
    ///
    /// The paper's equation 10 with the corrections of [`anp_core::InformationBound`].
    pub fn divergence(&self, epsilon: f64) -> [f64; 2] {
        let kernel = self.kernel();
        let others = (self.num_items - kernel.len()) as f64;
        let trace = kernel.iter().sum::<f64>() + self.num_items as f64 * (epsilon - 1.0);
        let log_determinant = kernel.iter().map(|value| (value + epsilon).ln());
        let log_determinant = log_determinant.sum::<f64>() + others * epsilon.ln();
        [0.5 * trace, -0.5 * log_determinant]
    }

    /// Eigenvalues, descending, of the covariance of the units over the items, which is divided by
    /// N: the smaller of N and K.
    pub fn covariance(&self) -> Vec<f64> {
        let (count, width) = (self.num_items as f64, self.width());
        let columns = transpose(&self.coordinates, width);
        let centered: Vec<f64> = columns
            .chunks_exact(self.num_items)
            .flat_map(|column| {
                let mean = column.iter().sum::<f64>() / count;
                column.iter().map(move |x| x - mean)
            })
            .collect();
        let values = not_negative(gram(&centered, self.num_items), width);
        values.into_iter().map(|value| value / count).collect()
    }

    /// The items with noise N(0, σ²I).
    ///
    /// # Errors
    ///
    /// As [`GaussianMixture::isotropic`].
    pub fn with_noise(&self, sigma: f64) -> Result<GaussianMixture, HyperParamError> {
        let (device, dtype) = host();
        let shape = [self.num_items, self.width()];
        let data = TensorData::new(self.coordinates.clone(), shape);
        GaussianMixture::isotropic(Tensor::from_data(data, (&device, dtype)), sigma)
    }
}

fn transpose(rows: &[f64], num_columns: usize) -> Vec<f64> {
    let column = |column: usize| rows[column..].iter().step_by(num_columns).copied();
    (0..num_columns).flat_map(column).collect()
}

/// The inner products of rows of this length.
fn gram(rows: &[f64], length: usize) -> Vec<f64> {
    let num_rows = rows.len() / length;
    let row = |index: usize| &rows[index * length..][..length];
    let mut gram = vec![0.0; num_rows * num_rows];
    gram.par_chunks_exact_mut(num_rows).enumerate().for_each(|(i, products)| {
        for (j, product) in products.iter_mut().enumerate().take(i + 1) {
            *product = dot(row(i), row(j));
        }
    });
    for i in 0..num_rows {
        for j in 0..i {
            gram[j * num_rows + i] = gram[i * num_rows + j];
        }
    }
    gram
}

/// Eigenvalues of a Gram matrix, descending. Rounding may leave less than 0.
fn not_negative(products: Vec<f64>, size: usize) -> Vec<f64> {
    eigenvalues(products, size).into_iter().map(|value| value.max(0.0)).collect()
}

/// Lower triangle L of a symmetric matrix LLᵀ without negative eigenvalues; zeros above. A pivot
/// that is 0 but for rounding makes its column 0.
fn cholesky(matrix: &[f64], size: usize) -> Vec<f64> {
    let largest = (0..size).fold(0.0, |largest: f64, i| largest.max(matrix[i * size + i]));
    let negligible = size as f64 * f64::EPSILON * largest;
    let mut lower = vec![0.0; size * size];
    for i in 0..size {
        let (above, row) = lower.split_at_mut(i * size);
        for (j, other) in above.chunks_exact(size).enumerate() {
            let left = matrix[i * size + j] - dot(&row[..j], &other[..j]);
            row[j] = if other[j] > 0.0 { left / other[j] } else { 0.0 };
        }
        let pivot = matrix[i * size + i] - dot(&row[..i], &row[..i]);
        row[i] = if pivot > negligible { pivot.sqrt() } else { 0.0 };
    }
    lower
}

/// A device with double precision, if this build has one, and its most precise type.
fn host() -> (Device, DType) {
    let on_cpu = Backend::all().filter(|backend| backend.is_cpu());
    let device = on_cpu.flat_map(Backend::devices).find(|it| it.supports_dtype(DType::F64));
    match device {
        Some(device) => (device, DType::F64),
        None => (Device::default(), DType::F32),
    }
}

#[cfg(test)]
mod tests {
    use anp_core::{ExampleGroup, InformationBoundConfig};

    use super::*;

    fn rows(num_items: usize, num_units: usize) -> Vec<f64> {
        (0..num_items * num_units).map(|index| (1.7 * index as f64).sin() + 0.3).collect()
    }

    #[track_caller]
    fn assert_close(actual: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(actual.len(), expected.len());
        for (actual, expected) in actual.iter().zip(expected) {
            assert!((actual - expected).abs() < tolerance, "{actual} and {expected}");
        }
    }

    /// Few items of many units, and their transpose, have the same inner eigenvalues.
    #[test]
    fn the_spectrum_does_not_depend_on_the_way_it_is_computed() {
        let wide = Features::new(rows(5, 12), 12);
        let tall = Features::new(transpose(&rows(5, 12), 12), 5);
        let [wide_kernel, tall_kernel] = [&wide, &tall].map(Features::kernel);
        let scaled: Vec<f64> = tall_kernel.iter().map(|value| value * 5.0 / 12.0).collect();
        assert_close(&wide_kernel, &scaled, 1e-12);
        assert!((wide.rms() - tall.rms()).abs() < 1e-12);
    }

    /// Two items (1, 1), (1, −1) and their negatives: covariance I. A third unit that is constant
    /// adds an eigenvalue of 0 to the covariance, but not to the kernel.
    #[test]
    fn a_covariance_has_its_closed_form() {
        let rows = [[1.0, 1.0, 2.0], [1.0, -1.0, 2.0], [-1.0, 1.0, 2.0], [-1.0, -1.0, 2.0]];
        let features = Features::new(rows.concat(), 3);
        assert_close(&features.covariance(), &[1.0, 1.0, 0.0], 1e-12);
        assert_close(&features.kernel(), &[16.0 / 3.0, 4.0 / 3.0, 4.0 / 3.0], 1e-12);
        // With as few items as units, too.
        let features = Features::new(rows[..2].concat(), 3);
        assert_close(&features.covariance(), &[1.0, 0.0], 1e-12);
    }

    /// A repeated item, and one that is the sum of two others.
    #[test]
    fn coordinates_of_dependent_items_keep_their_distances() {
        let mut items = rows(5, 30);
        items.extend_from_within(..30);
        let sum: Vec<f64> = (0..30).map(|unit| items[unit] + items[30 + unit]).collect();
        items.extend(sum);
        let features = Features::new(items.clone(), 30);
        let distance = |rows: &[f64], width: usize, i: usize, j: usize| -> f64 {
            let [a, b] = [i, j].map(|item| &rows[item * width..][..width]);
            a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
        };
        for (i, j) in (0..7).flat_map(|i| (0..i).map(move |j| (i, j))) {
            let expected = distance(&items, 30, i, j);
            let actual = distance(&features.coordinates, 7, i, j);
            assert!((actual - expected).abs() < 1e-12, "{i}, {j}: {actual} and {expected}");
        }
    }

    #[test]
    fn the_divergence_is_that_of_the_information_bound() {
        for (num_items, num_units) in [(4, 9), (9, 4), (6, 6)] {
            let rows = rows(num_items, num_units);
            let data = TensorData::new(rows.clone(), [num_items, num_units]);
            let device = Device::default();
            let bound = InformationBoundConfig::new(1.0)
                .with_epsilon(0.01)
                .with_group(ExampleGroup::Minibatch)
                .init()
                .forward_examples(Tensor::from_data(data, (&device, DType::F64)));
            let expected = bound.into_scalar::<f64>();
            let [trace, log_determinant] = Features::new(rows, num_units).divergence(0.01);
            let actual = trace + log_determinant;
            assert!((actual - expected).abs() < 1e-10, "{actual} and {expected}");
        }
    }

    /// Coordinates keep distances: the estimate of wide features is that of the features.
    #[test]
    fn information_does_not_depend_on_the_coordinates() {
        let (rows, device) = (rows(6, 40), Device::default());
        let features = Features::new(rows.clone(), 40);
        let data = TensorData::new(rows, [6, 40]);
        let means = Tensor::from_data(data, (&device, DType::F64));
        let direct = GaussianMixture::isotropic(means, 2.0).unwrap().input_information();
        let reduced = features.with_noise(2.0).unwrap().input_information();
        for (direct, reduced) in [(direct.lower, reduced.lower), (direct.upper, reduced.upper)] {
            assert!((direct.nats - reduced.nats).abs() < 1e-10, "{direct:?} and {reduced:?}");
            assert!(direct.nats > 0.1 && direct.nats < 6.0_f64.ln() - 0.01, "{direct:?}");
        }
    }
}
