use std::iter::Zip;
use std::slice::Iter;
use std::vec::IntoIter;

use anp_kernels::Kernels;
use anp_kernels::random::standard_normal;
use anp_kernels::sampled_weight::SampledWeightInputs;
pub use anp_kernels::sampled_weight::{MixtureOver, ScaleMixture};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Distribution, Tensor};

/// A normal distribution for each weight instead of a value: Bayes by Backprop.
///
/// ```text
/// w = μ + σ ⊙ ε,   σ = softplus(ρ) + 10⁻⁵,   ε ~ N(0, I)
/// ```
///
/// [Fortunato, Blundell & Vinyals, 2017](https://arxiv.org/abs/1704.02798). μ are the parameters of
/// the [`RecurrentLm`](crate::RecurrentLm) that this is part of: embedding, layers with their
/// biases, decoder without its bias. So a model that is run as it is runs with the mean;
/// [`draw_weights`](crate::RecurrentLm::draw_weights) draws from the posterior.
#[derive(Module, Debug)]
pub struct WeightPosterior {
    /// `ρ`, flat, one tensor per weight of the model, in the order embedding, layers, decoder.
    pub rho: Vec<Param<Tensor<1>>>,
    #[module(skip)]
    prior: ScaleMixture,
}

impl WeightPosterior {
    /// The posterior of no weights yet.
    pub(super) fn new(prior: ScaleMixture) -> Self {
        Self { rho: Vec::new(), prior }
    }

    /// Draw ρ for the weights of `module`: σ between these two shares of the prior's standard
    /// deviation.
    pub(super) fn cover<M: Module>(&mut self, module: &M, shares: [f64; 2], device: &Device) {
        let mut sizes = Sizes(Vec::new());
        module.visit(&mut sizes);
        // What softplus takes to σ.
        let [low, high] = shares.map(|share| (share * self.prior.sigma()).exp_m1().ln());
        let draw = |size| Tensor::random([size], Distribution::Uniform(low, high), device);
        self.rho.extend(sizes.0.into_iter().map(|size| Param::from_tensor(draw(size))));
    }

    /// Standard normal noise for each weight, as
    /// [`draw_weights`](crate::RecurrentLm::draw_weights) takes it.
    pub fn sample_noise(&self) -> Vec<Tensor<1>> {
        self.rho.iter().map(|rho| standard_normal(rho.dims(), &rho.device())).collect()
    }

    /// What draws the weights of the modules that it is mapped over, with the given noise.
    ///
    /// # Panics
    ///
    /// If the noise is not one tensor per weight.
    pub(super) fn draws(&self, noise: Vec<Tensor<1>>, kernels: Kernels) -> Draws<'_> {
        assert_eq!(noise.len(), self.rho.len(), "there is noise for another number of weights");
        let pairs = self.rho.iter().zip(noise);
        Draws { pairs, prior: self.prior, kernels, divergence: None }
    }
}

/// Elements of each parameter of a module.
struct Sizes(Vec<usize>);

impl ModuleVisitor for Sizes {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(param.dims().iter().product());
    }
}

/// Replaces each weight by a draw, in the order of ρ.
pub(super) struct Draws<'a> {
    pairs: Zip<Iter<'a, Param<Tensor<1>>>, IntoIter<Tensor<1>>>,
    prior: ScaleMixture,
    kernels: Kernels,
    /// `ln q(w | μ, ρ) − ln p(w)` of the weights drawn so far: `[1]`.
    pub(super) divergence: Option<Tensor<1>>,
}

impl ModuleMapper for Draws<'_> {
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
