use anp_kernels::Kernels;
use anp_kernels::random::standard_normal;
use anp_kernels::sampled_weight::SampledWeightInputs;
pub use anp_kernels::sampled_weight::{MixtureOver, ScaleMixture};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Distribution, Tensor};

use crate::recurrent_lm::RecurrentLm;

/// A normal distribution for each weight instead of a value: Bayes by Backprop.
///
/// ```text
/// w = μ + σ ⊙ ε,   σ = softplus(ρ) + 10⁻⁵,   ε ~ N(0, I)
/// ```
///
/// [Fortunato, Blundell & Vinyals, 2017](https://arxiv.org/abs/1704.02798). μ are the parameters of the [`RecurrentLm`] that
/// this is part of: embedding, layers with their biases, decoder without its bias. So a model that is run as it is
/// runs with the mean; [`RecurrentLm::draw_weights`] draws from the posterior.
#[derive(Module, Debug)]
pub struct WeightPosterior {
    /// `ρ`, flat, one tensor a weight of the model, in the order embedding, layers, decoder.
    pub rho: Vec<Param<Tensor<1>>>,
    #[module(skip)]
    prior: ScaleMixture,
}

impl WeightPosterior {
    /// Draw ρ for the weights of `lm`: σ between a quarter and a half of the prior's standard deviation in the layers,
    /// between a half and the whole in embedding and decoder, as in Sonnet's example.
    pub(crate) fn init(prior: ScaleMixture, lm: &RecurrentLm, device: &Device) -> Self {
        let mut rho = Vec::new();
        let sigma = prior.sigma();
        let mut add = |sizes: Sizes, low: f64, high: f64| {
            // What softplus takes to σ.
            let inverse = |share: f64| (share * sigma).exp_m1().ln();
            let range = Distribution::Uniform(inverse(low), inverse(high));
            rho.extend(
                sizes
                    .0
                    .into_iter()
                    .map(|size| Param::from_tensor(Tensor::random([size], range, device))),
            );
        };
        add(Sizes::of(&lm.embedding), 0.5, 1.0);
        add(Sizes::of(&lm.layers), 0.25, 0.5);
        add(Sizes::of(&lm.decoder_weight), 0.5, 1.0);
        Self { rho, prior }
    }

    /// Standard normal noise for each weight, as [`RecurrentLm::draw_weights`] takes it.
    pub fn sample_noise(&self) -> Vec<Tensor<1>> {
        self.rho.iter().map(|rho| standard_normal(rho.dims(), &rho.device())).collect()
    }
}

/// Elements of each parameter of a module.
struct Sizes(Vec<usize>);

impl Sizes {
    fn of<M: Module>(module: &M) -> Self {
        let mut sizes = Self(Vec::new());
        module.visit(&mut sizes);
        sizes
    }
}

impl ModuleVisitor for Sizes {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(param.dims().iter().product());
    }
}

/// A network whose weights were drawn from their posterior.
#[derive(Debug, Clone)]
pub struct WeightDraw {
    /// The network. Its weights are part of the graph of μ and ρ, no parameters of their own: it is for one window.
    pub lm: RecurrentLm,
    /// `ln q(w | μ, ρ) − ln p(w)` of all weights drawn, in nats: `[1]`. Its mean over draws is the divergence of the
    /// posterior from the prior.
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
        assert_eq!(
            noise.len(),
            posterior.rho.len(),
            "there is noise for another number of weights"
        );
        let mut draw = Draw {
            pairs: posterior.rho.iter().zip(noise),
            prior: posterior.prior,
            kernels: self.kernels(),
            divergence: None,
        };
        let mut lm = self.clone();
        lm.embedding = Module::map(lm.embedding, &mut draw);
        lm.layers = Module::map(lm.layers, &mut draw);
        lm.decoder_weight = Module::map(lm.decoder_weight, &mut draw);
        let divergence = draw.divergence.expect("the model has an embedding");
        WeightDraw { lm, divergence }
    }
}

struct Draw<'a, I: Iterator<Item = (&'a Param<Tensor<1>>, Tensor<1>)>> {
    pairs: I,
    prior: ScaleMixture,
    kernels: Kernels,
    divergence: Option<Tensor<1>>,
}

impl<'a, I: Iterator<Item = (&'a Param<Tensor<1>>, Tensor<1>)>> ModuleMapper for Draw<'a, I> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (rho, noise) = self.pairs.next().expect("there is a ρ for each weight");
        param.map(|mean| {
            let inputs = SampledWeightInputs { mean, rho: rho.val(), noise, prior: self.prior };
            let (weight, divergence) = self.kernels.sampled_weight(inputs);
            self.divergence = Some(match self.divergence.take() {
                Some(sum) => sum + divergence,
                None => divergence,
            });
            weight
        })
    }
}

#[cfg(test)]
mod tests {
    use anp_kernels::sampled_weight::MIN_SIGMA;

    use super::*;
    use crate::{BiasInit, CellConfig, Dropout, RecurrentLmConfig};

    const PRIOR: ScaleMixture =
        ScaleMixture { pi: 0.25, log_sigma1: -1.0, log_sigma2: -3.0, over: MixtureOver::Weight };

    fn lm(over: MixtureOver, device: &Device) -> RecurrentLm {
        RecurrentLmConfig {
            vocab_size: 200,
            d_embed: 50,
            d_hidden: 3,
            d_output: 4,
            num_layers: 2,
            cell: CellConfig::Lstm { forget_bias: 0.0, num_biases: 1, bias_init: BiasInit::Zeros },
            tie_weights: false,
            dropout: Dropout::default(),
            init_range: 0.1,
            layer_init_range: None,
            decoder_bias_init: BiasInit::Zeros,
            stochastic: None,
            pointer: None,
            posterior: Some(ScaleMixture { over, ..PRIOR }),
            kernels: Kernels::Fused,
        }
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

    /// The divergence of a weight's posterior from the prior, integrated, beside the mean over draws.
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

    /// Without noise the weights are their means; with noise all of them move but the decoder's bias.
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
                struct Values(Vec<burn::tensor::TensorData>);
                impl ModuleVisitor for Values {
                    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                        self.0.push(param.val().into_data());
                    }
                }
                let mut values = Values(Vec::new());
                lm.layers.visit(&mut values);
                lm.decoder_weight.visit(&mut values);
                lm.embedding.visit(&mut values);
                values.0
            };
            let pairs: Vec<_> = values(&moved).into_iter().zip(values(&lm)).collect();
            assert_eq!(pairs.len(), posterior.rho.len());
            assert!(pairs.iter().all(|(moved, mean)| moved != mean));
            assert_eq!(moved.decoder_bias.to_data(), lm.decoder_bias.to_data());
        }
    }
}
