mod kernel;

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;

use super::{LogDensity, MixtureOver, SampledWeightBackend, ScaleMixture};
use crate::backend::Optional;
use crate::cpu::backend::{CpuBackend, CpuScalar, Like, threads, with_scalar};
use kernel::Together;

fn prior_of(shape: &[usize], prior: ScaleMixture) -> (LogDensity, Together) {
    let width = shape.last().copied().unwrap_or(1);
    let together = match prior.over {
        MixtureOver::Weight => Together::One,
        MixtureOver::Row => Together::Row(width),
    };
    (prior.log_density(width), together)
}

fn forward<B: CpuBackend, E: CpuScalar>(
    mean: FloatTensor<B>,
    rho: FloatTensor<B>,
    noise: FloatTensor<B>,
    prior: ScaleMixture,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (like, shape) = (Like::<B>::new(&mean), mean.shape());
    let (density, together) = prior_of(shape.as_slice(), prior);
    let (mean, rho, noise) = (B::values::<E>(mean), B::values::<E>(rho), B::values::<E>(noise));
    let (weights, divergence) = kernel::forward(&mean, &rho, &noise, density, together, threads());
    (like.tensor(vec![E::from_f64(divergence)], [1]), like.tensor(weights, shape))
}

fn backward<B: CpuBackend, E: CpuScalar>(
    weights: FloatTensor<B>,
    rho: FloatTensor<B>,
    noise: FloatTensor<B>,
    prior: ScaleMixture,
    divergence_grad: FloatTensor<B>,
    weights_grad: Optional<B>,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (like, shape) = (Like::<B>::new(&weights), weights.shape());
    let (density, together) = prior_of(shape.as_slice(), prior);
    let divergence_grad = B::values::<E>(divergence_grad)[0];
    let (weights, rho, noise) =
        (B::values::<E>(weights), B::values::<E>(rho), B::values::<E>(noise));
    let mut mean_grad = match weights_grad.into_option() {
        Some(gradient) => B::owned::<E>(gradient),
        None => vec![E::ZERO; weights.len()],
    };
    let rho_grad = kernel::backward(
        &weights,
        &rho,
        &noise,
        density,
        together,
        &mut mean_grad,
        divergence_grad,
        threads(),
    );
    let len = rho_grad.len();
    (like.tensor(mean_grad, shape), like.tensor(rho_grad, [len]))
}

macro_rules! cpu_sampled_weight {
    ($backend:ty) => {
        impl SampledWeightBackend for $backend {
            fn sampled_weight_forward(
                mean: FloatTensor<Self>,
                rho: FloatTensor<Self>,
                noise: FloatTensor<Self>,
                prior: ScaleMixture,
            ) -> (FloatTensor<Self>, FloatTensor<Self>) {
                with_scalar!(mean.dtype(), forward::<Self>(mean, rho, noise, prior))
            }

            fn sampled_weight_backward(
                weights: FloatTensor<Self>,
                rho: FloatTensor<Self>,
                noise: FloatTensor<Self>,
                prior: ScaleMixture,
                divergence_grad: FloatTensor<Self>,
                weights_grad: Optional<Self>,
            ) -> (FloatTensor<Self>, FloatTensor<Self>) {
                with_scalar!(
                    weights.dtype(),
                    backward::<Self>(weights, rho, noise, prior, divergence_grad, weights_grad)
                )
            }
        }
    };
}

#[cfg(feature = "flex")]
cpu_sampled_weight!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
cpu_sampled_weight!(burn::backend::NdArray);
