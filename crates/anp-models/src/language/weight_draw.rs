use burn::module::Module;
use burn::tensor::Tensor;

use super::recurrent_lm::RecurrentLm;

/// A network whose weights were drawn from their posterior.
#[derive(Debug, Clone)]
pub struct WeightDraw {
    /// The network. Its weights are part of the graph of μ and ρ, not parameters of their own: it
    /// is for one window.
    pub lm: RecurrentLm,
    /// `ln q(w | μ, ρ) − ln p(w)` of all weights drawn, in nats: `[1]`. Its mean over draws is the
    /// divergence of the posterior from the prior.
    pub divergence: Tensor<1>,
}

impl RecurrentLm {
    /// Draw all weights once, with the given noise.
    ///
    /// # Panics
    ///
    /// If the model has no posterior, or the noise is not one tensor of each weight's size.
    pub fn draw_weights(&self, noise: Vec<Tensor<1>>) -> WeightDraw {
        let posterior = self.posterior.as_ref().expect("the weights have a posterior");
        let mut draws = posterior.draws(noise, self.kernels);
        let mut lm = self.clone();
        lm.embedding = Module::map(lm.embedding, &mut draws);
        lm.layers = Module::map(lm.layers, &mut draws);
        lm.decoder_weight = Module::map(lm.decoder_weight, &mut draws);
        let divergence = draws.divergence.expect("the model has an embedding");
        WeightDraw { lm, divergence }
    }
}

#[cfg(test)]
mod tests {
    use anp_kernels::sampled_weight::MIN_SIGMA;
    use anp_testing::{Arrays, parameters};
    use burn::tensor::Device;

    use super::*;
    use crate::{MixtureOver, RecurrentLmConfig, ScaleMixture};

    const PRIOR: ScaleMixture =
        ScaleMixture { pi: 0.25, log_sigma1: -1.0, log_sigma2: -3.0, over: MixtureOver::Weight };

    fn lm(over: MixtureOver, device: &Device) -> RecurrentLm {
        RecurrentLmConfig::new(200, 50, 3)
            .with_d_output(Some(4))
            .with_num_layers(2)
            .with_posterior(Some(ScaleMixture { over, ..PRIOR }))
            .init(device)
    }

    /// Integral over the real line by the midpoint rule.
    fn integral(of: impl Fn(f64) -> f64) -> f64 {
        let (steps, range) = (200_000, 4.0);
        let width = 2.0 * range / steps as f64;
        (0..steps).map(|step| of((step as f64 + 0.5) * width - range) * width).sum()
    }

    fn normal(x: f64, mean: f64, sigma: f64) -> f64 {
        let z = (x - mean) / sigma;
        (-0.5 * z * z).exp() / (sigma * (2.0 * std::f64::consts::PI).sqrt())
    }

    /// The divergence of a weight's posterior from the prior, integrated, beside the mean over
    /// draws.
    #[test]
    fn the_mean_over_draws_is_the_divergence() {
        let device = Device::default();
        device.seed(5);
        let mut lm = lm(MixtureOver::Weight, &device);
        let (mean, sigma) = (0.08, 0.2);
        lm.embedding = lm.embedding.map(|weight| weight.zeros_like() + mean);
        let rho = (sigma - MIN_SIGMA).exp_m1().ln();
        let posterior = lm.posterior.as_mut().unwrap();
        posterior.rho[0] = posterior.rho[0].clone().map(|tensor| tensor.zeros_like() + rho);
        // Of the other weights nothing is left, so that the embedding's draws are all.
        posterior.rho.truncate(1);
        lm.layers.clear();
        lm.decoder_weight = None;

        let prior = |x: f64| {
            PRIOR.pi * normal(x, 0.0, PRIOR.log_sigma1.exp())
                + (1.0 - PRIOR.pi) * normal(x, 0.0, PRIOR.log_sigma2.exp())
        };
        let log_ratio = |x: f64| (normal(x, mean, sigma) / prior(x)).ln();
        let exact = integral(|x| normal(x, mean, sigma) * log_ratio(x).max(-700.0));
        let square = integral(|x| normal(x, mean, sigma) * log_ratio(x).max(-700.0).powi(2));
        let (draws, weights) = (20, 10_000.0);
        let sum: f64 = (0..draws)
            .map(|_| {
                let noise = lm.posterior.as_ref().unwrap().sample_noise();
                lm.draw_weights(noise).divergence.into_scalar::<f64>()
            })
            .sum();
        let average = sum / draws as f64 / weights;
        let four_errors = 4.0 * ((square - exact * exact) / (draws as f64 * weights)).sqrt();
        assert!(four_errors < 0.05 * exact, "the test is too weak: {four_errors} of {exact}");
        assert!((average - exact).abs() < four_errors, "{average} and {exact} ± {four_errors}");
    }

    /// Without noise the weights are their means; with noise all of them move but the decoder's
    /// bias.
    #[test]
    fn weights_are_drawn_around_their_means() {
        let device = Device::default().autodiff();
        device.seed(5);
        for over in [MixtureOver::Weight, MixtureOver::Row] {
            let lm = lm(over, &device);
            let posterior = lm.posterior.as_ref().unwrap();
            let none: Vec<_> = posterior.rho.iter().map(|rho| rho.val().zeros_like()).collect();
            let still = lm.draw_weights(none).lm;
            assert_eq!(still.embedding.to_data(), lm.embedding.to_data());
            let moved = lm.draw_weights(posterior.sample_noise()).lm;
            let values = |lm: &RecurrentLm| {
                [parameters(&lm.layers), parameters(&lm.decoder_weight), parameters(&lm.embedding)]
                    .map(Arrays::into_values)
            };
            let pairs: Vec<_> = values(&moved)
                .into_iter()
                .flatten()
                .zip(values(&lm).into_iter().flatten())
                .collect();
            assert_eq!(pairs.len(), posterior.rho.len());
            assert!(pairs.iter().all(|(moved, mean)| moved != mean));
            assert_eq!(moved.decoder_bias.to_data(), lm.decoder_bias.to_data());
        }
    }
}
