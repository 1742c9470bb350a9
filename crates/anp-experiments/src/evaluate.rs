//! Perplexity of a text under a trained model, and the size of its activations.

use anp_models::{RecurrentLm, Site};
use burn::data::dataloader::DataLoader;
use burn::tensor::{Device, Tensor};
use burn::train::InferenceStep;

use crate::batches::{LmBatch, TokenStreams, WindowLoader};
use crate::record::{ActivationStatistics, Score};
use crate::train::LmLearner;

/// How far an evaluation is.
#[derive(Debug, Clone, Copy)]
pub struct EvaluationProgress {
    /// Windows done.
    pub windows: usize,
    /// Windows in all.
    pub num_windows: usize,
    /// Mean loss so far, nats a token.
    pub nll: f64,
}

/// Cross-entropy of a text, state carried from window to window, zero at the start.
///
/// `model` must be in evaluation mode (`model.valid()`): on an autodiff device dropout would be on.
/// `progress` is called now and then; the evaluation is given up, and `None` returned, when it says `false`.
pub fn evaluate(
    model: &LmLearner,
    loader: &WindowLoader,
    mut progress: impl FnMut(EvaluationProgress) -> bool,
) -> Option<Score> {
    let num_windows = loader.num_items();
    let mut nll_sum = ScalarSum::default();
    let (mut tokens, mut state) = (0, None);
    for (index, batch) in loader.iter().enumerate() {
        let window = batch.expect("windows are cut from memory").window;
        tokens += window.num_tokens();
        let output = InferenceStep::step(model, LmBatch { window, state }).into_window();
        state = Some(output.state);
        if nll_sum.add(output.nll_sum) || index + 1 == num_windows {
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
/// With a model on an autodiff device dropout is on; seed the device before.
pub fn activation_statistics(
    model: &RecurrentLm,
    streams: &TokenStreams,
    site: Site,
    num_windows: usize,
    device: &Device,
) -> ActivationStatistics {
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
        saturated.add(activation.abs().greater_scalar(0.9).int().sum().float());
        tokens += seq_length * batch_size;
        elements += seq_length * batch_size * width;
        state = output.state.detach();
    }
    let squares = squares.read();
    ActivationStatistics {
        norm: norm.read() / tokens as f64,
        half_squared_norm: 0.5 * squares / tokens as f64,
        frobenius_per_step: frobenius_per_step.read() / num_windows as f64,
        rms: (squares / elements as f64).sqrt(),
        saturated: saturated.read() / elements as f64,
    }
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
