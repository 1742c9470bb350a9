//! Coding rates of features (Yu et al., 2020).

use burn::tensor::{Int, Tensor};

use crate::error::validate_range;
use crate::gram::GramFactor;
use crate::host_function::host_function;
use crate::widen::widen;

/// Coding rate R of features: nats to encode an example up to a squared error of ε².
///
/// For the features zᵢ of m examples (rows of Z) with d dimensions:
///
/// ```text
/// R(Z, ε²) = ½ · ln det(I + d/(m·ε²) · ZᵀZ)
///
/// ∂R/∂Z = d/(m·ε²) · Z (I + d/(m·ε²) · ZᵀZ)⁻¹
/// ```
///
/// [Yu et al., 2020](https://arxiv.org/abs/2006.08558); the paper writes examples as
/// columns, and its features have unit length. They are taken as they are here: without a fixed
/// length the rate grows without bound. The same determinant is in
/// [`InformationBound`](crate::InformationBound), whose notes on precision and cost apply.
///
/// # Shapes
///
/// - `features`: `[num_examples, num_features]`
/// - returns: `[1]`, f64 for f64 features, else f32
///
/// # Panics
///
/// If `features` has no element, or `epsilon_squared` (ε²) is not positive and finite.
pub fn coding_rate(features: Tensor<2>, epsilon_squared: f64) -> Tensor<1> {
    let [num_examples, num_features] = check(&features, epsilon_squared);
    host_function(features, |rows, gradient| {
        let scale = num_features as f64 / (num_examples as f64 * epsilon_squared);
        let factor = GramFactor::new(rows, num_features, scale, 1.0);
        let rate = 0.5 * factor.log_determinant();
        if let Some(gradient) = gradient {
            for (g, solved) in gradient.iter_mut().zip(factor.solve()) {
                *g = scale * solved;
            }
        }
        rate
    })
}

/// Coding rate R_c of features whose classes are encoded one by one.
///
/// For the mⱼ examples Zⱼ of class j out of m:
///
/// ```text
/// R_c(Z, ε² | labels) = Σⱼ mⱼ/(2m) · ln det(I + d/(mⱼ·ε²) · ZⱼᵀZⱼ)
/// ```
///
/// [Yu et al., 2020](https://arxiv.org/abs/2006.08558). A class without examples adds
/// nothing.
///
/// # Shapes
///
/// - `features`: `[num_examples, num_features]`
/// - `labels`: `[num_examples]`
/// - returns: `[1]`, f64 for f64 features, else f32
///
/// # Panics
///
/// As [`coding_rate`], or if there are not as many labels as examples, or a label is not in
/// `0..num_classes`.
pub fn class_coding_rate(
    features: Tensor<2>,
    labels: Tensor<1, Int>,
    num_classes: usize,
    epsilon_squared: f64,
) -> Tensor<1> {
    let [num_examples, num_features] = check(&features, epsilon_squared);
    let classes = examples_of_classes(labels, num_examples, num_classes);
    host_function(features, |rows, mut gradient| {
        let rate = |examples: &Vec<usize>| {
            let row = |&example: &usize| &rows[example * num_features..][..num_features];
            let members: Vec<f64> = examples.iter().flat_map(row).copied().collect();
            let share = examples.len() as f64 / num_examples as f64;
            let scale = num_features as f64 / (examples.len() as f64 * epsilon_squared);
            let factor = GramFactor::new(&members, num_features, scale, 1.0);
            let rate = 0.5 * share * factor.log_determinant();
            if let Some(gradient) = &mut gradient {
                let solved = factor.solve();
                for (&example, solved) in examples.iter().zip(solved.chunks_exact(num_features)) {
                    let gradient = &mut gradient[example * num_features..][..num_features];
                    for (g, solved) in gradient.iter_mut().zip(solved) {
                        *g = share * scale * solved;
                    }
                }
            }
            rate
        };
        classes.iter().filter(|examples| !examples.is_empty()).map(rate).sum()
    })
}

/// Coding rate reduction ΔR = R − R_c: what knowing the class saves.
///
/// Maximal coding rate reduction (MCR²) makes features of different classes orthogonal and those of
/// one class fill their subspace: minimise −ΔR over features of unit length.
///
/// ```text
/// ΔR(Z, ε² | labels) = R(Z, ε²) − R_c(Z, ε² | labels)
/// ```
///
/// [Yu et al., 2020](https://arxiv.org/abs/2006.08558). The terms are [`coding_rate`]
/// and [`class_coding_rate`].
///
/// ```
/// use anp_core::coding_rate_reduction;
/// use burn::prelude::*;
///
/// // Two classes at right angles, and no more: R = ln 5, R_c = ½ ln 9.
/// let device = Device::default();
/// let features = Tensor::<2>::from_data([[1.0, 0.0], [0.0, 1.0]], &device).repeat_dim(0, 2);
/// let labels = Tensor::<1, Int>::from_data([0, 1, 0, 1], &device);
/// let reduction = coding_rate_reduction(features, labels, 2, 0.25).into_scalar::<f32>();
/// assert!((reduction - (5_f32 / 3.0).ln()).abs() < 1e-6);
/// ```
///
/// # Shapes
///
/// - `features`: `[num_examples, num_features]`
/// - `labels`: `[num_examples]`
/// - returns: `[1]`, f64 for f64 features, else f32
///
/// # Panics
///
/// As [`class_coding_rate`].
pub fn coding_rate_reduction(
    features: Tensor<2>,
    labels: Tensor<1, Int>,
    num_classes: usize,
    epsilon_squared: f64,
) -> Tensor<1> {
    // Before the two gradients are added: they nearly cancel.
    let features = widen(features);
    coding_rate(features.clone(), epsilon_squared)
        - class_coding_rate(features, labels, num_classes, epsilon_squared)
}

/// The dimensions of `features`, after a check of the arguments.
fn check(features: &Tensor<2>, epsilon_squared: f64) -> [usize; 2] {
    let is_positive = epsilon_squared.is_finite() && epsilon_squared > 0.0;
    validate_range("epsilon_squared", epsilon_squared, "(0, ∞)", is_positive)
        .unwrap_or_else(|err| panic!("{err}"));
    let dims = features.dims();
    assert!(!dims.contains(&0), "a coding rate needs features, got the shape {dims:?}");
    dims
}

/// The examples of each class, in their order.
fn examples_of_classes(
    labels: Tensor<1, Int>,
    num_examples: usize,
    num_classes: usize,
) -> Vec<Vec<usize>> {
    let labels = labels.into_data().try_into_vec_as::<i64>().expect("integers convert");
    let num_labels = labels.len();
    assert_eq!(num_labels, num_examples, "{num_labels} labels for {num_examples} examples");
    let mut classes = vec![Vec::new(); num_classes];
    for (example, label) in labels.into_iter().enumerate() {
        let class = usize::try_from(label).ok().and_then(|label| classes.get_mut(label));
        class
            .unwrap_or_else(|| panic!("the label {label} is not in 0..{num_classes}"))
            .push(example);
    }
    classes
}
