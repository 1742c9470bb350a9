//! The gradient of an embedding, which is zero outside of the rows that were looked up.

use std::borrow::Cow;
use std::mem;

use super::update::Update;
use crate::cpu::scalar::Scalar;
use crate::cpu::simd::vectorized;
use crate::cpu::tasks::map;
use crate::square_norm::cpu::kernel::square_norm_of_parts;

/// The rows of a matrix's gradient that may differ from zero.
#[derive(Debug)]
pub(super) struct Rows<'a, E> {
    /// Gradient of what each lookup gave: `[num_lookups, width]`.
    values: &'a [E],
    /// Elements of the matrix.
    len: usize,
    width: usize,
    lookups: Vec<Lookup>,
}

/// In ascending order: first by rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Lookup {
    /// Row of the matrix.
    row: usize,
    /// Row of the values.
    place: usize,
}

impl<'a, E: Scalar> Rows<'a, E> {
    /// A row of the gradient, `[num_rows, width]`, is the sum of the `values`,
    /// `[ids.len(), width]`, with its id.
    ///
    /// # Panics
    ///
    /// If an id is none of the rows, `width` is 0 or `values` has another length.
    pub(super) fn new(ids: &[usize], values: &'a [E], [num_rows, width]: [usize; 2]) -> Self {
        assert!(width > 0, "rows without elements");
        assert_eq!(values.len(), ids.len() * width, "length of {} rows", ids.len());
        let lookup = |(place, &row)| Lookup { row, place };
        let mut lookups: Vec<_> = ids.iter().enumerate().map(lookup).collect();
        lookups.sort_unstable();
        if let Some(Lookup { row, place }) = lookups.last().filter(|last| last.row >= num_rows) {
            panic!("the id {row} at place {place} is none of the {num_rows} rows");
        }
        Self { values, len: num_rows * width, width, lookups }
    }

    /// The lookups of each row that has some.
    fn groups(&self) -> impl Iterator<Item = &[Lookup]> {
        self.lookups.chunk_by(|a, b| a.row == b.row)
    }

    /// The gradient of the row with these lookups; a copy only where several values are added.
    fn sum(&self, lookups: &[Lookup]) -> Cow<'a, [E]> {
        let values = |lookup: &Lookup| &self.values[lookup.place * self.width..][..self.width];
        if let [lookup] = lookups {
            return Cow::Borrowed(values(lookup));
        }
        let mut sums = vec![E::ZERO; self.width];
        for lookup in lookups {
            sums.iter_mut().zip(values(lookup)).for_each(|(sum, value)| *sum += *value);
        }
        Cow::Owned(sums)
    }

    /// Squared norm of the gradient, summed in `f64`.
    pub(super) fn square_norm(&self, threads: usize) -> f64 {
        square_norm_of_parts(self.groups().collect(), threads, |lookups| self.sum(lookups))
    }

    /// The step without decay and momentum, in place: only these rows are read and written.
    ///
    /// # Panics
    ///
    /// If `matrix` is not as long as the gradient.
    pub(super) fn step(&self, update: &Update, matrix: &mut [E], threads: usize) {
        assert_eq!(self.len, matrix.len(), "length of a gradient and its parameter's");
        let (mut rest, mut start) = (matrix, 0);
        let tasks = self.groups().map(|lookups| {
            let skipped = lookups[0].row * self.width - start;
            rest = &mut mem::take(&mut rest)[skipped..];
            start += skipped + self.width;
            let row = rest.split_off_mut(..self.width).expect("the row lies in the matrix");
            (row, lookups)
        });
        map(tasks.collect(), threads, |(row, lookups)| {
            let gradient = self.sum(lookups);
            vectorized(
                #[inline(always)]
                || update.step(row, &gradient),
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sgd::SgdOptions;

    /// A matrix and the gradient of some of its rows.
    #[derive(Debug, Clone)]
    struct Case {
        shape: [usize; 2],
        matrix: Vec<f64>,
        ids: Vec<usize>,
        values: Vec<f64>,
        learning_rate: f64,
    }

    impl Case {
        /// The definition: the norm of the gradient, and the matrix after the step.
        fn expected(&self, scale: f64) -> (f64, Vec<f64>) {
            let [_, width] = self.shape;
            let mut gradient = vec![0.0; self.matrix.len()];
            for (id, row) in self.ids.iter().zip(self.values.chunks(width)) {
                for (i, value) in row.iter().enumerate() {
                    gradient[id * width + i] += value;
                }
            }
            let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            let step = |(p, g)| p - self.learning_rate * scale * g;
            (norm, self.matrix.iter().zip(&gradient).map(step).collect())
        }

        /// The same as the kernels compute it in `E`.
        fn run<E: Scalar>(&self, scale: f64, threads: usize) -> (f64, Vec<f64>) {
            let narrow =
                |values: &[f64]| -> Vec<E> { values.iter().map(|&x| E::from_f64(x)).collect() };
            let (mut matrix, values) = (narrow(&self.matrix), narrow(&self.values));
            let rows = Rows::new(&self.ids, &values, self.shape);
            let norm = rows.square_norm(threads).sqrt();
            let options = SgdOptions {
                learning_rate: self.learning_rate,
                coupled_decay: 0.0,
                decoupled_decay: 0.0,
                momentum: None,
            };
            rows.step(&Update::new(options, scale, true), &mut matrix, threads);
            (norm, matrix.into_iter().map(E::to_f64).collect())
        }
    }

    fn cases() -> impl Strategy<Value = Case> {
        let sizes = (1..9_usize, prop_oneof![Just(1), 1..40_usize]);
        // Few rows and many ids: some twice, some never.
        let ids = |num_rows| prop::collection::vec(0..num_rows, 0..12);
        let numbers = |len: usize| prop::collection::vec(-2.0..2.0_f64, len);
        let ids = sizes.prop_flat_map(move |(num_rows, width)| {
            (Just([num_rows, width]), ids(num_rows), 0.0..1.0)
        });
        ids.prop_flat_map(move |(shape, ids, learning_rate)| {
            let [num_rows, width] = shape;
            (numbers(num_rows * width), numbers(ids.len() * width)).prop_map(
                move |(matrix, values)| {
                    let ids = ids.clone();
                    Case { shape, matrix, ids, values, learning_rate }
                },
            )
        })
    }

    proptest! {
        #[test]
        fn norm_and_step_match_their_definition(case in cases(), scale in 0.0..1.0) {
            let (expected_norm, expected) = case.expected(scale);
            let (norm, double) = case.run::<f64>(scale, 2);
            prop_assert!((norm - expected_norm).abs() <= 1e-12 * expected_norm, "{norm}");
            let (norm, single) = case.run::<f32>(scale, 1);
            prop_assert!((norm - expected_norm).abs() <= 2e-6 * (1.0 + expected_norm), "{norm}");
            for (i, expected) in expected.iter().enumerate() {
                prop_assert!((double[i] - expected).abs() < 1e-12);
                prop_assert!((single[i] - expected).abs() < 1e-5);
            }
        }
    }

    /// In single precision squares of 1e30 would overflow; sums are in double precision.
    #[test]
    fn a_norm_that_is_not_finite_is_one_of_the_gradient() {
        let norm = |value: f32| {
            let values = [1.0, value, 2.0, 0.5];
            Rows::new(&[1, 0], &values, [3, 2]).square_norm(2).sqrt()
        };
        assert!(norm(f32::NAN).is_nan());
        assert_eq!(norm(f32::INFINITY), f64::INFINITY);
        assert!((norm(1e30) / 1e30 - 1.0).abs() < 1e-6);
    }

    fn large() -> Case {
        let shape @ [num_rows, width] = [700, 130];
        let numbers = |len: usize, rate: f64| -> Vec<f64> {
            (0..len).map(|i| (i as f64 * rate).sin()).collect()
        };
        Case {
            shape,
            matrix: numbers(num_rows * width, 0.3),
            ids: (0..300).map(|i| i * i % num_rows).collect(),
            values: numbers(300 * width, 0.7),
            learning_rate: 0.5,
        }
    }

    #[test]
    fn large_matrices_take_the_same_step() {
        let ((norm, matrix), (expected_norm, expected)) =
            (large().run::<f64>(0.25, 2), large().expected(0.25));
        assert!((norm - expected_norm).abs() < 1e-12 * expected_norm);
        for (actual, expected) in matrix.iter().zip(&expected) {
            assert!((actual - expected).abs() < 1e-14, "{actual}, not {expected}");
        }
    }

    #[test]
    fn the_number_of_threads_does_not_change_a_bit() {
        let (one, two) = (large().run::<f32>(0.25, 1), large().run::<f32>(0.25, 2));
        assert_eq!(one.0.to_bits(), two.0.to_bits());
        assert!(one == two);
    }

    /// Rows that were not looked up keep their values, even those that no step could keep.
    #[test]
    fn values_of_a_row_are_added_before_they_are_squared() {
        let case = Case {
            shape: [3, 2],
            matrix: vec![1.0, f64::INFINITY, 1.0, 1.0, 1.0, 1.0],
            ids: vec![2, 2],
            values: vec![1.0, 2.0, 3.0, 4.0],
            learning_rate: 0.5,
        };
        let (norm, matrix) = case.run::<f32>(1.0, 1);
        assert_eq!(norm, (4.0 * 4.0 + 6.0 * 6.0_f64).sqrt());
        assert_eq!(matrix, [1.0, f64::INFINITY, 1.0, 1.0, -1.0, -2.0]);
    }

    #[test]
    #[should_panic(expected = "the id 3 at place 1 is none of the 3 rows")]
    fn rows_are_checked() {
        Rows::new(&[0, 3, 1], &[0.0_f32; 6], [3, 2]);
    }
}
