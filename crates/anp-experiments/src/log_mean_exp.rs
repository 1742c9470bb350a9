use burn::tensor::Tensor;

/// Logarithm of the mean over the first dimension of probabilities that are given as logarithms:
///
/// ```text
/// ln 1/N Σ_n exp(xₙ)
/// ```
///
/// # Shapes
///
/// - `log_probs`: `[num_draws, ..]`
/// - returns: `[1, ..]`
pub(crate) fn log_mean_exp<const D: usize>(log_probs: Tensor<D>) -> Tensor<D> {
    // Relative to the largest probability, which then cannot underflow.
    let largest = log_probs.clone().max_dim(0);
    (log_probs - largest.clone()).exp().mean_dim(0).log() + largest
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn a_mean_of_tiny_probabilities_does_not_underflow() {
        let log_probs =
            Tensor::<2>::from_data([[-1000.0, 0.0], [-1001.0, -50.0]], &Device::default());
        let mean: Vec<f64> = log_mean_exp(log_probs).into_data().iter::<f64>().collect();
        let expected = [-1000.0 + ((1.0 + (-1.0_f64).exp()) / 2.0).ln(), -(2.0_f64.ln())];
        for (mean, expected) in mean.into_iter().zip(expected) {
            // A rounding of 1000 in single precision.
            assert!((mean - expected).abs() < 1e-4, "{mean}, {expected}");
        }
    }
}
