mod bf16;
mod kernel;
mod sizes;
mod taps;
mod transpose;
mod winograd;

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;

use super::{Conv2dBackend, Conv2dBackward, Conv2dForward, Conv2dOptions, Conv2dSaved};
use crate::cpu::backend::{CpuBackend, CpuScalar, Like, threads, with_scalar};
use sizes::Sizes;

impl<B: CpuBackend> Conv2dBackend for B {
    fn conv2d_forward(inputs: Conv2dForward<B>) -> FloatTensor<B> {
        with_scalar!(inputs.input.dtype(), forward::<B>(inputs))
    }
}

impl<B: CpuBackend> Conv2dBackward for B {
    fn conv2d_input_gradient(saved: Conv2dSaved<B>, output_grad: FloatTensor<B>) -> FloatTensor<B> {
        with_scalar!(output_grad.dtype(), input_gradient::<B>(saved, output_grad))
    }

    fn conv2d_weight_gradient(
        saved: Conv2dSaved<B>,
        output_grad: FloatTensor<B>,
    ) -> FloatTensor<B> {
        with_scalar!(output_grad.dtype(), weight_gradient::<B>(saved, output_grad))
    }

    fn conv2d_bias_gradient(output_grad: FloatTensor<B>) -> FloatTensor<B> {
        with_scalar!(output_grad.dtype(), bias_gradient::<B>(output_grad))
    }
}

fn forward<B: CpuBackend, E: CpuScalar>(inputs: Conv2dForward<B>) -> FloatTensor<B> {
    let Conv2dForward { input, weight, bias, options, precision } = inputs;
    let like = Like::<B>::new(&input);
    let sizes = sizes::<B>(&input, &weight, options);
    let bias = B::optional::<E>(bias);
    let (input, weight) = (B::values(input), B::values(weight));
    let output = kernel::forward(&sizes, &input, &weight, bias.as_deref(), precision, threads());
    let [height, width] = sizes.axes.map(|axis| axis.output);
    like.tensor(output, [sizes.batch_size, sizes.channels_out, height, width])
}

fn input_gradient<B: CpuBackend, E: CpuScalar>(
    saved: Conv2dSaved<B>,
    output_grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let Conv2dSaved { input, weight, options, precision } = saved;
    let (like, shape) = (Like::<B>::new(&output_grad), input.shape());
    let sizes = sizes::<B>(&input, &weight, options);
    // Only the shape is needed: free the memory before the gradient is allocated.
    drop(input);
    let (weight, output_grad) = (B::values::<E>(weight), B::values(output_grad));
    let gradient = kernel::input_gradient(&sizes, &weight, &output_grad, precision, threads());
    like.tensor(gradient, shape)
}

fn weight_gradient<B: CpuBackend, E: CpuScalar>(
    saved: Conv2dSaved<B>,
    output_grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let Conv2dSaved { input, weight, options, precision } = saved;
    let (like, shape) = (Like::<B>::new(&output_grad), weight.shape());
    let sizes = sizes::<B>(&input, &weight, options);
    let (input, output_grad) = (B::values::<E>(input), B::values(output_grad));
    let gradient = kernel::weight_gradient(&sizes, &input, &output_grad, precision, threads());
    like.tensor(gradient, shape)
}

fn bias_gradient<B: CpuBackend, E: CpuScalar>(output_grad: FloatTensor<B>) -> FloatTensor<B> {
    let like = Like::<B>::new(&output_grad);
    let [_, channels, height, width] = output_grad.shape().dims();
    let output_grad = B::values::<E>(output_grad);
    let gradient = kernel::bias_gradient(&output_grad, channels, height * width, threads());
    like.tensor(gradient, [channels])
}

fn sizes<B: CpuBackend>(
    input: &FloatTensor<B>,
    weight: &FloatTensor<B>,
    options: Conv2dOptions,
) -> Sizes {
    Sizes::new(input.shape().dims(), weight.shape().dims(), options)
        .expect("the caller has checked the sizes")
}
