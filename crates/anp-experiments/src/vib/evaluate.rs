//! Predictions of a classifier with a bottleneck, and the information in its code.

use burn::tensor::{Device, Tensor};

use super::learner::VibLearner;
use super::record::{Prediction, VibScore};
use crate::analyze::entropy;
use crate::engine::{EvaluationProgress, GoOn, Summary};
use crate::image::batches::Source;
use crate::image::learner::{nll, num_correct};
use crate::log_mean_exp::log_mean_exp;
use crate::random::{Purpose, seed};

/// Codes drawn for each image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Draws {
    /// How many, at least 1.
    pub samples: usize,
    /// Seed of all of them.
    pub seed: u64,
}

impl Draws {
    /// The draws after an epoch of a run.
    pub fn after_epoch(samples: usize, run_seed: u64, epoch: usize) -> Self {
        Self { samples, seed: seed(run_seed, Purpose::MonteCarlo, epoch as u64) }
    }
}

/// Sums over images, in double precision: loss and correct of each of the three predictions, KL, σ
/// and ‖μ‖₂.
const NUM_SUMS: usize = 9;

/// Measure `model` on all images of `source`, as they are.
///
/// `model` must be in evaluation mode (`model.valid()`). `go_on` is called after each batch: if it
/// returns `false`, the evaluation stops and returns `None`.
pub(super) fn evaluate(
    model: &VibLearner,
    source: &Source,
    num_classes: usize,
    draws: Draws,
    device: &Device,
    go_on: &mut GoOn<'_>,
) -> Option<VibScore> {
    let mut sums = [0.0; NUM_SUMS];
    let mut images = 0;
    let total = source.num_batches();
    for index in 0..total {
        let batch = source.plain_batch(index).to_device(device);
        let [of_batch] = batch.labels.dims();
        let encoding = model.encode(batch.images);
        let predict = |log_probs: Tensor<2>| {
            let labels = batch.labels.clone();
            [nll(log_probs.clone(), labels.clone()).sum(), num_correct(log_probs, labels)]
        };
        let mean_code = predict(model.log_probs(encoding.mean.clone()));
        let [one_sample, averaged] = if model.net.is_stochastic() {
            device.seed(seed(draws.seed, Purpose::MonteCarlo, index as u64));
            let drawn: Vec<Tensor<2>> =
                (0..draws.samples).map(|_| model.log_probs(encoding.sample())).collect();
            let each = drawn.iter().map(|it| predict(it.clone()));
            let sum = each
                .reduce(|[nll, right], [nll_too, right_too]| [nll + nll_too, right + right_too]);
            let mean = sum.expect("there is a draw").map(|sum| sum / draws.samples as f64);
            [mean, predict(log_mean_exp(Tensor::stack::<3>(drawn, 0)).squeeze_dim(0))]
        } else {
            [mean_code.clone(), mean_code.clone()]
        };
        let norms = encoding.mean.clone().square().sum_dim(1).sqrt();
        let of_code = [encoding.kl().sum(), encoding.sigma().mean_dim(1).sum(), norms.sum()];
        let of_batch_sums = [mean_code, one_sample, averaged].into_iter().flatten().chain(of_code);
        let of_batch_sums = Tensor::cat(of_batch_sums.collect(), 0).into_data();
        for (sum, value) in sums.iter_mut().zip(of_batch_sums.iter::<f64>()) {
            *sum += value;
        }
        images += of_batch;
        let values: Vec<f64> = of_batch_sums.iter::<f64>().collect();
        let measured = Summary {
            loss: values[0] / of_batch as f64,
            accuracy: 100.0 * values[1] / of_batch as f64,
            items: of_batch,
            ..Summary::default()
        };
        if !go_on(EvaluationProgress { done: index + 1, total, measured: Some(measured) }) {
            return None;
        }
    }
    let [nll, right, nll_one, right_one, nll_averaged, right_averaged, kl, sigma, norm] =
        sums.map(|sum| sum / images as f64);
    let prediction = |nll, right| Prediction { nll, accuracy: 100.0 * right };
    let of_noise = |value| model.net.is_stochastic().then_some(value);
    Some(VibScore {
        images,
        mean_code: prediction(nll, right),
        one_sample: prediction(nll_one, right_one),
        averaged: prediction(nll_averaged, right_averaged),
        information_x: of_noise(kl),
        information_y: entropy(&source.class_counts(num_classes)) - nll_one,
        sigma: of_noise(sigma),
        code_norm: norm,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entropy_of_equal_classes_is_the_logarithm_of_their_number() {
        assert!((entropy(&[7.0; 10]) - 10.0_f64.ln()).abs() < 1e-12);
        assert!((entropy(&[2.0, 0.0, 2.0]) - 2.0_f64.ln()).abs() < 1e-12);
        assert_eq!(entropy(&[0.0, 5.0]), 0.0);
    }
}
