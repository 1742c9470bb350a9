//! A step of stochastic gradient descent: one pass over the gradients for their norm, one for the step.
//!
//! ```text
//! g ← scale · gradient + coupled_decay · p
//! v ← momentum · v + (1 − dampening) · g
//! p ← p − decoupled_decay · p − learning_rate · d
//! d = v, or g + momentum · v with Nesterov, or g without momentum
//! ```

use std::borrow::Cow;
use std::mem;
use std::ops::Range;

use crate::cpu::reduce::sum_of_squares;
use crate::cpu::scalar::Scalar;
use crate::cpu::simd::vectorized;
use crate::cpu::tasks::map;

/// Elements that one task works on, about; fixed, so that the order of the norm's sum is.
const TASK: usize = 1 << 15;

/// The rows of a matrix's gradient that may differ from zero: those of the tokens that an embedding looked up.
#[derive(Debug)]
pub(crate) struct Rows<'a, E> {
    values: &'a [E],
    len: usize,
    width: usize,
    /// Row of the matrix and row of `values`, in ascending order.
    places: Vec<(usize, usize)>,
}

impl<'a, E> Rows<'a, E> {
    /// `values`: `[ids.len(), width]`. A row of the gradient, `[num_rows, width]`, is the sum of those with its id.
    ///
    /// # Panics
    ///
    /// If an id is none of the rows, `width` is 0 or `values` has another length.
    pub(crate) fn new(ids: &[usize], values: &'a [E], [num_rows, width]: [usize; 2]) -> Self {
        assert!(width > 0, "rows without elements");
        assert_eq!(values.len(), ids.len() * width, "length of {} rows", ids.len());
        let mut places: Vec<_> = ids.iter().copied().zip(0..).collect();
        places.sort_unstable();
        if let Some((id, place)) = places.last().filter(|(id, _)| *id >= num_rows) {
            panic!("the id {id} at place {place} is none of the {num_rows} rows");
        }
        Self { values, len: num_rows * width, width, places }
    }

    /// Those of the places that lie in a range of the matrix's elements, which consists of whole rows.
    fn within(&self, range: &Range<usize>) -> &[(usize, usize)] {
        let before = |end: usize| self.places.partition_point(|(row, _)| row * self.width < end);
        &self.places[before(range.start)..before(range.end)]
    }

    fn values(&self, place: usize) -> &'a [E] {
        &self.values[place * self.width..][..self.width]
    }
}

/// Gradient of one parameter.
#[derive(Debug)]
pub(crate) enum Gradient<'a, E> {
    /// Of the parameter's length.
    Dense(&'a [E]),
    /// Zero outside of some rows.
    Rows(Rows<'a, E>),
}

impl<E: Scalar> Gradient<'_, E> {
    /// Ranges in ascending order outside of which the gradient of a parameter of `len` elements is zero; whole rows.
    fn support(&self, len: usize) -> Vec<Range<usize>> {
        match self {
            Self::Dense(_) => self.everywhere(len),
            Self::Rows(rows) => {
                let places = rows.places.chunk_by(|a, b| a.0 == b.0);
                places.map(|same| same[0].0 * rows.width..(same[0].0 + 1) * rows.width).collect()
            }
        }
    }

    /// All `len` elements in ranges of one task each; whole rows.
    fn everywhere(&self, len: usize) -> Vec<Range<usize>> {
        let width = match self {
            Self::Dense(_) => 1,
            Self::Rows(rows) => rows.width,
        };
        let step = (TASK / width).max(1) * width;
        (0..len).step_by(step).map(|start| start..(start + step).min(len)).collect()
    }

    /// The gradient in one of these ranges; a copy only where several values are added.
    fn part(&self, range: Range<usize>) -> Cow<'_, [E]> {
        let rows = match self {
            Self::Dense(dense) => return Cow::Borrowed(&dense[range]),
            Self::Rows(rows) => rows,
        };
        let places = rows.within(&range);
        if let [(_, place)] = places
            && range.len() == rows.width
        {
            return Cow::Borrowed(rows.values(*place));
        }
        let mut sums = vec![E::ZERO; range.len()];
        for (row, place) in places {
            let sums = &mut sums[row * rows.width - range.start..];
            for (sum, value) in sums.iter_mut().zip(rows.values(*place)) {
                *sum += *value;
            }
        }
        Cow::Owned(sums)
    }
}

/// Squared norm of one parameter's gradient, as if it were dense; summed in `f64`.
pub(crate) fn square_norm<E: Scalar>(
    gradient: &Gradient<'_, E>,
    len: usize,
    threads: usize,
) -> f64 {
    let sums = map(gradient.support(len), threads, |range| {
        let part = gradient.part(range);
        vectorized(
            #[inline(always)]
            || sum_of_squares(&part),
        )
    });
    sums.into_iter().sum()
}

/// The velocity of one parameter and how it changes.
#[derive(Debug)]
pub(crate) struct Momentum<'a, E> {
    /// Of the parameter's length; zeros before the first step.
    pub(crate) velocity: &'a mut [E],
    pub(crate) momentum: f64,
    /// Burn and PyTorch leave it out of the first step: it is 0 there.
    pub(crate) dampening: f64,
    pub(crate) nesterov: bool,
}

/// One parameter, its gradient and what holds for its group.
#[derive(Debug)]
pub(crate) struct Parameter<'a, E> {
    pub(crate) values: &'a mut [E],
    pub(crate) gradient: Gradient<'a, E>,
    pub(crate) learning_rate: f64,
    /// Factor of the parameter in its gradient: an L2 penalty's.
    pub(crate) coupled_decay: f64,
    /// Share of the parameter that a step removes; with the learning rate multiplied in where a recipe wants that.
    pub(crate) decoupled_decay: f64,
    pub(crate) momentum: Option<Momentum<'a, E>>,
}

impl<E: Scalar> Parameter<'_, E> {
    fn check(&self) {
        let len = self.values.len();
        let gradient_len = match &self.gradient {
            Gradient::Dense(dense) => dense.len(),
            Gradient::Rows(rows) => rows.len,
        };
        assert_eq!(gradient_len, len, "length of a gradient and its parameter's");
        if let Some(momentum) = &self.momentum {
            assert_eq!(momentum.velocity.len(), len, "length of a velocity and its parameter's");
        }
    }

    /// Where the step changes something.
    fn ranges(&self) -> Vec<Range<usize>> {
        let still =
            self.momentum.is_none() && self.coupled_decay == 0.0 && self.decoupled_decay == 0.0;
        let len = self.values.len();
        if still { self.gradient.support(len) } else { self.gradient.everywhere(len) }
    }
}

/// The step with all gradients times `scale`, in place.
///
/// A parameter with [`Gradient::Rows`], without decay and momentum, is read and written in these rows only.
///
/// # Panics
///
/// If a gradient or a velocity has not the length of its parameter.
pub(crate) fn step<E: Scalar>(parameters: &mut [Parameter<'_, E>], scale: f64, threads: usize) {
    let mut tasks = Vec::new();
    for parameter in parameters {
        parameter.check();
        let ranges = parameter.ranges();
        let update = Update::new(parameter, scale);
        let Parameter { values, gradient, momentum, .. } = parameter;
        let gradient = &*gradient;
        let values = parts(values, &ranges);
        let velocities: Vec<_> = match momentum {
            Some(momentum) => parts(momentum.velocity, &ranges).into_iter().map(Some).collect(),
            None => ranges.iter().map(|_| None).collect(),
        };
        for ((range, values), velocity) in ranges.into_iter().zip(values).zip(velocities) {
            tasks.push((update, gradient, range, values, velocity));
        }
    }
    map(tasks, threads, |(update, gradient, range, values, velocity)| {
        let part = gradient.part(range);
        vectorized(
            #[inline(always)]
            || update.apply(values, velocity, &part),
        );
    });
}

/// The parts of a slice that lie in `ranges`, which ascend.
fn parts<'s, E>(mut slice: &'s mut [E], ranges: &[Range<usize>]) -> Vec<&'s mut [E]> {
    let mut start = 0;
    let part = |range: &Range<usize>| {
        slice = &mut mem::take(&mut slice)[range.start - start..];
        start = range.end;
        slice.split_off_mut(..range.len()).expect("the range lies in the slice")
    };
    ranges.iter().map(part).collect()
}

/// The numbers of a [`Parameter`]'s step.
#[derive(Clone, Copy)]
struct Update {
    scale: f64,
    learning_rate: f64,
    coupled_decay: f64,
    decoupled_decay: f64,
    momentum: f64,
    undamped: f64,
    nesterov: bool,
}

impl Update {
    fn new<E>(parameter: &Parameter<'_, E>, scale: f64) -> Self {
        let momentum = parameter.momentum.as_ref();
        Self {
            scale,
            learning_rate: parameter.learning_rate,
            coupled_decay: parameter.coupled_decay,
            decoupled_decay: parameter.decoupled_decay,
            momentum: momentum.map_or(0.0, |momentum| momentum.momentum),
            undamped: momentum.map_or(1.0, |momentum| 1.0 - momentum.dampening),
            nesterov: momentum.is_some_and(|momentum| momentum.nesterov),
        }
    }

    #[inline(always)]
    fn apply<E: Scalar>(&self, values: &mut [E], velocity: Option<&mut [E]>, gradient: &[E]) {
        let Some(velocity) = velocity else {
            let decay = self.decoupled_decay + self.learning_rate * self.coupled_decay;
            let (decay, rate) = (E::from_f64(decay), E::from_f64(self.learning_rate * self.scale));
            for (p, g) in values.iter_mut().zip(gradient) {
                *p -= decay * *p + rate * *g;
            }
            return;
        };
        let (scale, coupled) = (E::from_f64(self.scale), E::from_f64(self.coupled_decay));
        let (momentum, undamped) = (E::from_f64(self.momentum), E::from_f64(self.undamped));
        let (decay, rate) = (E::from_f64(self.decoupled_decay), E::from_f64(self.learning_rate));
        for ((p, v), g) in values.iter_mut().zip(velocity).zip(gradient) {
            let g = scale * *g + coupled * *p;
            *v = momentum * *v + undamped * g;
            let direction = if self.nesterov { g + momentum * *v } else { *v };
            *p -= decay * *p + rate * direction;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A parameter and what it needs for a step, all owned.
    #[derive(Debug, Clone)]
    struct Case {
        num_rows: usize,
        width: usize,
        values: Vec<f64>,
        velocity: Vec<f64>,
        dense: Option<Vec<f64>>,
        rows: Option<(Vec<usize>, Vec<f64>)>,
        learning_rate: f64,
        decays: [f64; 2],
        momentum: Option<(f64, f64, bool)>,
    }

    impl Case {
        /// The gradient as one dense matrix.
        fn gradient(&self) -> Vec<f64> {
            let mut sum = self.dense.clone().unwrap_or_else(|| vec![0.0; self.values.len()]);
            if let Some((ids, values)) = &self.rows {
                for (id, row) in ids.iter().zip(values.chunks(self.width)) {
                    for (i, value) in row.iter().enumerate() {
                        sum[id * self.width + i] += value;
                    }
                }
            }
            sum
        }

        /// The definition: the parameter and the velocity after the step.
        fn reference(&self, scale: f64) -> [Vec<f64>; 2] {
            let [coupled, decoupled] = self.decays;
            let [mut values, mut velocity] = [self.values.clone(), self.velocity.clone()];
            for (i, gradient) in self.gradient().into_iter().enumerate() {
                let g = scale * gradient + coupled * values[i];
                let direction = match self.momentum {
                    None => g,
                    Some((momentum, dampening, nesterov)) => {
                        velocity[i] = momentum * velocity[i] + (1.0 - dampening) * g;
                        if nesterov { g + momentum * velocity[i] } else { velocity[i] }
                    }
                };
                values[i] = (1.0 - decoupled) * values[i] - self.learning_rate * direction;
            }
            [values, velocity]
        }
    }

    /// Norm, values and velocities that the kernels compute in `E`.
    fn run<E: Scalar>(cases: &[Case], scale: f64, threads: usize) -> (f64, Vec<[Vec<f64>; 2]>) {
        let narrow =
            |values: &[f64]| -> Vec<E> { values.iter().map(|&x| E::from_f64(x)).collect() };
        let mut states: Vec<_> =
            cases.iter().map(|case| [narrow(&case.values), narrow(&case.velocity)]).collect();
        let gradients: Vec<_> = cases
            .iter()
            .map(|case| {
                let rows = case.rows.as_ref().map(|(ids, values)| (ids, narrow(values)));
                (case.dense.as_deref().map(narrow), rows)
            })
            .collect();
        let mut parameters: Vec<_> = cases
            .iter()
            .zip(&mut states)
            .zip(&gradients)
            .map(|((case, [values, velocity]), (dense, rows))| {
                let shape = [case.num_rows, case.width];
                let rows = rows.as_ref().map(|(ids, values)| Rows::new(ids, values, shape));
                Parameter {
                    values,
                    gradient: match (dense, rows) {
                        (Some(dense), _) => Gradient::Dense(dense),
                        (None, rows) => Gradient::Rows(rows.expect("a case has a gradient")),
                    },
                    learning_rate: case.learning_rate,
                    coupled_decay: case.decays[0],
                    decoupled_decay: case.decays[1],
                    momentum: case.momentum.map(|(momentum, dampening, nesterov)| Momentum {
                        velocity,
                        momentum,
                        dampening,
                        nesterov,
                    }),
                }
            })
            .collect();
        let squares = parameters
            .iter()
            .map(|parameter| square_norm(&parameter.gradient, parameter.values.len(), threads));
        let norm = squares.sum::<f64>().sqrt();
        step(&mut parameters, scale, threads);
        let widen = |values: Vec<E>| values.into_iter().map(E::to_f64).collect();
        (norm, states.into_iter().map(|state| state.map(widen)).collect())
    }

    fn cases() -> impl Strategy<Value = Case> {
        let number = -2.0..2.0_f64;
        let sizes = (1..9_usize, prop_oneof![Just(1), 1..40_usize]);
        sizes.prop_flat_map(move |(num_rows, width)| {
            let len = num_rows * width;
            let numbers = |len: usize| prop::collection::vec(number.clone(), len);
            // Few rows and many ids: some twice, some never.
            let ids = prop::collection::vec(0..num_rows, 0..12);
            let rows = ids.prop_flat_map({
                let number = number.clone();
                move |ids| {
                    let values = prop::collection::vec(number.clone(), ids.len() * width);
                    (Just(ids), values)
                }
            });
            let gradient = prop_oneof![
                numbers(len).prop_map(|dense| (Some(dense), None)),
                rows.prop_map(|rows| (None, Some(rows))),
            ];
            let decay = || prop_oneof![Just(0.0), 0.0..0.1];
            let momentum =
                prop::option::of((0.0..0.99, prop_oneof![Just(0.0), 0.0..1.0], any::<bool>()));
            let options = (0.0..1.0, [decay(), decay()], momentum);
            (numbers(len), numbers(len), gradient, options).prop_map(
                move |(values, velocity, (dense, rows), (learning_rate, decays, momentum))| Case {
                    num_rows,
                    width,
                    values,
                    velocity,
                    dense,
                    rows,
                    learning_rate,
                    decays,
                    momentum,
                },
            )
        })
    }

    proptest! {
        #[test]
        fn norm_and_step_are_those_of_the_definition(
            cases in prop::collection::vec(cases(), 0..5),
            scale in 0.0..1.0,
        ) {
            let squares = cases.iter().flat_map(Case::gradient).map(|g| g * g);
            let expected = squares.sum::<f64>().sqrt();
            let (norm, states) = run::<f64>(&cases, scale, 2);
            prop_assert!((norm - expected).abs() <= 1e-12 * expected, "{norm}, not {expected}");
            // Numbers are below 15, and a step is at most ten operations, each exact to half of 2⁻²⁴ of its size.
            let (single_norm, single) = run::<f32>(&cases, scale, 1);
            prop_assert!((single_norm - expected).abs() <= 2e-6 * (1.0 + expected));
            for (case, (double, single)) in cases.iter().zip(states.iter().zip(&single)) {
                let expected = case.reference(scale);
                for which in 0..2 {
                    for (i, expected) in expected[which].iter().enumerate() {
                        prop_assert!((double[which][i] - expected).abs() < 1e-12);
                        prop_assert!((single[which][i] - expected).abs() < 1e-5);
                    }
                }
            }
        }
    }

    /// More than one task a parameter, of rows as well.
    fn large() -> Vec<Case> {
        let (num_rows, width) = (700, 130);
        let numbers = |len: usize, rate: f64| -> Vec<f64> {
            (0..len).map(|i| (i as f64 * rate).sin()).collect()
        };
        let ids: Vec<_> = (0..300).map(|i| i * i % num_rows).collect();
        let rows = Some((ids, numbers(300 * width, 0.7)));
        let case = Case {
            num_rows,
            width,
            values: numbers(num_rows * width, 0.3),
            velocity: numbers(num_rows * width, 0.4),
            dense: Some(numbers(num_rows * width, 0.5)),
            rows: None,
            learning_rate: 0.5,
            decays: [0.0; 2],
            momentum: None,
        };
        let momentum = Some((0.9, 0.0, true));
        vec![
            Case { rows: rows.clone(), dense: None, ..case.clone() },
            Case { rows, dense: None, decays: [0.1, 0.0], momentum, ..case.clone() },
            Case { momentum, ..case.clone() },
            case,
        ]
    }

    #[test]
    fn large_parameters_take_the_same_step() {
        let cases = large();
        let (norm, states) = run::<f64>(&cases, 0.25, 2);
        let squares = cases.iter().flat_map(Case::gradient).map(|g| g * g);
        let expected = squares.sum::<f64>().sqrt();
        assert!((norm - expected).abs() < 1e-12 * expected);
        for (case, state) in cases.iter().zip(states) {
            for (actual, expected) in
                state.iter().flatten().zip(case.reference(0.25).iter().flatten())
            {
                assert!((actual - expected).abs() < 1e-14, "{actual}, not {expected}");
            }
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let (one, two) = (run::<f32>(&large(), 0.25, 1), run::<f32>(&large(), 0.25, 2));
        assert_eq!(one.0.to_bits(), two.0.to_bits());
        assert!(one == two);
    }

    /// Three rows of two elements, of which the gradient has the last, twice.
    fn embedding() -> Case {
        Case {
            num_rows: 3,
            width: 2,
            values: vec![1.0; 6],
            velocity: vec![0.0; 6],
            dense: None,
            rows: Some((vec![2, 2], vec![1.0, 2.0, 3.0, 4.0])),
            learning_rate: 0.5,
            decays: [0.0; 2],
            momentum: None,
        }
    }

    #[test]
    fn values_of_one_row_are_added_before_they_are_squared() {
        let (norm, states) = run::<f32>(&[embedding()], 1.0, 1);
        assert_eq!(norm, (4.0 * 4.0 + 6.0 * 6.0_f64).sqrt());
        assert_eq!(states[0][0], [1.0, 1.0, 1.0, 1.0, -1.0, -2.0]);
    }

    #[test]
    fn rows_without_a_gradient_are_left_alone_unless_they_decay_or_move() {
        let ranges = |case: &Case| {
            let (ids, values) = case.rows.as_ref().unwrap();
            let [mut values_, mut velocity] = [case.values.clone(), case.velocity.clone()];
            let parameter = Parameter {
                values: &mut values_,
                gradient: Gradient::Rows(Rows::new(ids, values, [3, 2])),
                learning_rate: 1.0,
                coupled_decay: case.decays[0],
                decoupled_decay: case.decays[1],
                momentum: case.momentum.map(|_| Momentum {
                    velocity: &mut velocity,
                    momentum: 0.5,
                    dampening: 0.0,
                    nesterov: false,
                }),
            };
            parameter.ranges()
        };
        let [touched, all] = [4..6, 0..6].map(|range| vec![range]);
        assert_eq!(ranges(&embedding()), touched);
        assert_eq!(ranges(&Case { decays: [0.1, 0.0], ..embedding() }), all);
        assert_eq!(ranges(&Case { decays: [0.0, 0.1], ..embedding() }), all);
        assert_eq!(ranges(&Case { momentum: Some((0.5, 0.0, false)), ..embedding() }), all);
    }

    #[test]
    fn a_norm_that_is_not_finite_is_one_of_the_gradient() {
        for bad in [f64::NAN, f64::INFINITY] {
            let mut case = Case { dense: Some(vec![1.0; 6]), rows: None, ..embedding() };
            case.dense.as_mut().unwrap()[3] = bad;
            assert!(!run::<f32>(&[case], 1.0, 1).0.is_finite());
        }
        // Squares of single precision that overflow there do not here.
        let case = Case { dense: Some(vec![1e30; 6]), rows: None, ..embedding() };
        assert!((run::<f32>(&[case], 1.0, 1).0 / (6.0_f64.sqrt() * 1e30) - 1.0).abs() < 1e-6);
    }

    #[test]
    #[should_panic(expected = "the id 3 at place 1 is none of the 3 rows")]
    fn rows_are_checked() {
        Rows::new(&[0, 3, 1], &[0.0_f32; 6], [3, 2]);
    }
}
