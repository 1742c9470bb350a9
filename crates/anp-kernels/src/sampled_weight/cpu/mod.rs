mod kernel;

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;

use super::{
    SampledWeightBackend, SampledWeightBackward, SampledWeightForward, SampledWeightGradients,
    SampledWeightOutputs, SampledWeightSaved,
};
use crate::cpu::backend::{CpuBackend, CpuScalar, Like, threads, with_scalar};
use kernel::Draw;

impl<B: CpuBackend> SampledWeightBackend for B {
    fn sampled_weight_forward(inputs: SampledWeightForward<B>) -> SampledWeightOutputs<B> {
        with_scalar!(inputs.mean.dtype(), forward::<B>(inputs))
    }
}

impl<B: CpuBackend> SampledWeightBackward for B {
    fn sampled_weight_backward(
        saved: SampledWeightSaved<B>,
        divergence_grad: FloatTensor<B>,
        weights_grad: Option<FloatTensor<B>>,
    ) -> SampledWeightGradients<B> {
        with_scalar!(saved.weights.dtype(), backward::<B>(saved, divergence_grad, weights_grad))
    }
}

fn forward<B: CpuBackend, E: CpuScalar>(
    inputs: SampledWeightForward<B>,
) -> SampledWeightOutputs<B> {
    let SampledWeightForward { mean, rho, noise, prior } = inputs;
    let (like, shape) = (Like::<B>::new(&mean), mean.shape());
    let (rho, noise) = (B::values::<E>(rho), B::values(noise));
    let draw = Draw { rho: &rho, noise: &noise, density: prior.log_density(width(&shape)) };
    let (weights, divergence) = draw.forward(&B::values(mean), threads());
    SampledWeightOutputs {
        weights: like.tensor(weights, shape),
        divergence: like.tensor(vec![E::from_f64(divergence)], [1]),
    }
}

fn backward<B: CpuBackend, E: CpuScalar>(
    saved: SampledWeightSaved<B>,
    divergence_grad: FloatTensor<B>,
    weights_grad: Option<FloatTensor<B>>,
) -> SampledWeightGradients<B> {
    let SampledWeightSaved { weights, rho, noise, prior } = saved;
    let (like, shape) = (Like::<B>::new(&weights), weights.shape());
    let divergence_grad = B::values::<E>(divergence_grad)[0];
    let (weights, rho, noise) = (B::values::<E>(weights), B::values(rho), B::values(noise));
    let draw = Draw { rho: &rho, noise: &noise, density: prior.log_density(width(&shape)) };
    let mut mean_grad = match weights_grad {
        Some(gradient) => B::owned::<E>(gradient),
        None => vec![E::ZERO; weights.len()],
    };
    let rho_grad = draw.backward(&weights, &mut mean_grad, divergence_grad, threads());
    let len = rho_grad.len();
    SampledWeightGradients {
        mean: like.tensor(mean_grad, shape),
        rho: like.tensor(rho_grad, [len]),
    }
}

/// Weights in a row.
fn width(shape: &Shape) -> usize {
    shape.as_slice().last().copied().unwrap_or(1)
}
