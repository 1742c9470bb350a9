use anp_core::{HyperParamError, display_on_one_line, validate_size};
use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, FloatDType, Tensor};

use crate::Kernels;
use crate::conv2d::{Conv2dInputs, Conv2dOptions};

/// Configuration of a [`Conv2d`].
#[derive(Config, Debug)]
pub struct Conv2dConfig {
    /// Channels of the input and of the output.
    pub channels: [usize; 2],
    /// Height and width of the kernel.
    pub kernel_size: [usize; 2],
    /// Places between two of the output, vertically and horizontally.
    #[config(default = "[1, 1]")]
    pub stride: [usize; 2],
    /// Zeros above and below, left and right of the input.
    #[config(default = "[0, 0]")]
    pub padding: [usize; 2],
    /// Whether each output channel has a number that is added to it.
    #[config(default = true)]
    pub bias: bool,
    /// How weight and bias are drawn; the default is Burn's and PyTorch's, uniform in ±1 /
    /// √`fan_in`.
    #[config(
        default = "Initializer::KaimingUniform { gain: 1.0 / 3.0_f64.sqrt(), fan_out_only: false }"
    )]
    pub initializer: Initializer,
    /// How the bias is drawn, if not like the weight.
    pub bias_initializer: Option<Initializer>,
    /// Type to compute in, whatever the type of input and parameters, which the output has; theirs,
    /// if there is none.
    pub compute_dtype: Option<FloatDType>,
    /// How it is computed.
    #[config(default = "Kernels::Fused")]
    pub kernels: Kernels,
}

impl Conv2dConfig {
    /// Check the values.
    ///
    /// # Errors
    ///
    /// [`HyperParamError::OutOfRange`] if a number of channels, a side of the kernel or a stride is
    /// 0.
    pub fn validate(&self) -> Result<(), HyperParamError> {
        let sizes = [("channels", self.channels), ("kernel_size", self.kernel_size)];
        for (name, [first, second]) in sizes.into_iter().chain([("stride", self.stride)]) {
            validate_size(name, first)?;
            validate_size(name, second)?;
        }
        Ok(())
    }

    /// Draw weight and bias on `device`, from its random number generator.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> Conv2d {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        let [channels_in, channels_out] = self.channels;
        let [height, width] = self.kernel_size;
        let fans = [channels_in, channels_out].map(|channels| Some(channels * height * width));
        let [fan_in, fan_out] = fans;
        let weight = [channels_out, channels_in, height, width];
        let bias = self.bias_initializer.as_ref().unwrap_or(&self.initializer);
        Conv2d {
            weight: self.initializer.init_with(weight, fan_in, fan_out, device),
            bias: self.bias.then(|| bias.init_with([channels_out], fan_in, fan_out, device)),
            stride: self.stride,
            padding: self.padding,
            compute_dtype: self.compute_dtype,
            kernels: self.kernels,
        }
    }
}

/// A convolution of images: [`conv2d`](crate::conv2d::conv2d) with a weight of its own.
///
/// It takes the place of `burn::nn::conv::Conv2d`, whose parameters have the same names and shapes,
/// where there is neither dilation nor groups and the padding is the same on opposite sides.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Conv2d {
    /// `[channels_out, channels_in, kernel height, kernel width]`.
    pub weight: Param<Tensor<4>>,
    /// `[channels_out]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// Places between two of the output, vertically and horizontally.
    pub stride: [usize; 2],
    /// Zeros above and below, left and right of the input.
    pub padding: [usize; 2],
    /// Type to compute in; that of input and parameters, if there is none.
    #[module(skip)]
    pub compute_dtype: Option<FloatDType>,
    /// How it is computed.
    #[module(skip)]
    pub kernels: Kernels,
}

impl Conv2d {
    /// Convolve a batch of images.
    ///
    /// With a type to compute in, input, weight and bias are rounded to it before, and the output
    /// comes back in the type of the input; gradients go the same way back, so that the parameters'
    /// are of the parameters' type.
    ///
    /// # Shapes
    ///
    /// - `input`: `[batch_size, channels_in, height, width]`
    /// - returns: `[batch_size, channels_out, height, width]`, smaller by kernel, stride and
    ///   padding as in [`conv2d`](crate::conv2d::conv2d)
    ///
    /// # Panics
    ///
    /// If channels, data types or devices do not fit each other, or the kernel is larger than the
    /// padded input.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let dtype = input.dtype();
        let inputs = Conv2dInputs {
            input,
            weight: self.weight.val(),
            bias: self.bias.as_ref().map(|bias| bias.val()),
            options: Conv2dOptions { stride: self.stride, padding: self.padding },
        };
        let Some(compute_dtype) = self.compute_dtype else { return self.kernels.conv2d(inputs) };
        let inputs = Conv2dInputs {
            input: inputs.input.cast(compute_dtype),
            weight: inputs.weight.cast(compute_dtype),
            bias: inputs.bias.map(|bias| bias.cast(compute_dtype)),
            ..inputs
        };
        self.kernels.conv2d(inputs).cast(FloatDType::from(dtype))
    }
}

display_on_one_line!(
    Conv2d, it: "channels" = format!("{:?}", [it.weight.dims()[1], it.weight.dims()[0]]),
    "kernel_size" = format!("{:?}", [it.weight.dims()[2], it.weight.dims()[3]]),
    "stride" = format!("{:?}", it.stride), "padding" = format!("{:?}", it.padding)
);

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::{DType, Distribution};

    use super::*;

    /// On the CPU operands and output are rounded, and the sums between them are of single
    /// precision.
    #[test]
    fn a_compute_type_rounds_operands_and_output_and_keeps_types() {
        let device = Device::flex().autodiff();
        let round =
            |tensor: Tensor<4>| tensor.cast(FloatDType::BF16).cast(FloatDType::F32).detach();
        for kernels in Kernels::ALL {
            device.seed(8);
            let mut layer = Conv2dConfig::new([3, 5], [3, 3])
                .with_bias(false)
                .with_compute_dtype(Some(FloatDType::BF16))
                .with_kernels(kernels)
                .init(&device);
            let input = Tensor::<4>::random([2, 3, 6, 6], Distribution::Default, &device);
            let weight = layer.weight.val();

            let output = layer.forward(input.clone());
            let gradients = output.clone().square().sum().backward();
            let gradient = layer.weight.val().grad(&gradients).expect("it is a leaf");
            assert_eq!([output.dtype(), gradient.dtype()], [DType::F32; 2]);

            layer.compute_dtype = None;
            layer.weight = Param::from_tensor(round(weight));
            let rounded = layer.forward(round(input));
            let single = layer.weight.val();
            let of_rounded = rounded.clone().square().sum().backward();
            let of_rounded = single.grad(&of_rounded).expect("it is a leaf");
            let difference = |left: Tensor<4>, right: Tensor<4>| {
                let largest = right.clone().abs().max().into_scalar::<f32>();
                (left - right).abs().max().into_scalar::<f32>() / largest
            };
            // One rounding of the output; Burn's own convolution may round its sums more often.
            let bound = if kernels == Kernels::Fused { 0.0 } else { 0.02 };
            let difference_of_outputs = difference(output.inner(), round(rounded).inner());
            assert!(difference_of_outputs <= bound, "{kernels}: {difference_of_outputs}");
            let difference_of_gradients = difference(gradient, of_rounded);
            assert!(difference_of_gradients < 0.02, "{kernels}: {difference_of_gradients}");
        }
    }
}
