//! Critics: networks that score pairs.

use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use crate::error::{HyperParamError, validate_size};

/// A module that scores every pair of two batches.
pub trait Critic: Module {
    /// Scores f(xᵢ, tⱼ), high where xᵢ and tⱼ belong together.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch_size, d_x]`
    /// - `t`: `[batch_size, d_t]`
    /// - returns: `[batch_size, batch_size]`, a row per x and a column per t
    fn forward(&self, x: Tensor<2>, t: Tensor<2>) -> Tensor<2>;
}

/// Configuration of [`SeparableCritic`] and [`ConcatCritic`].
///
/// The defaults are those of [Poole et al., 2019](https://arxiv.org/abs/1905.06922): two hidden
/// layers of 256 ReLUs, and embeddings of 32.
#[derive(Config, Debug, PartialEq)]
pub struct CriticConfig {
    /// Features of X.
    pub d_x: usize,
    /// Features of T.
    pub d_t: usize,
    /// Width of the hidden layers.
    #[config(default = 256)]
    pub d_hidden: usize,
    /// Hidden layers, 1 or more.
    #[config(default = 2)]
    pub num_layers: usize,
    /// Size of the embeddings of [`SeparableCritic`].
    #[config(default = 32)]
    pub d_embed: usize,
}

impl CriticConfig {
    /// Check the values, as a recipe does before any data is read.
    ///
    /// # Errors
    ///
    /// [`HyperParamError::OutOfRange`] if one is 0.
    pub fn validate(&self) -> Result<(), HyperParamError> {
        validate_size("d_x", self.d_x)?;
        validate_size("d_t", self.d_t)?;
        validate_size("d_hidden", self.d_hidden)?;
        validate_size("num_layers", self.num_layers)?;
        validate_size("d_embed", self.d_embed)
    }

    /// Build a [`SeparableCritic`].
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init_separable(&self, device: &Device) -> SeparableCritic {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        let embed = |d_input| Mlp {
            input: LinearConfig::new(d_input, self.d_hidden).init(device),
            rest: self.init_rest(self.d_embed, device),
        };
        SeparableCritic { x: embed(self.d_x), t: embed(self.d_t) }
    }

    /// Build a [`ConcatCritic`].
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init_concat(&self, device: &Device) -> ConcatCritic {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        ConcatCritic {
            x: LinearConfig::new(self.d_x, self.d_hidden).init(device),
            t: LinearConfig::new(self.d_t, self.d_hidden).with_bias(false).init(device),
            rest: self.init_rest(1, device),
        }
    }

    /// The layers after the first.
    fn init_rest(&self, d_output: usize, device: &Device) -> Vec<Linear> {
        let output = |layer| if layer == self.num_layers { d_output } else { self.d_hidden };
        (1..=self.num_layers)
            .map(|layer| LinearConfig::new(self.d_hidden, output(layer)).init(device))
            .collect()
    }
}

/// f(x, t) = g(x)·h(t), with a network each for x and t: 2N passes for N² scores.
#[derive(Module, Debug)]
pub struct SeparableCritic {
    x: Mlp,
    t: Mlp,
}

impl Critic for SeparableCritic {
    fn forward(&self, x: Tensor<2>, t: Tensor<2>) -> Tensor<2> {
        self.x.forward(x).matmul(self.t.forward(t).transpose())
    }
}

/// f(x, t) of one network on the two side by side: more flexible, and N² passes of all layers but
/// the first.
#[derive(Module, Debug)]
pub struct ConcatCritic {
    x: Linear,
    t: Linear,
    rest: Vec<Linear>,
}

impl Critic for ConcatCritic {
    fn forward(&self, x: Tensor<2>, t: Tensor<2>) -> Tensor<2> {
        // The first layer of the pair is the sum of its parts.
        let x = self.x.forward(x).unsqueeze_dim::<3>(1);
        let t = self.t.forward(t).unsqueeze_dim::<3>(0);
        let pairs = x + t;
        let [num_x, num_t, d_hidden] = pairs.dims();
        forward_rest(&self.rest, pairs.reshape([num_x * num_t, d_hidden])).reshape([num_x, num_t])
    }
}

#[derive(Module, Debug)]
struct Mlp {
    input: Linear,
    rest: Vec<Linear>,
}

impl Mlp {
    fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        forward_rest(&self.rest, self.input.forward(input))
    }
}

/// Every layer takes the ReLU of the one before.
fn forward_rest(layers: &[Linear], first: Tensor<2>) -> Tensor<2> {
    layers.iter().fold(first, |hidden, layer| layer.forward(relu(hidden)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Distribution;

    fn config() -> CriticConfig {
        CriticConfig::new(3, 2).with_d_hidden(8).with_num_layers(3).with_d_embed(4)
    }

    fn pairs(device: &Device) -> (Tensor<2>, Tensor<2>) {
        let noise = Distribution::Normal(0.0, 1.0);
        (Tensor::random([5, 3], noise, device), Tensor::random([5, 2], noise, device))
    }

    /// Score of one pair alone.
    fn check_pairs(critic: &impl Critic, device: &Device) {
        let (x, t) = pairs(device);
        let scores = critic.forward(x.clone(), t.clone());
        assert_eq!(scores.dims(), [5, 5]);
        for (i, j) in [(0, 0), (1, 4), (4, 2)] {
            let pair = critic.forward(x.clone().narrow(0, i, 1), t.clone().narrow(0, j, 1));
            let [alone, among] = [pair, scores.clone().narrow(0, i, 1).narrow(1, j, 1)]
                .map(|score| score.into_scalar::<f32>());
            // Sums of eight products and less.
            assert!((alone - among).abs() <= 1e-6 * (1.0 + among.abs()), "{alone}, {among}");
        }
    }

    #[test]
    fn a_score_depends_on_its_pair_only() {
        let device = Device::default();
        check_pairs(&config().init_separable(&device), &device);
        check_pairs(&config().init_concat(&device), &device);
    }

    #[test]
    fn parameters_are_those_of_the_layers() {
        let device = Device::default();
        // (3 + 1)·8 and (2 + 1)·8, then twice 2·(8 + 1)·8 and (8 + 1)·4.
        assert_eq!(config().init_separable(&device).num_params(), 32 + 24 + 2 * (2 * 72 + 36));
        // (3 + 2 + 1)·8, 2·(8 + 1)·8 and 8 + 1.
        assert_eq!(config().init_concat(&device).num_params(), 48 + 2 * 72 + 9);
    }

    #[test]
    fn a_width_of_zero_is_told() {
        let message = config().with_d_embed(0).validate().unwrap_err().to_string();
        assert_eq!(message, "`d_embed` must be in [1, ∞), but is 0");
    }
}
