use burn::tensor::Tensor;
use burn::tensor::activation::relu;

use super::inputs::{MIN_SIGMA, SampledWeightInputs};
use super::prior::{LogDensity, MixtureOver, ScaleMixture};

/// Exponentials of numbers below this are finite in single precision.
const MAX_EXPONENT: f64 = 80.0;

/// [`sampled_weight`](super::sampled_weight) in Burn's operations: its specification.
///
/// # Panics
///
/// If shapes do not fit each other.
pub fn sampled_weight<const D: usize>(inputs: SampledWeightInputs<D>) -> (Tensor<D>, Tensor<1>) {
    let SampledWeightInputs { mean, rho, noise, prior } = inputs;
    // Burn's softplus needs more passes over all weights to be right above 80; no ρ gets there.
    let sigma = rho.exp().log1p() + MIN_SIGMA;
    // ln N(μ + σ ε; μ, σ²) without its 1/√(2π), which the prior lacks, too.
    let log_q = sigma.clone().log().sum() + noise.clone().square().sum() * 0.5;
    let dims = mean.dims();
    let weights = mean + (sigma * noise).reshape(dims);
    let log_p = log_density(prior, weights.clone().reshape([-1, dims[D - 1] as i32]));
    (weights, (log_q + log_p).neg())
}

/// `ln p` of all weights of a matrix together, without the factor `1/√(2π)` of each: `[1]`.
fn log_density(prior: ScaleMixture, weights: Tensor<2>) -> Tensor<1> {
    let [rows, width] = weights.dims();
    let (square, count) = match prior.over {
        MixtureOver::Weight => (weights.square(), rows * width),
        MixtureOver::Row => (weights.square().sum_dim(1), rows),
    };
    let LogDensity { wide, wide_slope, largest, slope, .. } = prior.log_density(width);
    let exponent = square.clone() * -slope + largest;
    let excess = if largest < MAX_EXPONENT {
        exponent.exp().log1p()
    } else {
        relu(exponent.clone()) + exponent.abs().neg().exp().log1p()
    };
    (excess - square * wide_slope).sum() + wide * count as f64
}
