mod kernel;

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;

use super::ops::{BatchNormForward, BatchNormGradients, BatchNormOutputs, BatchNormSaved};
use super::{BatchNormBackend, BatchNormBackward};
use crate::cpu::backend::{CpuBackend, CpuScalar, Like, threads, with_scalar};
use kernel::{BatchNorm, Dims, Normalized};

impl<B: CpuBackend> BatchNormBackend for B {
    fn batch_norm_forward(inputs: BatchNormForward<B>) -> BatchNormOutputs<B> {
        with_scalar!(inputs.input.dtype(), forward::<B>(inputs))
    }
}

impl<B: CpuBackend> BatchNormBackward for B {
    fn batch_norm_backward(
        saved: BatchNormSaved<B>,
        output_grad: FloatTensor<B>,
    ) -> BatchNormGradients<B> {
        with_scalar!(output_grad.dtype(), backward::<B>(saved, output_grad))
    }
}

fn forward<B: CpuBackend, E: CpuScalar>(inputs: BatchNormForward<B>) -> BatchNormOutputs<B> {
    let BatchNormForward { input, gamma, beta, mean, variance, epsilon, relu } = inputs;
    let (like, shape) = (Like::<B>::new(&input), input.shape());
    let (input, gamma, beta) = (B::values::<E>(input), B::values(gamma), B::values(beta));
    let [mean, variance] = [mean, variance].map(|given| given.into_option().map(B::values));
    let statistics = mean.as_deref().zip(variance.as_deref());
    let norm =
        BatchNorm { dims: dims(&shape), input: &input, gamma: &gamma, beta: &beta, epsilon, relu };
    let Normalized { output, mean, variance } = norm.forward(statistics, threads());
    let channels = [gamma.len()];
    BatchNormOutputs {
        output: like.tensor(output, shape),
        mean: like.tensor(mean, channels),
        variance: like.tensor(variance, channels),
    }
}

fn backward<B: CpuBackend, E: CpuScalar>(
    saved: BatchNormSaved<B>,
    output_grad: FloatTensor<B>,
) -> BatchNormGradients<B> {
    let BatchNormSaved { inputs, mean, variance } = saved;
    let BatchNormForward { input, gamma, beta, mean: given, epsilon, relu, .. } = inputs;
    let of_batch = given.into_option().is_none();
    let (like, shape) = (Like::<B>::new(&input), input.shape());
    let (input, gamma, beta) = (B::values::<E>(input), B::values(gamma), B::values(beta));
    let (mean, variance) = (B::values(mean), B::values(variance));
    let norm =
        BatchNorm { dims: dims(&shape), input: &input, gamma: &gamma, beta: &beta, epsilon, relu };
    let statistics = (&*mean, &*variance);
    let gradients = norm.backward(statistics, of_batch, &B::values(output_grad), threads());
    let channels = [gamma.len()];
    BatchNormGradients {
        input: like.tensor(gradients.input, shape),
        gamma: like.tensor(gradients.gamma, channels),
        beta: like.tensor(gradients.beta, channels),
    }
}

fn dims(shape: &Shape) -> Dims {
    let [batch_size, channels, height, width] = shape.dims();
    Dims { batch_size, channels, places: height * width }
}
