//! The divergence between Gaussians that bounds what a noisy activation tells of its input.

use burn::tensor::Tensor;

use crate::widen::widen;

/// Kullback-Leibler divergence of N(μ, diag σ²) from N(0, I) for each token, in nats.
///
/// ```text
/// KL(N(μ, diag σ²) ‖ N(0, I)) = ½ Σₖ (μₖ² + σₖ² − 1 − ln σₖ²)
/// ```
///
/// Its mean over tokens is an upper bound on the information that the noisy activation has about
/// the input: [Alemi et al., 2016](https://arxiv.org/abs/1612.00410), and equation 8 of the
/// activation norm paper. ½‖μ‖² of it is what the activation norm penalty keeps.
///
/// It takes ln σ, which is finite where σ is too small to be. Near the prior the terms cancel: the
/// error is that of a rounding of 1 per feature.
///
/// ```
/// use anp_core::gaussian_kl;
/// use burn::prelude::*;
///
/// let device = Device::default();
/// let mean = Tensor::<2>::from_data([[1.0, -2.0], [0.0, 0.0]], &device);
/// let log_sigma = Tensor::<2>::zeros([1, 2], &device); // the same for all tokens
/// let kl = gaussian_kl(mean, log_sigma);
/// kl.into_data().assert_eq(&TensorData::from([[2.5_f32], [0.0]]), true);
/// ```
///
/// # Shapes
///
/// - `mean`: μ, `[.., d_hidden]`
/// - `log_sigma`: ln σ, that of `mean`, or 1 in dimensions along which one σ is for all tokens
/// - returns: `[.., 1]`, in single precision if the inputs are in half precision
pub fn gaussian_kl<const D: usize>(mean: Tensor<D>, log_sigma: Tensor<D>) -> Tensor<D> {
    let log_variance = widen(log_sigma).mul_scalar(2.0);
    let of_sigma = (log_variance.clone().exp() - log_variance - 1.0).sum_dim(D - 1);
    (widen(mean).square().sum_dim(D - 1) + of_sigma).mul_scalar(0.5)
}
