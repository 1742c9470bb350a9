mod kernel;

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;

use super::BatchNormBackend;
use crate::backend::Optional;
use crate::cpu::backend::{CpuBackend, CpuScalar, Like, threads, with_scalar};
use kernel::{Channel, Dims, Gradients, Normalized};

type Three<B> = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

fn dims<B: CpuBackend>(input: &FloatTensor<B>) -> Dims {
    let [batch_size, channels, height, width] = input.shape().dims();
    Dims { batch_size, channels, places: height * width }
}

fn forward<B: CpuBackend, E: CpuScalar>(
    input: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    mean: Optional<B>,
    variance: Optional<B>,
    epsilon: f64,
    relu: bool,
) -> Three<B> {
    let (like, shape, dims) = (Like::<B>::new(&input), input.shape(), dims::<B>(&input));
    let (input, gamma, beta) = (B::values::<E>(input), B::values(gamma), B::values(beta));
    let mean = mean.into_option().map(B::values::<E>);
    let variance = variance.into_option().map(B::values::<E>);
    let channel = Channel { gamma: &gamma, beta: &beta, epsilon, relu };
    let statistics = mean.as_deref().zip(variance.as_deref());
    let Normalized { output, mean, variance } =
        kernel::forward(dims, &input, &channel, statistics, threads());
    (
        like.tensor(output, shape),
        like.tensor(mean, [dims.channels]),
        like.tensor(variance, [dims.channels]),
    )
}

#[allow(clippy::too_many_arguments)]
fn backward<B: CpuBackend, E: CpuScalar>(
    input: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    mean: FloatTensor<B>,
    variance: FloatTensor<B>,
    upstream: FloatTensor<B>,
    of_batch: bool,
    epsilon: f64,
    relu: bool,
) -> Three<B> {
    let (like, shape, dims) = (Like::<B>::new(&input), input.shape(), dims::<B>(&input));
    let (input, gamma, beta) = (B::values::<E>(input), B::values(gamma), B::values(beta));
    let (mean, variance) = (B::values(mean), B::values(variance));
    let channel = Channel { gamma: &gamma, beta: &beta, epsilon, relu };
    let Gradients { input, gamma, beta } = kernel::backward(
        dims,
        &input,
        &channel,
        (&mean, &variance),
        of_batch,
        &B::values(upstream),
        threads(),
    );
    (
        like.tensor(input, shape),
        like.tensor(gamma, [dims.channels]),
        like.tensor(beta, [dims.channels]),
    )
}

macro_rules! cpu_batch_norm {
    ($backend:ty) => {
        impl BatchNormBackend for $backend {
            fn batch_norm_forward(
                input: FloatTensor<Self>,
                gamma: FloatTensor<Self>,
                beta: FloatTensor<Self>,
                mean: Optional<Self>,
                variance: Optional<Self>,
                epsilon: f64,
                relu: bool,
            ) -> Three<Self> {
                with_scalar!(
                    input.dtype(),
                    forward::<Self>(input, gamma, beta, mean, variance, epsilon, relu)
                )
            }

            fn batch_norm_backward(
                input: FloatTensor<Self>,
                gamma: FloatTensor<Self>,
                beta: FloatTensor<Self>,
                mean: FloatTensor<Self>,
                variance: FloatTensor<Self>,
                upstream: FloatTensor<Self>,
                of_batch: bool,
                epsilon: f64,
                relu: bool,
            ) -> Three<Self> {
                with_scalar!(
                    input.dtype(),
                    backward::<Self>(
                        input, gamma, beta, mean, variance, upstream, of_batch, epsilon, relu
                    )
                )
            }
        }
    };
}

#[cfg(feature = "flex")]
cpu_batch_norm!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
cpu_batch_norm!(burn::backend::NdArray);
