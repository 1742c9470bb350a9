//! The gradient of one term of a loss beside that of another.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use super::number::{Number, On};
use super::report::{Gradient, Term};
use crate::engine::PenaltyEquivalent;

/// Inner products of two gradients over all parameters of a module.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Comparison {
    /// ‖a‖².
    pub a_square: f64,
    /// ‖b‖².
    pub b_square: f64,
    /// ⟨a, b⟩.
    pub product: f64,
}

impl Comparison {
    /// ‖b‖/‖a‖.
    pub fn share(self) -> f64 {
        (self.b_square / self.a_square).sqrt()
    }

    /// Cosine of the angle; NaN if one is 0.
    pub fn cosine(self) -> f64 {
        self.product / (self.a_square * self.b_square).sqrt()
    }
}

/// Compare two gradients over the parameters of `module`, in double precision. A parameter without
/// a gradient has the gradient 0.
pub fn compare<M: Module>(module: &M, a: &GradientsParams, b: &GradientsParams) -> Comparison {
    let mut products = Products { a, b, sums: Comparison::default() };
    module.visit(&mut products);
    products.sums
}

struct Products<'a> {
    a: &'a GradientsParams,
    b: &'a GradientsParams,
    sums: Comparison,
}

impl ModuleVisitor for Products<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let read = |gradients: &GradientsParams| -> Vec<f64> {
            let gradient = gradients.get::<D>(param.id);
            gradient.map_or(Vec::new(), |it| it.into_data().iter::<f64>().collect())
        };
        let (a, b) = (read(self.a), read(self.b));
        let square = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
        self.sums.a_square += square(&a);
        self.sums.b_square += square(&b);
        self.sums.product += a.iter().zip(&b).map(|(a, b)| a * b).sum::<f64>();
    }
}

/// Comparisons over training steps.
pub(crate) struct GradientMeter {
    terms: Vec<PenaltyEquivalent>,
    data_norms: Vec<f64>,
    /// For each term, those of each step.
    comparisons: Vec<Vec<Comparison>>,
}

impl GradientMeter {
    /// `terms` are the loss's, in order.
    pub fn new(terms: Vec<PenaltyEquivalent>) -> Self {
        Self { comparisons: vec![Vec::new(); terms.len()], terms, data_norms: Vec::new() }
    }

    /// Strength of each term.
    pub fn strengths(&self) -> impl Iterator<Item = f64> {
        self.terms.iter().map(|term| term.eta)
    }

    /// Add a step: its gradient of the data's loss, and of each term.
    pub fn add<M: Module>(&mut self, module: &M, data: &GradientsParams, of: &[GradientsParams]) {
        assert_eq!(of.len(), self.terms.len(), "a gradient for each term");
        self.data_norms.push(compare(module, data, data).a_square.sqrt());
        for (comparisons, term) in self.comparisons.iter_mut().zip(of) {
            comparisons.push(compare(module, data, term));
        }
    }

    /// The means.
    pub fn finish(self, on: On) -> Gradient {
        let mean = |comparisons: &[Comparison], value: fn(Comparison) -> f64| {
            Number::mean(&comparisons.iter().copied().map(value).collect::<Vec<_>>(), "1")
        };
        let term = |(term, comparisons): (PenaltyEquivalent, Vec<Comparison>)| Term {
            name: term.site,
            strength: term.eta,
            share: mean(&comparisons, Comparison::share),
            cosine: mean(&comparisons, Comparison::cosine),
        };
        Gradient {
            on,
            steps: self.data_norms.len(),
            data_norm: Number::mean(&self.data_norms, "nats"),
            terms: self.terms.into_iter().zip(self.comparisons).map(term).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use anp_testing::lock_generator;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    use super::*;

    fn gradients(layer: &Linear, weight: [[f32; 2]; 2], bias: Option<[f32; 2]>) -> GradientsParams {
        let device = Device::default();
        let mut gradients = GradientsParams::new();
        gradients.register(layer.weight.id, Tensor::<2>::from_data(weight, &device));
        if let (Some(bias), Some(param)) = (bias, &layer.bias) {
            gradients.register(param.id, Tensor::<1>::from_data(bias, &device));
        }
        gradients
    }

    /// a = (3, 0, 0, 0 | 0, 4), b = (1, 0, 0, 0 | absent): 25, 1, 3.
    #[test]
    fn products_are_over_all_parameters() {
        let _turn = lock_generator();
        let layer = LinearConfig::new(2, 2).init(&Device::default());
        let a = gradients(&layer, [[3.0, 0.0], [0.0, 0.0]], Some([0.0, 4.0]));
        let b = gradients(&layer, [[1.0, 0.0], [0.0, 0.0]], None);
        let comparison = compare(&layer, &a, &b);
        assert_eq!(comparison, Comparison { a_square: 25.0, b_square: 1.0, product: 3.0 });
        assert_eq!((comparison.share(), comparison.cosine()), (0.2, 0.6));
        let none = compare(&layer, &a, &GradientsParams::new());
        assert_eq!(none.share(), 0.0);
        assert!(none.cosine().is_nan());
    }
}
