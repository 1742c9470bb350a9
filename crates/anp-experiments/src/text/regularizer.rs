//! The terms of `[[regularizer]]` on a window of text.

use anp_core::{InformationBoundConfig, LossReduction, NormStabilizerConfig, TargetNormConfig};
use anp_kernels::cross_entropy::LogitTerms;
use anp_models::{LmOutput, RecurrentLm, Site};
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::recipe::{LabelPrior, RegularizerConfig};

/// A regulariser with what it needs of the training text.
#[derive(Debug, Clone)]
pub struct LmRegularizer {
    config: RegularizerConfig<Site>,
    /// Probability of each word: `[vocab_size]`; for label smoothing.
    prior: Option<Tensor<1>>,
}

impl LmRegularizer {
    /// `counts` are of each word in the training text.
    pub fn new(config: &RegularizerConfig<Site>, counts: &[f64], device: &Device) -> Self {
        let sum: f64 = counts.iter().sum();
        let share = |prior, count: f64| match prior {
            LabelPrior::Uniform => 1.0 / counts.len() as f64,
            LabelPrior::Unigram => count / sum,
        };
        let prior = match config {
            RegularizerConfig::LabelSmoothing { prior, .. } => {
                let shares: Vec<f64> = counts.iter().map(|&it| share(*prior, it)).collect();
                Some(Tensor::from_data(&shares[..], device))
            }
            _ => None,
        };
        Self { config: config.clone(), prior }
    }

    /// Whether [`forward`](Self::forward) needs terms of the logits.
    pub(super) fn needs_logit_terms(&self) -> bool {
        matches!(
            self.config,
            RegularizerConfig::ConfidencePenalty { .. } | RegularizerConfig::LabelSmoothing { .. }
        )
    }

    /// The term to add to the loss: the mean over tokens, times the steps of the window where the
    /// loss is a sum over them.
    ///
    /// # Panics
    ///
    /// If it needs terms of the logits and has none.
    pub(super) fn forward(
        &self,
        lm: &RecurrentLm,
        output: &LmOutput,
        terms: Option<&LogitTerms>,
        loss: LossReduction,
    ) -> Tensor<1> {
        let [seq_length, batch_size, _] = output.dropped.dims();
        let scale = loss.scale(seq_length);
        if self.config.strength() == 0.0 {
            return Tensor::zeros([1], &output.dropped.device());
        }
        let of_token = scale / (seq_length * batch_size) as f64;
        let terms = || terms.expect("the terms of the logits were asked for");
        match self.config {
            RegularizerConfig::NormStabilizer { site, beta } => {
                let penalty = NormStabilizerConfig::new(beta).with_batch_first(false).init();
                penalty.forward(lm.activation(output, site)) * scale
            }
            RegularizerConfig::TargetNorm { site, beta, target } => {
                let penalty = TargetNormConfig::new(beta, target).init();
                penalty.forward(lm.activation(output, site)) * scale
            }
            RegularizerConfig::ConfidencePenalty { beta } => {
                terms().entropy.clone().sum() * (-beta * of_token)
            }
            RegularizerConfig::LabelSmoothing { alpha, .. } => {
                let LogitTerms { nll, log_partition, .. } = terms().clone();
                let prior = self.prior.clone().expect("label smoothing has a prior");
                let expected = lm.expected_logit_sum(output.dropped.clone(), prior);
                // The first difference is the logits of the targets.
                ((log_partition - nll).sum() - expected) * (alpha * of_token)
            }
            RegularizerConfig::Darc1 { lambda } => {
                // Which class it is has no gradient, so the graph holds the logits of that class
                // alone.
                let plain = lm.valid();
                let logits = plain.logits(output.dropped.clone().inner());
                let sums = logits.abs().sum_dim(0).sum_dim(1);
                let class = Tensor::from_inner(sums.argmax(2)).reshape([1]);
                let logits = lm.logits_of_class(output.dropped.clone(), class);
                logits.abs().sum() * (lambda * of_token)
            }
            RegularizerConfig::InformationBound {
                site,
                beta,
                epsilon,
                terms,
                trace_factor,
                group,
            } => {
                let eta = beta * of_token;
                let bound = InformationBoundConfig {
                    eta,
                    epsilon,
                    terms,
                    trace_factor,
                    group,
                    batch_first: false,
                };
                bound.init().forward(lm.activation(output, site))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use anp_core::{
        ActivationNormConfig, ConfidencePenaltyConfig, Darc1Config, ExampleGroup, InformationTerms,
        LabelSmoothingConfig, TraceFactor,
    };
    use anp_models::{Kernels, LmMasks, RecurrentLmConfig};
    use anp_testing::{lock_generator, values};
    use burn::tensor::{Distribution, Int};

    use super::*;

    const COUNTS: [f64; 9] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];

    /// What `anp_core` says of the logits themselves, with its gradient.
    fn on_logits(
        config: &RegularizerConfig<Site>,
        logits: Tensor<2>,
        targets: Tensor<1, Int>,
    ) -> Tensor<1> {
        match *config {
            RegularizerConfig::ConfidencePenalty { beta } => {
                ConfidencePenaltyConfig::new(beta).init().forward(logits)
            }
            RegularizerConfig::LabelSmoothing { alpha, prior: LabelPrior::Uniform } => {
                LabelSmoothingConfig::new(alpha).init().forward(logits, targets)
            }
            RegularizerConfig::LabelSmoothing { alpha, prior: LabelPrior::Unigram } => {
                let counts = Tensor::from_data(&COUNTS[..], &logits.device());
                LabelSmoothingConfig::new(alpha).init_unigram(counts).forward(logits, targets)
            }
            RegularizerConfig::Darc1 { lambda } => Darc1Config::new(lambda).init().forward(logits),
            _ => unreachable!("it is on an activation"),
        }
    }

    /// Value and all gradients, with either loss, tied and untied, whatever computes the terms.
    #[test]
    fn terms_without_logits_are_those_of_the_logits() {
        let _turn = lock_generator();
        let device = Device::default().autodiff();
        let configs = [
            RegularizerConfig::ConfidencePenalty { beta: 0.7 },
            RegularizerConfig::LabelSmoothing { alpha: 0.3, prior: LabelPrior::Uniform },
            RegularizerConfig::LabelSmoothing { alpha: 0.3, prior: LabelPrior::Unigram },
            RegularizerConfig::Darc1 { lambda: 0.2 },
        ];
        for (tied, kernels, loss) in [
            (false, Kernels::Fused, LossReduction::SumOverTime),
            (true, Kernels::Fused, LossReduction::MeanOverTokens),
            (false, Kernels::Plain, LossReduction::MeanOverTokens),
        ] {
            device.seed(4);
            let lm = RecurrentLmConfig::new(9, 5, 5)
                .with_tie_weights(tied)
                .with_init_range(1.0)
                .with_kernels(kernels)
                .init(&device);
            let words = [[1, 2, 3], [3, 2, 1], [4, 0, 0], [5, 6, 7]];
            let targets = Tensor::<2, Int>::from_data(words, &device);
            let hidden = Tensor::random([4, 3, 5], Distribution::Uniform(-1.0, 1.0), &device);
            for config in &configs {
                let run = |of_terms: bool| {
                    let dropped: Tensor<3> = hidden.clone().detach().require_grad();
                    let state = lm.zero_state(3);
                    let mut output =
                        lm.forward_with_masks(targets.clone(), state, &LmMasks::default());
                    output.dropped = dropped.clone();
                    let value = if of_terms {
                        let terms = lm.logit_terms(dropped.clone(), targets.clone());
                        let regularizer = LmRegularizer::new(config, &COUNTS, &device);
                        regularizer.forward(&lm, &output, Some(&terms), loss)
                    } else {
                        let logits = lm.logits(dropped.clone()).reshape([12, 9]);
                        let value = on_logits(config, logits, targets.clone().reshape([12]));
                        value * loss.scale(4)
                    };
                    let gradients = value.backward();
                    let weight = match &lm.decoder_weight {
                        Some(weight) => weight.val(),
                        None => lm.embedding.val(),
                    };
                    [
                        values(value),
                        values(dropped.grad(&gradients).unwrap()),
                        values(weight.grad(&gradients).unwrap()),
                        lm.decoder_bias.grad(&gradients).map(values).unwrap_or_default(),
                    ]
                };
                for (actual, expected) in run(true).iter().zip(run(false)) {
                    assert_eq!(actual.len(), expected.len(), "{config:?}");
                    for (actual, expected) in actual.iter().zip(&expected) {
                        // Sums of a hundred numbers of single precision below 10.
                        let difference = (actual - expected).abs();
                        assert!(difference < 2e-6, "{config:?}: {actual}, {expected}");
                    }
                }
            }
        }
    }

    /// What `β = η·B·K` says, beside either loss; and groups of steps and of a window have the same
    /// trace.
    #[test]
    fn the_trace_of_the_bound_is_the_activation_norm_penalty() {
        let _turn = lock_generator();
        let device = Device::default().autodiff();
        device.seed(4);
        let lm = RecurrentLmConfig::new(9, 5, 5).with_init_range(1.0).init(&device);
        let words = Tensor::<2, Int>::zeros([4, 3], &device);
        let mut output = lm.forward_with_masks(words, lm.zero_state(3), &LmMasks::default());
        let (eta, loss) = (0.2, LossReduction::SumOverTime);
        let expected = ActivationNormConfig::new(eta).init().forward(output.dropped.clone());
        let expected = expected.into_scalar::<f64>();
        output.dropped = output.dropped.detach();
        for group in [ExampleGroup::TimeStep, ExampleGroup::Minibatch] {
            let config = RegularizerConfig::InformationBound {
                site: Site::OutputDropped,
                beta: eta * 3.0 * 5.0,
                epsilon: 1e-3,
                terms: InformationTerms::Trace,
                trace_factor: TraceFactor::Corrected,
                group,
            };
            let regularizer = LmRegularizer::new(&config, &COUNTS, &device);
            let value = regularizer.forward(&lm, &output, None, loss).into_scalar::<f64>();
            assert!((value - expected).abs() < 1e-6 * expected, "{group}: {value}, {expected}");
            let mean = LossReduction::MeanOverTokens;
            let of_token = regularizer.forward(&lm, &output, None, mean).into_scalar::<f64>();
            assert!((4.0 * of_token - value).abs() < 1e-6 * value, "{group}: {of_token}");
        }
    }
}
