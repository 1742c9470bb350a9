use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;

use super::{MixtureOver, ScaleMixture, WeightDrawBackend};
use crate::backend::Optional;
use crate::cpu::weight_draw::{self, LogDensity, Together};
use crate::host::{HostBackend, HostReal, Like, threads, with_real};

fn prior_of(shape: &[usize], prior: ScaleMixture) -> (LogDensity, Together) {
    let width = shape.last().copied().unwrap_or(1);
    let together = match prior.over {
        MixtureOver::Weight => Together::One,
        MixtureOver::Row => Together::Row(width),
    };
    (prior.log_density(width), together)
}

fn forward<B: HostBackend, E: HostReal>(
    mean: FloatTensor<B>,
    rho: FloatTensor<B>,
    noise: FloatTensor<B>,
    prior: ScaleMixture,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (like, shape) = (Like::<B>::new(&mean), mean.shape());
    let (density, together) = prior_of(shape.as_slice(), prior);
    let (mean, rho, noise) = (B::values::<E>(mean), B::values::<E>(rho), B::values::<E>(noise));
    let (weights, divergence) =
        weight_draw::forward(&mean, &rho, &noise, density, together, threads());
    (like.tensor(vec![E::from_f64(divergence)], [1]), like.tensor(weights, shape))
}

fn backward<B: HostBackend, E: HostReal>(
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
    let rho_grad = weight_draw::backward(
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

macro_rules! host_weight_draw {
    ($backend:ty) => {
        impl WeightDrawBackend for $backend {
            fn weight_draw_forward(
                mean: FloatTensor<Self>,
                rho: FloatTensor<Self>,
                noise: FloatTensor<Self>,
                prior: ScaleMixture,
            ) -> (FloatTensor<Self>, FloatTensor<Self>) {
                with_real!(mean.dtype(), forward::<Self>(mean, rho, noise, prior))
            }

            fn weight_draw_backward(
                weights: FloatTensor<Self>,
                rho: FloatTensor<Self>,
                noise: FloatTensor<Self>,
                prior: ScaleMixture,
                divergence_grad: FloatTensor<Self>,
                weights_grad: Optional<Self>,
            ) -> (FloatTensor<Self>, FloatTensor<Self>) {
                with_real!(
                    weights.dtype(),
                    backward::<Self>(weights, rho, noise, prior, divergence_grad, weights_grad)
                )
            }
        }
    };
}

#[cfg(feature = "flex")]
host_weight_draw!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
host_weight_draw!(burn::backend::NdArray);
