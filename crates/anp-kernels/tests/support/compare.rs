use burn::tensor::{Gradients, Tensor};

/// Named values, to be compared one by one.
pub type Values = Vec<(&'static str, Vec<f64>)>;

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// The values of the gradient of a leaf.
#[track_caller]
pub fn gradient<const D: usize>(leaf: &Tensor<D>, gradients: &Gradients) -> Vec<f64> {
    values(leaf.grad(gradients).expect("the leaf has a gradient"))
}

/// Panic if two results differ by more than `tolerance` times the largest magnitude of the expected
/// one.
#[track_caller]
pub fn assert_close(what: &str, actual: &Values, expected: &Values, tolerance: f64) {
    assert_eq!(actual.len(), expected.len(), "{what}: other results");
    for ((name, actual), (expected_name, expected)) in actual.iter().zip(expected) {
        assert_eq!(name, expected_name, "{what}: other results");
        assert_eq!(actual.len(), expected.len(), "{what}: {name} has another size");
        let scale = expected.iter().fold(1e-30, |max: f64, x| max.max(x.abs()));
        for (index, (a, e)) in actual.iter().zip(expected).enumerate() {
            let error = (a - e).abs() / scale;
            assert!(
                error <= tolerance,
                "{what}: {name}[{index}] is {a}, expected {e} ({error:e} > {tolerance:e})"
            );
        }
    }
}

/// Check `gradient` (of `loss` at `point`) by central differences in double precision, at every
/// element.
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
