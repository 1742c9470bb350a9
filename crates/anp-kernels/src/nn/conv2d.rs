use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use super::{ConfigError, check_size};
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
    /// How weight and bias are drawn; the default is Burn's and PyTorch's, uniform in ±1 / √`fan_in`.
    #[config(
        default = "Initializer::KaimingUniform { gain: 1.0 / 3.0_f64.sqrt(), fan_out_only: false }"
    )]
    pub initializer: Initializer,
    /// How it is computed.
    #[config(default = "Kernels::Fused")]
    pub kernels: Kernels,
}

impl Conv2dConfig {
    /// Check the values.
    ///
    /// # Errors
    ///
    /// [`ConfigError::OutOfRange`] if a number of channels, a side of the kernel or a stride is 0.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let sizes = [("channels", self.channels), ("kernel_size", self.kernel_size)];
        for (name, [first, second]) in sizes.into_iter().chain([("stride", self.stride)]) {
            check_size(name, first)?;
            check_size(name, second)?;
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
        Conv2d {
            weight: self.initializer.init_with(weight, fan_in, fan_out, device),
            bias: self
                .bias
                .then(|| self.initializer.init_with([channels_out], fan_in, fan_out, device)),
            stride: self.stride,
            padding: self.padding,
            kernels: self.kernels,
        }
    }
}

/// A convolution of images: [`conv2d`](crate::conv2d::conv2d) with a weight of its own.
///
/// It takes the place of `burn::nn::conv::Conv2d`, whose parameters have the same names and shapes, where there is neither
/// dilation nor groups and the padding is the same on opposite sides.
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
    /// How it is computed.
    #[module(skip)]
    pub kernels: Kernels,
}

impl Conv2d {
    /// Convolve a batch of images.
    ///
    /// # Shapes
    ///
    /// - `input`: `[batch_size, channels_in, height, width]`
    /// - returns: `[batch_size, channels_out, height, width]`, smaller by kernel, stride and padding as in
    ///   [`conv2d`](crate::conv2d::conv2d)
    ///
    /// # Panics
    ///
    /// If channels, data types or devices do not fit each other, or the kernel is larger than the padded input.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        self.kernels.conv2d(Conv2dInputs {
            input,
            weight: self.weight.val(),
            bias: self.bias.as_ref().map(|bias| bias.val()),
            options: Conv2dOptions { stride: self.stride, padding: self.padding },
        })
    }
}

impl ModuleDisplay for Conv2d {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new().with_new_line_after_attribute(false).optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let [channels_out, channels_in, height, width] = self.weight.dims();
        content
            .add("channels", &format!("{:?}", [channels_in, channels_out]))
            .add("kernel_size", &format!("{:?}", [height, width]))
            .add("stride", &format!("{:?}", self.stride))
            .add("padding", &format!("{:?}", self.padding))
            .optional()
    }
}
