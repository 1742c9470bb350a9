use anp_core::{HyperParamError, display_on_one_line, validate_size};
use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, FloatDType, Tensor};

use crate::Kernels;
use crate::backend::is_cube;
use crate::conv2d::{Conv2dInputs, Conv2dOptions};
use crate::precision::MatmulPrecision;

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
    /// How input and weight, and the gradient of the output, are rounded.
    #[config(default = "MatmulPrecision::Full")]
    pub precision: MatmulPrecision,
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
            precision: self.precision,
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
    /// How input and weight, and the gradient of the output, are rounded.
    #[module(skip)]
    pub precision: MatmulPrecision,
    /// How it is computed.
    #[module(skip)]
    pub kernels: Kernels,
}

impl Conv2d {
    /// Convolve a batch of images.
    ///
    /// With operands rounded to bfloat16, a CPU adds their products up in the input's type. A GPU
    /// computes with tensors of bfloat16, so that output and gradients are rounded, too, before
    /// they return in the types of input and parameters.
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
        let dtype = FloatDType::from(input.dtype());
        let inputs = Conv2dInputs {
            input,
            weight: self.weight.val(),
            bias: self.bias.as_ref().map(|bias| bias.val()),
            options: Conv2dOptions { stride: self.stride, padding: self.padding },
            precision: self.precision,
        };
        if self.precision == MatmulPrecision::Full || !is_cube(&inputs.input.device()) {
            return self.kernels.conv2d(inputs);
        }
        // Tensor cores take tensors of the type.
        let inputs = Conv2dInputs {
            input: inputs.input.cast(FloatDType::BF16),
            weight: inputs.weight.cast(FloatDType::BF16),
            bias: inputs.bias.map(|bias| bias.cast(FloatDType::BF16)),
            precision: MatmulPrecision::Full,
            ..inputs
        };
        self.kernels.conv2d(inputs).cast(dtype)
    }
}

display_on_one_line!(
    Conv2d, it: "channels" = format!("{:?}", [it.weight.dims()[1], it.weight.dims()[0]]),
    "kernel_size" = format!("{:?}", [it.weight.dims()[2], it.weight.dims()[3]]),
    "stride" = format!("{:?}", it.stride), "padding" = format!("{:?}", it.padding)
);

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::Distribution;

    use super::*;

    /// Output and gradients are those of rounded operands and a rounded gradient of the output, for
    /// sizes that tiles multiply and for others.
    #[test]
    fn precision_rounds_what_is_multiplied() {
        let device = Device::flex().autodiff();
        let round =
            |tensor: Tensor<4>| tensor.cast(FloatDType::BF16).cast(FloatDType::F32).detach();
        for (kernels, channels) in
            Kernels::ALL.into_iter().flat_map(|kernels| [3, 32].map(|count| (kernels, count)))
        {
            device.seed(8);
            let mut layer = Conv2dConfig::new([channels, channels + 1], [3, 3])
                .with_precision(MatmulPrecision::Bf16)
                .with_kernels(kernels)
                .init(&device);
            let random = |shape| Tensor::<4>::random(shape, Distribution::Default, &device);
            let input = random([2, channels, 6, 6]);
            let output_grad = random([2, channels + 1, 4, 4]);
            let run = |layer: &Conv2d, input: Tensor<4>, output_grad: Tensor<4>| {
                let input = input.detach().require_grad();
                let output = layer.forward(input.clone());
                let gradients = (output.clone() * output_grad).sum().backward();
                let weight = layer.weight.val().grad(&gradients).expect("it is a leaf");
                [output.inner(), input.grad(&gradients).expect("it is a leaf"), weight]
            };
            let rounding = run(&layer, input.clone(), output_grad.clone());
            layer.precision = MatmulPrecision::Full;
            let unrounded = run(&layer, input.clone(), output_grad.clone());
            layer.weight = Param::from_tensor(round(layer.weight.val()));
            let of_rounded = run(&layer, round(input), round(output_grad));

            let difference = |left: &Tensor<4>, right: &Tensor<4>| {
                let largest = right.clone().abs().max().into_scalar::<f32>();
                (left.clone() - right.clone()).abs().max().into_scalar::<f32>() / largest
            };
            for ((rounding, rounded), unrounded) in rounding.iter().zip(&of_rounded).zip(&unrounded)
            {
                let off = difference(rounding, rounded);
                assert!(off < 3e-6, "{kernels}, {channels}: {off} from what is rounded before");
                let off = difference(rounding, unrounded);
                assert!(off > 1e-4 && off < 2_f32.powi(-8), "{kernels}, {channels}: {off}");
            }
        }
    }
}
