//! Perplexity of a text under a trained model, and the size of its activations.

use anp_models::{LmState, RecurrentLm, Site};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn::train::InferenceStep;
use serde::Serialize;

use super::batches::{LmBatch, TokenStreams, Window};
use super::build::Texts;
use super::learner::{LmLearner, token_nll};
use super::record::{ActivationStatistics, Score};
use crate::activation::{ActivationSums, ScalarSum};
use crate::engine::{EvaluationProgress, Summary};
use crate::log_mean_exp::log_mean_exp;
use crate::random::{self, Purpose};

/// Cross-entropy of a text. The state is zero at the start and carried from window to window.
///
/// `model` must be in evaluation mode (`model.valid()`): on an autodiff device dropout would be
/// active. `progress` is called now and then; if it returns `false`, the evaluation stops and
/// returns `None`.
pub fn evaluate(
    model: &LmLearner,
    streams: &TokenStreams,
    device: &Device,
    progress: impl FnMut(EvaluationProgress) -> bool,
) -> Option<Score> {
    let mut state = None;
    let nll_of = |_, window| {
        let batch = LmBatch { window, state: state.take() };
        let output = InferenceStep::step(model, batch).into_step();
        state = Some(output.state);
        output.nll_sum
    };
    score(streams, device, nll_of, progress)
}

/// The scores of the protocol's texts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextScores {
    /// Validation in the training batch size, tail dropped.
    pub valid: Score,
    /// Validation as one stream.
    pub valid_single_stream: Score,
    /// Test as one stream.
    pub test: Score,
}

impl TextScores {
    /// Score each text; `None` as soon as `score` returns `None`.
    pub fn of(
        texts: &Texts,
        mut score: impl FnMut(&'static str, &TokenStreams) -> Option<Score>,
    ) -> Option<Self> {
        Some(Self {
            valid: score("validation", &texts.valid)?,
            valid_single_stream: score("validation, one stream", &texts.valid_single)?,
            test: score("test, one stream", &texts.test)?,
        })
    }

    /// All of them, in order.
    pub fn all(&self) -> [Score; 3] {
        [self.valid, self.valid_single_stream, self.test]
    }
}

/// Number of passes and seed of Monte-Carlo dropout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MonteCarlo {
    /// Number of masks drawn for each window, at least 1.
    pub passes: usize,
    /// Seed of the masks. The masks of a pass do not depend on the number of passes.
    pub seed: u64,
}

/// Cross-entropy of a text under the mean of the probabilities from networks with dropout:
///
/// ```text
/// p(y) = 1/N Σ_n p(y | masks n)
/// ```
///
/// Gal & Ghahramani, 2016, table 1's "MC". Masks are drawn for each window, as in training, and
/// each of the N networks carries its own state. `model` must be in evaluation mode; `progress` is
/// as in [`evaluate`].
///
/// # Panics
///
/// If there are no passes.
pub fn evaluate_monte_carlo(
    model: &RecurrentLm,
    streams: &TokenStreams,
    device: &Device,
    monte_carlo: MonteCarlo,
    progress: impl FnMut(EvaluationProgress) -> bool,
) -> Option<Score> {
    let MonteCarlo { passes, seed } = monte_carlo;
    assert!(passes > 0, "Monte-Carlo dropout needs a pass");
    let mut states = vec![None; passes];
    let nll_of = |index, window: Window| {
        let Window { inputs, targets } = window;
        let [_, batch_size] = inputs.dims();
        let of_pass = |(pass, state): (usize, &mut Option<LmState>)| {
            let step = (pass as u64) << 32 | index as u64;
            inputs.device().seed(random::seed(seed, Purpose::MonteCarlo, step));
            let masks = model.draw_masks(&inputs);
            let before = state.take().unwrap_or_else(|| model.zero_state(batch_size));
            let output = model.forward_with_masks(inputs.clone(), before, &masks);
            *state = Some(output.state);
            token_nll(model, output.dropped, output.pointing, targets.clone()).unsqueeze()
        };
        let nlls = states.iter_mut().enumerate().map(of_pass).collect();
        log_mean_exp(Tensor::<2>::cat(nlls, 0).neg()).sum().neg()
    };
    score(streams, device, nll_of, progress)
}

/// Sum `nll_of` over the windows, given their index: nats summed over tokens, `[1]`.
fn score(
    streams: &TokenStreams,
    device: &Device,
    mut nll_of: impl FnMut(usize, Window) -> Tensor<1>,
    mut progress: impl FnMut(EvaluationProgress) -> bool,
) -> Option<Score> {
    let total = streams.num_windows();
    let mut nll_sum = ScalarSum::default();
    let (mut tokens, mut reported) = (0, (0.0, 0));
    for (index, window) in streams.windows(device).enumerate() {
        tokens += window.num_tokens();
        if nll_sum.add(nll_of(index, window)) || index + 1 == total {
            let nll = nll_sum.read();
            let items = tokens - reported.1;
            let loss = (nll - reported.0) / items as f64;
            reported = (nll, tokens);
            let measured = Some(Summary { loss, items, ..Summary::default() });
            if !progress(EvaluationProgress { done: index + 1, total, measured }) {
                return None;
            }
        }
    }
    Some(Score::from_sum(nll_sum.read(), tokens))
}

/// Size of the activation at `site` over the first `num_windows` windows of `streams`.
///
/// With a model on an autodiff device dropout is active; seed the device first. `progress` is
/// called now and then; if it returns `false`, the measurement stops and returns `None`.
pub fn activation_statistics(
    model: &RecurrentLm,
    streams: &TokenStreams,
    site: Site,
    num_windows: usize,
    device: &Device,
    mut progress: impl FnMut(EvaluationProgress) -> bool,
) -> Option<ActivationStatistics> {
    let num_windows = num_windows.min(streams.num_windows());
    // Burn would keep the graph of every window until a backward pass, which there is none of here.
    let model = model.clone().no_grad();
    let mut sums = ActivationSums::default();
    let mut state = model.zero_state(streams.batch_size());
    for index in 0..num_windows {
        let output = model.forward(streams.window(index, device).inputs, state);
        let read = sums.add(model.activation(&output, site).inner());
        let done = EvaluationProgress { done: index + 1, total: num_windows, measured: None };
        if read && !progress(done) {
            return None;
        }
        state = output.state;
    }
    Some(sums.statistics())
}

#[cfg(test)]
mod tests {
    use anp_models::{
        BiasInit, CellConfig, Dropout, LstmCellConfig, PointerConfig, RecurrentLmConfig,
    };
    use anp_testing::lock_generator;

    use super::*;
    use crate::text::batches::Tail;
    use crate::text::learner::Objective;

    const TEXT: [u32; 61] = {
        let mut text = [0; 61];
        let mut index = 0;
        while index < text.len() {
            text[index] = (index * index % 7) as u32;
            index += 1;
        }
        text
    };

    fn model(pointer: Option<PointerConfig>) -> LmLearner {
        let dropout = Dropout { input: 0.5, inter_layer: 0.5, output: 0.5, ..Dropout::default() };
        model_with(dropout, pointer)
    }

    fn model_with(dropout: Dropout, pointer: Option<PointerConfig>) -> LmLearner {
        let cell = LstmCellConfig::new().with_forget_bias(1.0);
        let lm = RecurrentLmConfig::new(7, 4, 5)
            .with_num_layers(2)
            .with_cell(CellConfig::Lstm(cell))
            .with_dropout(dropout)
            .with_init_range(1.0)
            .with_decoder_bias_init(BiasInit::Uniform)
            .with_pointer(pointer);
        let lm = lm.init(&Device::default().autodiff());
        LmLearner { lm, objective: Objective::default() }.valid()
    }

    fn score(model: &LmLearner, bptt: usize) -> Score {
        let streams = TokenStreams::new(&TEXT, 1, bptt, Tail::Keep).unwrap();
        evaluate(model, &streams, &Device::default(), |_| true).unwrap()
    }

    /// The state and the words of a pointer are carried over, so the cuts make no difference.
    #[test]
    fn the_score_does_not_depend_on_the_windows() {
        let _turn = lock_generator();
        for pointer in [None, Some(PointerConfig { window: 9, state_gradient: true })] {
            let model = model(pointer);
            let whole = score(&model, 60);
            assert_eq!(whole.tokens, 60);
            for bptt in [1, 7, 59] {
                let cut = score(&model, bptt);
                assert_eq!(cut.tokens, 60);
                // Sums of 60 numbers in single precision, in another order.
                let difference = (cut.nll - whole.nll).abs();
                assert!(difference < 1e-6, "{bptt}: {} and {}", cut.nll, whole.nll);
            }
            assert!((whole.perplexity - whole.nll.exp()).abs() < 1e-12);
        }
    }

    fn monte_carlo(model: &LmLearner, passes: usize, seed: u64) -> Score {
        let streams = TokenStreams::new(&TEXT, 2, 7, Tail::Keep).unwrap();
        let (device, monte_carlo) = (Device::default(), MonteCarlo { passes, seed });
        evaluate_monte_carlo(&model.lm, &streams, &device, monte_carlo, |_| true).unwrap()
    }

    #[test]
    fn without_rates_monte_carlo_dropout_is_the_evaluation() {
        let _turn = lock_generator();
        for pointer in [None, Some(PointerConfig { window: 9, state_gradient: true })] {
            let model = model_with(Dropout::default(), pointer);
            let streams = TokenStreams::new(&TEXT, 2, 7, Tail::Keep).unwrap();
            let ordinary = evaluate(&model, &streams, &Device::default(), |_| true).unwrap();
            assert_eq!(monte_carlo(&model, 1, 3), ordinary);
            // The mean of equal numbers, rounded.
            assert!((monte_carlo(&model, 3, 3).nll - ordinary.nll).abs() < 1e-6);
        }
    }

    #[test]
    fn an_evaluation_that_is_told_to_stop_gives_no_score() {
        let _turn = lock_generator();
        let streams = TokenStreams::new(&TEXT, 1, 5, Tail::Keep).unwrap();
        assert!(evaluate(&model(None), &streams, &Device::default(), |_| false).is_none());
    }

    #[test]
    fn statistics_are_those_of_the_activations() {
        let _turn = lock_generator();
        let model = model(None).lm;
        let streams = TokenStreams::new(&TEXT, 2, 10, Tail::Drop).unwrap();
        let device = Device::default();
        let statistics =
            activation_statistics(&model, &streams, Site::OutputRaw, 2, &device, |_| true).unwrap();

        let mut state = model.zero_state(2);
        let (mut norms, mut squares, mut frobenius, mut saturated) = (0.0, 0.0, 0.0, 0.0);
        for index in 0..2 {
            let output = model.forward(streams.window(index, &device).inputs, state);
            let values: Vec<f64> = output.hidden[1].to_data().iter::<f64>().collect();
            let square = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
            norms += values.chunks(5).map(|token| square(token).sqrt()).sum::<f64>();
            squares += square(&values);
            frobenius += square(&values).sqrt() / 10.0;
            saturated += values.iter().filter(|value| value.abs() > 0.9).count() as f64;
            state = output.state;
        }
        let (tokens, elements) = (40.0, 200.0);
        let close = |actual: f64, expected: f64| assert!((actual - expected).abs() < 1e-6);
        close(statistics.norm, norms / tokens);
        close(statistics.half_squared_norm, 0.5 * squares / tokens);
        close(statistics.frobenius_per_step, frobenius / 2.0);
        close(statistics.rms, (squares / elements).sqrt());
        close(statistics.saturated, saturated / elements);
    }

    /// Each of the windows' graphs would be some megabytes, and stay.
    #[cfg(target_os = "linux")]
    #[test]
    fn measuring_with_dropout_keeps_no_graph() {
        let _turn = lock_generator();
        let device = Device::default().autodiff();
        let dropout = Dropout { input: 0.5, inter_layer: 0.5, output: 0.5, ..Dropout::default() };
        let lm = RecurrentLmConfig::new(7, 64, 64).with_num_layers(2).with_dropout(dropout);
        let lm = lm.init(&device);
        let text: Vec<u32> =
            (0..20 * (200 * 35 + 1)).map(|index: u32| index.wrapping_mul(index) % 7).collect();
        let streams = TokenStreams::new(&text, 20, 35, Tail::Drop).unwrap();
        let measure = |num_windows| {
            activation_statistics(&lm, &streams, Site::OutputDropped, num_windows, &device, |_| {
                true
            })
            .unwrap()
        };
        let resident_bytes = || {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            let pages = statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap();
            4096 * pages
        };
        let without_dropout = lm.valid();
        let plain = activation_statistics(
            &without_dropout,
            &streams,
            Site::OutputDropped,
            20,
            &Device::default(),
            |_| true,
        );
        // Dropped features double the others.
        assert!(measure(20).rms > 1.2 * plain.unwrap().rms);
        let before = resident_bytes();
        measure(200);
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 150 << 20, "{} MiB", grown >> 20);
    }
}
