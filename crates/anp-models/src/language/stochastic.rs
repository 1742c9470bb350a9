use anp_core::gaussian_kl;
use anp_kernels::nn::LayerMasks;
use burn::module::{Module, Param};
use burn::tensor::activation::softplus;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::cell::{LayerOutput, LayerState, RecurrentLayer};

/// Configuration of a [`StochasticOutput`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StochasticConfig {
    /// What σ starts at, above 0.
    pub initial_sigma: f64,
    /// Whether the noisy activation, and not its mean, is what the layer's next step sees.
    pub in_recurrence: bool,
}

impl StochasticConfig {
    /// For a layer of `d_hidden` units.
    ///
    /// # Panics
    ///
    /// If `initial_sigma` is not above 0.
    pub fn init(&self, d_hidden: usize, device: &Device) -> StochasticOutput {
        assert!(self.initial_sigma > 0.0, "σ must be above 0, but is {}", self.initial_sigma);
        let rho = self.initial_sigma.exp_m1().ln();
        StochasticOutput {
            rho: Param::from_tensor(Tensor::full([d_hidden], rho, device)),
            in_recurrence: self.in_recurrence,
        }
    }
}

/// Noise on the output of a recurrent layer, of a size that is learned: the paper's equation 8.
///
/// ```text
/// h_t = μ_t + σ ⊙ ε_t,   σ = softplus(ρ),   ε_t ~ N(0, I)
/// ```
///
/// `μ_t` is what the layer computes. The divergence of `h_t` from `N(0, I)` bounds what it tells of
/// the input.
#[derive(Module, Debug)]
pub struct StochasticOutput {
    /// `ρ`: `[d_hidden]`.
    pub rho: Param<Tensor<1>>,
    in_recurrence: bool,
}

impl StochasticOutput {
    /// `σ`: `[d_hidden]`.
    pub fn sigma(&self) -> Tensor<1> {
        softplus(self.rho.val(), 1.0)
    }

    /// Divergence of `N(μ, diag σ²)` from `N(0, I)`, summed over all tokens and units, in nats:
    /// `[1]`.
    ///
    /// ```text
    /// ½ Σ (σ² + μ² − 1 − ln σ²)
    /// ```
    ///
    /// # Shapes
    ///
    /// - `mean`: `[seq_length, batch_size, d_hidden]`
    pub fn divergence(&self, mean: Tensor<3>) -> Tensor<1> {
        gaussian_kl(mean, self.sigma().log().unsqueeze()).sum()
    }

    /// Run `layer` over a window with this noise on its output: the output, and its mean.
    ///
    /// # Shapes
    ///
    /// - `input`: `[seq_length, batch_size, d_input]`
    /// - `noise`: ε, `[seq_length, batch_size, d_hidden]`
    pub(crate) fn forward(
        &self,
        layer: &RecurrentLayer,
        input: Tensor<3>,
        mut state: LayerState,
        masks: LayerMasks,
        noise: Tensor<3>,
    ) -> (LayerOutput, Tensor<3>) {
        let noise = noise * self.sigma().unsqueeze();
        if !self.in_recurrence {
            let mut output = layer.forward(input, state, masks);
            let mean = output.hidden.clone();
            output.hidden = output.hidden + noise;
            return (output, mean);
        }
        let [seq_length, batch_size, d_hidden] = noise.dims();
        let (mut hidden, mut mean, mut cell) = (Vec::new(), Vec::new(), Vec::new());
        for t in 0..seq_length {
            let step = layer.forward(input.clone().narrow(0, t, 1), state, masks.clone());
            let sample = step.hidden.clone() + noise.clone().narrow(0, t, 1);
            state = step.state;
            state.hidden = state.hidden.map(|_| sample.clone().reshape([batch_size, d_hidden]));
            hidden.push(sample);
            mean.push(step.hidden);
            cell.extend(step.cell);
        }
        let output = LayerOutput {
            hidden: Tensor::cat(hidden, 0),
            cell: (!cell.is_empty()).then(|| Tensor::cat(cell, 0)),
            state,
        };
        (output, Tensor::cat(mean, 0))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;

    /// The mean over draws of ln N(h; μ, σ²) − ln N(h; 0, 1).
    #[test]
    fn the_divergence_is_what_draws_say() {
        let device = Device::default();
        let output = StochasticConfig { initial_sigma: 0.6, in_recurrence: false };
        let output = output.init(1, &device);
        let sigma = output.sigma().into_scalar::<f64>();
        assert!((sigma - 0.6).abs() < 1e-6);
        let mean = 0.8;
        let exact = output.divergence(Tensor::full([1, 1, 1], mean, &device));
        let exact = exact.into_scalar::<f64>();

        device.seed(3);
        let draws = 200_000;
        let noise: Tensor<1> = Tensor::random([draws], Distribution::Normal(0.0, 1.0), &device);
        let ratios: Vec<f64> = noise
            .into_data()
            .iter::<f64>()
            .map(|noise| {
                let h = mean + sigma * noise;
                0.5 * h * h - 0.5 * noise * noise - sigma.ln()
            })
            .collect();
        let average = ratios.iter().sum::<f64>() / draws as f64;
        let variance = ratios.iter().map(|ratio| (ratio - average).powi(2)).sum::<f64>();
        let four_errors = 4.0 * variance.sqrt() / draws as f64;
        assert!((average - exact).abs() < four_errors, "{average} and {exact} ± {four_errors}");
    }

    #[test]
    fn there_is_no_divergence_from_itself() {
        let device = Device::default();
        let output = StochasticConfig { initial_sigma: 1.0, in_recurrence: true }.init(7, &device);
        let divergence = output.divergence(Tensor::zeros([2, 3, 7], &device));
        assert!(divergence.into_scalar::<f64>().abs() < 1e-5);
    }
}
