//! Values and gradients, and whether they are those expected.
//!
//! A tolerance is relative to the largest magnitude of the expected array, not to each element:
//! an element that is small because larger ones cancel has their rounding errors.

use burn::tensor::{Gradients, Tensor};

/// Named results, compared one by one.
pub type Values = Vec<(&'static str, Vec<f64>)>;

/// The elements of a tensor in double precision, row by row.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// The elements of a leaf's gradient.
///
/// # Panics
///
/// If it has none.
#[track_caller]
pub fn gradient<const D: usize>(leaf: &Tensor<D>, gradients: &Gradients) -> Vec<f64> {
    values(leaf.grad(gradients).expect("the leaf has a gradient"))
}

/// Compare two arrays.
///
/// # Panics
///
/// If they differ in size, or somewhere by more than `tolerance` times the largest expected
/// magnitude; the message has `what` and the first such element.
#[track_caller]
pub fn assert_close(what: &str, actual: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len(), "{what} has another size");
    let scale = expected.iter().fold(1e-30, |max: f64, x| max.max(x.abs()));
    for (index, (a, e)) in actual.iter().zip(expected).enumerate() {
        let error = (a - e).abs() / scale;
        assert!(
            error <= tolerance,
            "{what}[{index}] is {a}, expected {e} ({error:e} > {tolerance:e})"
        );
    }
}

/// Compare results of the same names with [`assert_close`].
///
/// # Panics
///
/// If they have other names, or differ.
#[track_caller]
pub fn assert_values_close(what: &str, actual: &Values, expected: &Values, tolerance: f64) {
    let names = |values: &Values| values.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    assert_eq!(names(actual), names(expected), "{what}: other results");
    for ((name, actual), (_, expected)) in actual.iter().zip(expected) {
        assert_close(&format!("{what}: {name}"), actual, expected, tolerance);
    }
}

/// Check `gradient`, that of `loss` at `point`, by central differences at every element.
///
/// The loss must be computed in double precision and be of the order of one. Then the step's own
/// error and rounding are both near 1e-10.
///
/// # Panics
///
/// If an element differs by more than 1e-7 of the largest magnitude, or of 1e-3 if that is larger.
#[track_caller]
pub fn assert_gradient(
    what: &str,
    point: &[f64],
    gradient: &[f64],
    loss: impl Fn(Vec<f64>) -> f64,
) {
    const STEP: f64 = 1e-5;
    let scale = gradient.iter().fold(1e-3, |max: f64, x| max.max(x.abs()));
    for (index, &expected) in gradient.iter().enumerate() {
        let shifted = |step: f64| {
            let mut point = point.to_vec();
            point[index] += step;
            loss(point)
        };
        let actual = (shifted(STEP) - shifted(-STEP)) / (2.0 * STEP);
        let error = (actual - expected).abs() / scale;
        assert!(error < 1e-7, "{what}[{index}]: gradient {expected}, by differences {actual}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tolerance_is_a_share_of_the_largest_magnitude() {
        assert_close("small", &[1e-7, -2.0], &[0.0, -2.0], 1e-7);
        let refused = |actual: &'static [f64], expected: &'static [f64]| {
            std::panic::catch_unwind(|| assert_close("it", actual, expected, 1e-7)).is_err()
        };
        assert!(refused(&[3e-7, -2.0], &[0.0, -2.0]));
        assert!(refused(&[1e-7, 0.0], &[0.0, 0.0]));
        assert!(refused(&[f64::NAN, -2.0], &[0.0, -2.0]));
        assert!(refused(&[0.0], &[0.0, 0.0]));
    }

    #[test]
    fn a_wrong_gradient_is_found() {
        let loss = |x: Vec<f64>| x[0].sin() * x[1];
        let point = [0.5_f64, 2.0];
        assert_gradient("it", &point, &[0.5_f64.cos() * 2.0, 0.5_f64.sin()], loss);
        let wrong = [0.5_f64.cos() * 2.0, 0.5_f64.sin() + 1e-6];
        assert!(std::panic::catch_unwind(|| assert_gradient("it", &point, &wrong, loss)).is_err());
    }
}
