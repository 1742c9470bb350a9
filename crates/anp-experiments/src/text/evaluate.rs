//! Perplexity of a text under a trained model, and the size of its activations.

use anp_models::{LmState, RecurrentLm, Site};
use burn::data::dataloader::DataLoader;
use burn::tensor::{Device, Tensor};
use burn::train::InferenceStep;

use super::batches::{LmBatch, TokenStreams, Window, WindowLoader};
use super::learner::{LmLearner, token_nll};
use crate::random::{self, Purpose};
use crate::record::{ActivationStatistics, Score};

/// How far an evaluation or a measurement is.
#[derive(Debug, Clone, Copy)]
pub struct EvaluationProgress {
    /// Windows done.
    pub windows: usize,
    /// Windows in all.
    pub num_windows: usize,
    /// Mean loss so far, nats a token; NaN where none is measured.
    pub nll: f64,
}

/// Cross-entropy of a text, state carried from window to window, zero at the start.
///
/// `model` must be in evaluation mode (`model.valid()`): on an autodiff device dropout would be on.
/// `progress` is called now and then; the evaluation is given up, and `None` returned, when it says `false`.
pub fn evaluate(
    model: &LmLearner,
    loader: &WindowLoader,
    progress: impl FnMut(EvaluationProgress) -> bool,
) -> Option<Score> {
    let mut state = None;
    let nll_of = |_, window| {
        let batch = LmBatch { window, state: state.take() };
        let output = InferenceStep::step(model, batch).into_window();
        state = Some(output.state);
        output.nll_sum
    };
    score(loader, nll_of, progress)
}

/// Monte-Carlo dropout: how often masks are drawn, and from which seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonteCarlo {
    /// Masks that are drawn for each window, at least 1.
    pub passes: usize,
    /// Seed of the masks; that of a pass does not depend on how many there are.
    pub seed: u64,
}

/// Cross-entropy of a text under the mean of the probabilities that networks with dropped activations give:
///
/// ```text
/// p(y) = 1/N Σ_n p(y | masks n)
/// ```
///
/// Gal & Ghahramani, 2016, table 1's "MC". Masks are drawn anew for each window, as in training; each of the N networks
/// carries a state of its own. `model` must be in evaluation mode; `progress` is as in [`evaluate`].
///
/// # Panics
///
/// If there are no passes.
pub fn evaluate_monte_carlo(
    model: &RecurrentLm,
    loader: &WindowLoader,
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
        nll_of_mean_probability(Tensor::cat(nlls, 0)).sum()
    };
    score(loader, nll_of, progress)
}

/// `−ln 1/N Σ_n exp(−nll_n)` for each token.
///
/// # Shapes
///
/// - `nll`: `[num_passes, num_tokens]`
/// - returns: `[num_tokens]`
fn nll_of_mean_probability(nll: Tensor<2>) -> Tensor<1> {
    // Relative to the largest probability, which then cannot underflow.
    let smallest = nll.clone().min_dim(0);
    let mean = (smallest.clone() - nll).exp().mean_dim(0);
    (smallest - mean.log()).reshape([-1])
}

/// Add up what `nll_of` says of each window, given its index: nats summed over the tokens, `[1]`.
fn score(
    loader: &WindowLoader,
    mut nll_of: impl FnMut(usize, Window) -> Tensor<1>,
    mut progress: impl FnMut(EvaluationProgress) -> bool,
) -> Option<Score> {
    let num_windows = loader.num_items();
    let mut nll_sum = ScalarSum::default();
    let mut tokens = 0;
    for (index, batch) in loader.iter().enumerate() {
        let window = batch.expect("windows are cut from memory").window;
        tokens += window.num_tokens();
        if nll_sum.add(nll_of(index, window)) || index + 1 == num_windows {
            let nll = nll_sum.read() / tokens as f64;
            if !progress(EvaluationProgress { windows: index + 1, num_windows, nll }) {
                return None;
            }
        }
    }
    Some(Score::from_sum(nll_sum.read(), tokens))
}

/// Size of the activation at `site` over the first `num_windows` windows of `streams`.
///
/// With a model on an autodiff device dropout is on; seed the device before. `progress` is called now and
/// then; the measurement is given up, and `None` returned, when it says `false`.
pub fn activation_statistics(
    model: &RecurrentLm,
    streams: &TokenStreams,
    site: Site,
    num_windows: usize,
    device: &Device,
    mut progress: impl FnMut(EvaluationProgress) -> bool,
) -> Option<ActivationStatistics> {
    let num_windows = num_windows.min(streams.num_windows());
    let [mut norm, mut squares, mut saturated, mut frobenius_per_step] =
        std::array::from_fn(|_| ScalarSum::default());
    let (mut tokens, mut elements) = (0, 0);
    let mut state = model.zero_state(streams.batch_size());
    for index in 0..num_windows {
        let output = model.forward(streams.window(index, device).inputs, state);
        let activation = model.activation(&output, site).inner();
        let [seq_length, batch_size, width] = activation.dims();
        let squared_norms = activation.clone().square().sum_dim(2);
        frobenius_per_step.add(squared_norms.clone().sum().sqrt() / seq_length as f64);
        norm.add(squared_norms.clone().sqrt().sum());
        squares.add(squared_norms.sum());
        let read = saturated.add(activation.abs().greater_scalar(0.9).int().sum().float());
        let done = EvaluationProgress { windows: index + 1, num_windows, nll: f64::NAN };
        if read && !progress(done) {
            return None;
        }
        tokens += seq_length * batch_size;
        elements += seq_length * batch_size * width;
        state = output.state.detach();
    }
    let squares = squares.read();
    Some(ActivationStatistics {
        norm: norm.read() / tokens as f64,
        half_squared_norm: 0.5 * squares / tokens as f64,
        frobenius_per_step: frobenius_per_step.read() / num_windows as f64,
        rms: (squares / elements as f64).sqrt(),
        saturated: saturated.read() / elements as f64,
    })
}

impl Score {
    /// The score of a summed loss.
    pub fn from_sum(nll_sum: f64, tokens: usize) -> Self {
        let nll = nll_sum / tokens as f64;
        Self { nll, perplexity: nll.exp(), tokens }
    }
}

/// A sum in double precision of scalars that are read from the device a few at a time, so that the
/// device need not be waited for at each.
#[derive(Default)]
struct ScalarSum {
    total: f64,
    pending: Vec<Tensor<1>>,
}

impl ScalarSum {
    const READ_EVERY: usize = 32;

    /// Add a scalar; whether the sum was brought up to date.
    fn add(&mut self, value: Tensor<1>) -> bool {
        self.pending.push(value.inner());
        let full = self.pending.len() == Self::READ_EVERY;
        if full {
            self.read();
        }
        full
    }

    /// The sum up to now.
    fn read(&mut self) -> f64 {
        if !self.pending.is_empty() {
            let values = Tensor::cat(std::mem::take(&mut self.pending), 0).into_data();
            self.total = values.iter::<f64>().fold(self.total, |total, value| total + value);
        }
        self.total
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use anp_models::{
        BiasInit, CellConfig, Dropout, LstmCellConfig, PointerConfig, RecurrentLmConfig,
    };
    use burn::module::Module;

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
        let loader = WindowLoader::new(Arc::new(streams), Device::default());
        evaluate(model, &loader, |_| true).unwrap()
    }

    /// The state is carried from window to window, and the words that a pointer points at, so where the text is cut makes no difference.
    #[test]
    fn the_score_does_not_depend_on_the_windows() {
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
        let loader = WindowLoader::new(Arc::new(streams), Device::default());
        evaluate_monte_carlo(&model.lm, &loader, MonteCarlo { passes, seed }, |_| true).unwrap()
    }

    #[test]
    fn without_rates_monte_carlo_dropout_is_the_evaluation() {
        for pointer in [None, Some(PointerConfig { window: 9, state_gradient: true })] {
            let model = model_with(Dropout::default(), pointer);
            let streams = TokenStreams::new(&TEXT, 2, 7, Tail::Keep).unwrap();
            let loader = WindowLoader::new(Arc::new(streams), Device::default());
            let ordinary = evaluate(&model, &loader, |_| true).unwrap();
            assert_eq!(monte_carlo(&model, 1, 3), ordinary);
            // The mean of equal numbers, rounded.
            assert!((monte_carlo(&model, 3, 3).nll - ordinary.nll).abs() < 1e-6);
        }
    }

    #[test]
    fn an_evaluation_that_is_told_to_stop_gives_no_score() {
        let streams = TokenStreams::new(&TEXT, 1, 5, Tail::Keep).unwrap();
        let loader = WindowLoader::new(Arc::new(streams), Device::default());
        assert!(evaluate(&model(None), &loader, |_| false).is_none());
    }

    #[test]
    fn statistics_are_those_of_the_activations() {
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
}
