pub(crate) mod kernel;
pub(crate) mod winograd;

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;

use super::{Conv2dBackend, Conv2dOptions};
use crate::backend::Optional;
use crate::cpu::backend::{CpuBackend, CpuScalar, Like, threads, with_scalar};
use kernel::Dims;

fn dims(input: [usize; 4], weight: [usize; 4], options: Conv2dOptions) -> Dims {
    let [batch_size, channels_in, height, width] = input;
    let [channels_out, _, kernel_height, kernel_width] = weight;
    Dims {
        batch_size,
        channels_in,
        channels_out,
        input: [height, width],
        kernel: [kernel_height, kernel_width],
        stride: options.stride,
        padding: options.padding,
    }
}

fn forward<B: CpuBackend, E: CpuScalar>(
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Optional<B>,
    options: Conv2dOptions,
) -> FloatTensor<B> {
    let like = Like::<B>::new(&input);
    let dims = dims(input.shape().dims(), weight.shape().dims(), options);
    let [height, width] = dims.output().expect("the caller has checked the sizes");
    let bias = bias.into_option().map(B::values::<E>);
    let (input, weight) = (B::values::<E>(input), B::values::<E>(weight));
    let output = kernel::forward(&dims, &input, &weight, bias.as_deref(), threads());
    like.tensor(output, [dims.batch_size, dims.channels_out, height, width])
}

fn input_gradient<B: CpuBackend, E: CpuScalar>(
    weight: FloatTensor<B>,
    upstream: FloatTensor<B>,
    [height, width]: [usize; 2],
    options: Conv2dOptions,
) -> FloatTensor<B> {
    let like = Like::<B>::new(&upstream);
    let [batch_size, ..] = upstream.shape().dims::<4>();
    let [_, channels_in, ..] = weight.shape().dims::<4>();
    let shape = [batch_size, channels_in, height, width];
    let dims = dims(shape, weight.shape().dims(), options);
    let (weight, upstream) = (B::values::<E>(weight), B::values::<E>(upstream));
    like.tensor(kernel::input_gradient(&dims, &weight, &upstream, threads()), shape)
}

fn weight_gradient<B: CpuBackend, E: CpuScalar>(
    input: FloatTensor<B>,
    upstream: FloatTensor<B>,
    [kernel_height, kernel_width]: [usize; 2],
    options: Conv2dOptions,
) -> FloatTensor<B> {
    let like = Like::<B>::new(&upstream);
    let [_, channels_in, ..] = input.shape().dims::<4>();
    let [_, channels_out, ..] = upstream.shape().dims::<4>();
    let shape = [channels_out, channels_in, kernel_height, kernel_width];
    let dims = dims(input.shape().dims(), shape, options);
    let (input, upstream) = (B::values::<E>(input), B::values::<E>(upstream));
    like.tensor(kernel::weight_gradient(&dims, &input, &upstream, threads()), shape)
}

fn bias_gradient<B: CpuBackend, E: CpuScalar>(upstream: FloatTensor<B>) -> FloatTensor<B> {
    let (like, shape) = (Like::<B>::new(&upstream), upstream.shape());
    let [_, channels, height, width] = shape.dims();
    let gradient =
        kernel::bias_gradient(&B::values::<E>(upstream), channels, height * width, threads());
    like.tensor(gradient, Shape::new([channels]))
}

macro_rules! cpu_conv2d {
    ($backend:ty) => {
        impl Conv2dBackend for $backend {
            fn conv2d_forward(
                input: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: Optional<Self>,
                options: Conv2dOptions,
            ) -> FloatTensor<Self> {
                with_scalar!(input.dtype(), forward::<Self>(input, weight, bias, options))
            }

            fn conv2d_input_gradient(
                weight: FloatTensor<Self>,
                upstream: FloatTensor<Self>,
                input: [usize; 2],
                options: Conv2dOptions,
            ) -> FloatTensor<Self> {
                with_scalar!(
                    weight.dtype(),
                    input_gradient::<Self>(weight, upstream, input, options)
                )
            }

            fn conv2d_weight_gradient(
                input: FloatTensor<Self>,
                upstream: FloatTensor<Self>,
                kernel: [usize; 2],
                options: Conv2dOptions,
            ) -> FloatTensor<Self> {
                with_scalar!(
                    input.dtype(),
                    weight_gradient::<Self>(input, upstream, kernel, options)
                )
            }

            fn conv2d_bias_gradient(upstream: FloatTensor<Self>) -> FloatTensor<Self> {
                with_scalar!(upstream.dtype(), bias_gradient::<Self>(upstream))
            }
        }
    };
}

#[cfg(feature = "flex")]
cpu_conv2d!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
cpu_conv2d!(burn::backend::NdArray);
