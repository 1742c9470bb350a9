//! The analysis of a language model's checkpoint.

use anp_models::{RecurrentLm, Site, WeightPosterior};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;

use super::batches::{LmBatch, Tail, TokenStreams};
use super::build::{CannotCut, equivalents};
use super::learner::token_nll;
use super::task::{TextData, TextTask};
use crate::analyze::{
    Analysis, Decoder, Gradient, GradientMeter, Meter, On, Options, Sample, Saturation, SiteReport,
    entropy,
};
use crate::data::{Corpus, Split};
use crate::engine::{
    Context, EvaluationProgress, GoOnPart, Place, Position, StoredCheckpoint, Task, TrainError,
};
use crate::random::{Purpose, seed};

/// Analyse the best parameters of a checkpoint, or, with `last`, those that training goes on from.
/// `None` if `go_on` returns `false`.
///
/// # Errors
///
/// [`TrainError::Recipe`], [`TrainError::SeveralDevices`], [`TrainError::Data`],
/// [`TrainError::Task`] and [`TrainError::Checkpoint`].
pub fn analyze_checkpoint(
    stored: StoredCheckpoint<TextTask>,
    place: &Place,
    options: &Options,
    last: bool,
    go_on: &mut GoOnPart<'_>,
) -> Result<Option<Analysis>, TrainError> {
    let recipe = stored.recipe.clone();
    TextTask::check(&recipe, &place.devices)?;
    let corpus = place.store.load(&recipe.data.corpus)?;
    let (split, text) = match options.split.unwrap_or(Split::Valid) {
        Split::Train => ("train", recipe.data.training_text(&corpus.train)),
        Split::Valid => ("valid", &corpus.valid[..]),
        Split::Test => ("test", &corpus.test[..]),
    };
    // Every split in the batch size of training, so that the divergence of a time step is that of
    // as many tokens.
    let streams = TokenStreams::new(text, recipe.data.batch_size, recipe.data.bptt, Tail::Drop)
        .map_err(|source| TrainError::Task(Box::new(CannotCut { split, source })))?;

    let device = place.devices.first();
    let (checkpoint, run_seed) = (stored.path.clone(), stored.run.seed);
    let epochs = stored.run.curve.len();
    let best_epoch = stored.state.schedule.best_epoch();
    let context = Context {
        devices: vec![device.clone().autodiff()],
        kernels: place.kernels,
        seed: run_seed,
    };
    let terms = equivalents(&recipe, stored.state.vocab_size);
    let mut task = TextTask::new(recipe.clone(), TextData::new(&corpus, &recipe)?, context);
    let template = task.template(&stored.state);
    task.restore(stored.load(template)?);
    let is_best = !last && task.take_best();

    let seed = options.seed.unwrap_or(run_seed);
    let lm = task.model().lm.valid();
    let measurement = Measurement {
        lm,
        streams,
        split,
        target_entropy: entropy(&counts(text, &corpus)),
        options,
        run_seed,
        device: device.clone(),
    };
    Ok((|| {
        let (on, sites, decoder) = measurement.activations(go_on)?;
        let gradient = gradients(&mut task, GradientMeter::new(terms), options, seed, go_on)?;
        Some(Analysis {
            checkpoint,
            kind: TextTask::KIND,
            epoch: if is_best { best_epoch } else { (epochs > 0).then_some(epochs) },
            parameters: if is_best { "best on validation" } else { "last" },
            seed,
            on,
            epsilon: options.epsilon,
            sites,
            decoder,
            gradient,
        })
    })())
}

/// How often each word of the vocabulary occurs.
fn counts(text: &[u32], corpus: &Corpus) -> Vec<f64> {
    let mut counts = vec![0.0; corpus.vocabulary.len()];
    text.iter().for_each(|&word| counts[word as usize] += 1.0);
    counts
}

struct Measurement<'a> {
    lm: RecurrentLm,
    streams: TokenStreams,
    split: &'static str,
    target_entropy: f64,
    options: &'a Options,
    run_seed: u64,
    device: Device,
}

impl Measurement<'_> {
    /// All sites, in the order in which they are computed, with their limits. What the decoder sees
    /// in evaluation is the last hidden state.
    fn sites(&self) -> Vec<(Site, Saturation)> {
        let of_layer = |layer| {
            let cell = (Site::LayerCell(layer), Saturation::Cell);
            [cell, (Site::LayerHidden(layer), Saturation::Tanh)]
        };
        [(Site::Embedding, Saturation::Unlimited)]
            .into_iter()
            .chain((0..self.lm.layers.len()).flat_map(of_layer))
            .chain([(Site::Logits, Saturation::Unlimited)])
            .filter(|&(site, _)| self.lm.has_site(site))
            .collect()
    }

    fn activations(&self, go_on: &mut GoOnPart<'_>) -> Option<(On, Vec<SiteReport>, Decoder)> {
        let (lm, streams, options) = (&self.lm, &self.streams, self.options);
        let num_windows = options.max_windows.min(streams.num_windows());
        let batch_size = streams.batch_size();
        let window_tokens = streams.num_tokens() / streams.num_windows();
        let items = num_windows * window_tokens;
        let sample = Sample::draw(options, self.run_seed, items);
        let sites = self.sites();
        let mut meters: Vec<_> = sites
            .iter()
            .map(|(site, limits)| Meter::new(site.to_string(), *limits, options.epsilon))
            .collect();
        let mut state = lm.zero_state(batch_size);
        let mut nlls = Vec::with_capacity(num_windows);
        for index in 0..num_windows {
            let window = streams.window(index, &self.device);
            let output = lm.forward(window.inputs, state);
            let sampled = sample.within(index * window_tokens, window_tokens);
            for (meter, (site, _)) in meters.iter_mut().zip(&sites) {
                meter.add(lm.activation(&output, *site), &sampled);
            }
            // Without a pointer, which knows more than the hidden state.
            let nll = token_nll(lm, output.dropped, None, window.targets).sum();
            nlls.push(nll.into_scalar::<f64>() / window_tokens as f64);
            state = output.state;
            let progress =
                EvaluationProgress { done: index + 1, total: num_windows, measured: None };
            if !go_on("activations", progress) {
                return None;
            }
        }
        let total = meters.len();
        let mut reports = Vec::with_capacity(total);
        for (index, meter) in meters.into_iter().enumerate() {
            reports.push(meter.finish(options, None));
            let progress = EvaluationProgress { done: index + 1, total, measured: None };
            if !go_on("spectra, information", progress) {
                return None;
            }
        }
        let on = On { split: self.split, items, item: "token", mode: "evaluation" };
        let last = Site::LayerHidden(lm.layers.len() - 1);
        let decoder = Decoder::new(last.to_string(), self.target_entropy, &nlls);
        Some((on, reports, decoder))
    }
}

/// Gradients on the first windows of the first epoch's training text, with dropout on.
fn gradients(
    task: &mut TextTask,
    mut meter: GradientMeter,
    options: &Options,
    seed_of_analysis: u64,
    go_on: &mut GoOnPart<'_>,
) -> Option<Gradient> {
    task.start_epoch(Position::START);
    let steps = options.gradient_steps.min(task.spans().len());
    let learner = task.model().clone();
    let mut state = None;
    let mut items = 0;
    for index in 0..steps {
        let step = index as u64;
        let window = task.training_window(task.spans()[index], step);
        items += window.num_tokens();
        let device = window.inputs.device();
        device.seed(seed(seed_of_analysis, Purpose::Analysis, step + 1));
        let masks = learner.lm.sample_masks(&window.inputs);
        let noise = learner.lm.posterior.as_ref().map(WeightPosterior::sample_noise);
        let gradient = |term| {
            let batch = LmBatch { window: window.clone(), state: state.clone() };
            learner.gradient_of(batch, &masks, noise.clone(), term)
        };
        let (data, after) = gradient(None);
        let terms: Vec<GradientsParams> = meter
            .strengths()
            .enumerate()
            .map(|(index, strength)| match strength {
                // Such a term is a constant, which has no graph.
                0.0 => GradientsParams::new(),
                _ => gradient(Some(index)).0,
            })
            .collect();
        meter.add(&learner, &data, &terms);
        state = Some(after);
        let progress = EvaluationProgress { done: index + 1, total: steps, measured: None };
        if !go_on("gradients", progress) {
            return None;
        }
    }
    Some(meter.finish(On { split: "train", items, item: "token", mode: "training" }))
}
