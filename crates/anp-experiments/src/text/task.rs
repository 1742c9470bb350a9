use anp_models::{LmState, RecurrentLm, Site};
use burn::module::Module;
use burn::optim::{ModuleOptimizer, SgdConfig};
use burn::tensor::Device;
use burn::train::TrainStep;

use super::averaging::Averaging;
use super::batches::{LmBatch, Span, Window};
use super::build::{Texts, build_learner, equivalents};
use super::evaluate::{TextScores, activation_statistics, evaluate};
use super::learner::{LmLearner, Objective, WindowOutput};
use super::noising::{Noising, NoisingConfig};
use super::recipe::TextRecipe;
use super::record::{ActivationStatistics, EpochRecord, RunResult, Score};
use super::regularizer::LmRegularizer;
use super::schedule::Schedule;
use super::snapshot::{TextState, TextTensors};
use crate::data::{self, Corpus, Split, Store};
use crate::device::Devices;
use crate::engine::{
    Context, EpochEnd, FinishedEpoch, GoOn, GoOnPart, Metrics, NotFinite, PenaltyEquivalent,
    Position, Quantity, Snapshot, StepError, StepScalars, Task, TrainError, Words, finite,
};
use crate::random::{Purpose, seed};

/// Number of training windows on which the activations of a trained model are measured.
const STATISTICS_WINDOWS: usize = 200;

/// The exponential of the mean loss, not a mean of exponentials.
pub const PERPLEXITY: Quantity = Quantity { name: "Perplexity", shown: f64::exp, ..Quantity::LOSS };

/// Speed of training.
pub const TOKENS_PER_SECOND: Quantity = Quantity::per_second("Tokens per second");

/// The data of a language model.
pub struct TextData {
    texts: Texts,
    noising: Option<Noising>,
    vocab_size: usize,
    /// Of each word in the part of the training text that is read.
    counts: Vec<f64>,
}

impl TextData {
    /// Cut `corpus` as `recipe` says.
    ///
    /// # Errors
    ///
    /// If a text is too short.
    pub fn new(corpus: &Corpus, recipe: &TextRecipe) -> Result<Self, TrainError> {
        let texts = Texts::cut(corpus, recipe)?;
        let num_words = corpus.vocabulary.len();
        let config = recipe.data.noising.as_ref();
        let vocab_size = num_words + config.map_or(0, NoisingConfig::extra_words);
        let read = recipe.data.training_text(&corpus.train);
        let noising = config.map(|config| Noising::new(config, read, num_words));
        let mut counts = vec![0.0; vocab_size];
        read.iter().for_each(|&word| counts[word as usize] += 1.0);
        Ok(Self { texts, noising, vocab_size, counts })
    }
}

/// Truncated back-propagation through time with carried state: the state passes from window to
/// window, all gradients are clipped by one norm, and the schedule may return to the best
/// parameters.
pub struct TextTask {
    recipe: TextRecipe,
    data: TextData,
    /// Device for training.
    device: Device,
    seed: u64,
    objective: Objective,
    /// Taken during an update, which consumes it.
    model: Option<LmLearner>,
    optimizer: ModuleOptimizer,
    /// Parameters with the best validation loss.
    best: Option<RecurrentLm>,
    /// Averaged parameters, once averaging has begun.
    average: Option<RecurrentLm>,
    /// State that the next window starts with.
    state: Option<LmState>,
    schedule: Schedule,
    averaging: Option<Averaging>,
    /// Windows of the current epoch.
    spans: Vec<Span>,
}

impl TextTask {
    pub(super) fn model(&self) -> &LmLearner {
        self.model.as_ref().expect("the model is there between steps")
    }

    /// Make the best parameters those of the model; whether there are some.
    pub(super) fn take_best(&mut self) -> bool {
        let Some(lm) = self.best.take() else { return false };
        self.model = Some(LmLearner { lm, objective: self.objective.clone() });
        true
    }

    /// The training windows of the next epoch, in order.
    pub(super) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// A training window, noised as in step `step`.
    pub(super) fn training_window(&self, span: Span, step: u64) -> Window {
        let noise = |inputs: &mut [i32], targets: &mut [i32]| {
            if let Some(noising) = &self.data.noising {
                noising.apply(inputs, targets, seed(self.seed, Purpose::Noising, step));
            }
        };
        self.data.texts.train.window_with(span, &self.device, noise)
    }

    /// The parameters to evaluate: the averages, if there are some.
    fn evaluated(&self) -> &RecurrentLm {
        self.average.as_ref().unwrap_or(&self.model().lm)
    }
}

impl Task for TextTask {
    const KIND: &'static str = "text";
    const WORDS: Words = Words {
        step: "window",
        steps: "windows",
        remedy: "a lower training.learning_rate or training.grad_clip_norm",
    };
    const METRICS: Metrics = Metrics {
        both: &[Quantity::LOSS, PERPLEXITY],
        train: &[Quantity::PENALTY, Quantity::GRAD_NORM, TOKENS_PER_SECOND],
    };
    const READ_EVERY: usize = 16;

    type Recipe = TextRecipe;
    type Data = TextData;
    type Output = WindowOutput;
    type Learner = LmLearner;
    type Tensors = TextTensors;
    type State = TextState;
    type Validation = Score;
    type Epoch = EpochRecord;
    type Result = RunResult;

    /// A language model needs a single device, because each window starts from the state of the
    /// last.
    fn check(recipe: &TextRecipe, devices: &Devices) -> Result<(), TrainError> {
        recipe.validate()?;
        if let Some(precision) = recipe.training.mixed_precision {
            precision.check(devices).map_err(|err| TrainError::Task(Box::new(err)))?;
        }
        if devices.are_several() {
            return Err(TrainError::SeveralDevices {
                devices: devices.to_string(),
                reason: "only images are shared out among devices, and it is of text",
            });
        }
        Ok(())
    }

    fn load(recipe: &TextRecipe, store: &Store) -> Result<TextData, TrainError> {
        TextData::new(&store.load(&recipe.data.corpus)?, recipe)
    }

    fn made_up(recipe: &TextRecipe, share: f64) -> Result<TextData, TrainError> {
        let manifest = data::manifest(&recipe.data.corpus).expect("a valid recipe");
        let window = recipe.data.batch_size * (recipe.data.bptt + 1);
        let tokens = |split, used: Option<usize>| {
            let all = manifest.file(split).tokens;
            window.max((share * used.map_or(all, |used| used.min(all)) as f64) as usize)
        };
        let train = tokens(Split::Train, recipe.data.train_tokens);
        let [valid, test] = [Split::Valid, Split::Test].map(|split| tokens(split, None));
        let corpus = Corpus::made_up(manifest.vocabulary, [train, valid, test]);
        let mut shortened = recipe.clone();
        shortened.data.train_tokens = None;
        TextData::new(&corpus, &shortened)
    }

    fn new(recipe: TextRecipe, data: TextData, context: Context) -> Self {
        let Context { mut devices, kernels, seed } = context;
        let device = devices.swap_remove(0);
        let mut model = build_learner(&recipe, data.vocab_size, kernels, &device);
        model.objective.windows_per_epoch = data.texts.train.num_windows();
        let regularizer = |config| LmRegularizer::new(config, &data.counts, &device);
        model.objective.regularizers = recipe.regularizers.iter().map(regularizer).collect();
        Self {
            objective: model.objective.clone(),
            model: Some(model),
            optimizer: SgdConfig::new().init(),
            best: None,
            average: None,
            state: None,
            schedule: Schedule::new(&recipe.training),
            averaging: None,
            spans: Vec::new(),
            recipe,
            data,
            device,
            seed,
        }
    }

    fn learner(&self) -> LmLearner {
        self.model().clone()
    }

    fn num_params(&self) -> usize {
        self.model().lm.num_params()
    }

    fn penalties(&self) -> Vec<PenaltyEquivalent> {
        equivalents(&self.recipe, self.data.vocab_size)
    }

    fn max_epochs(&self) -> usize {
        self.recipe.training.max_epochs
    }

    fn learning_rate(&self, _epoch: usize) -> f64 {
        self.schedule.learning_rate()
    }

    /// The windows depend only on the seed and the first step of the epoch, so a resumed run has
    /// the same.
    fn start_epoch(&mut self, at: Position) -> usize {
        let streams = &self.data.texts.train;
        let data = &self.recipe.data;
        self.spans = match &data.variable_bptt {
            None => streams.spans(),
            Some(variable) => streams.spans_of_lengths(|index| {
                let step = at.step - at.done as u64 + index as u64;
                variable.draw(data.bptt, seed(self.seed, Purpose::WindowLength, step))
            }),
        };
        self.spans.len()
    }

    fn step(&mut self, at: Position) -> Result<StepScalars, StepError> {
        let span = self.spans[at.done];
        let window = self.training_window(span, at.step);
        self.device.seed(seed(self.seed, Purpose::Dropout, at.step));

        let model = self.model.take().expect("the model is there between steps");
        let output = TrainStep::step(&model, LmBatch { window, state: self.state.take() });
        let gradients = output.grads;
        let output = output.item.into_step();

        let max_norm = self.recipe.training.grad_clip_norm;
        let mut rate = self.schedule.learning_rate();
        if self.recipe.data.variable_bptt.is_some() {
            // The length as drawn, before the end of the text cut it.
            rate = rate * span.drawn as f64 / self.recipe.data.bptt as f64;
        }
        if let Some(averaging) = &mut self.averaging {
            rate = averaging.learning_rate(rate);
        }
        let (model, norm) =
            model.update(&mut self.optimizer, rate, max_norm, gradients, output.rows);
        if let Some(averaging) = &mut self.averaging {
            self.average = Some(averaging.add(self.average.take(), &model.lm));
        }
        self.model = Some(model);
        self.state = Some(output.state);
        Ok(StepScalars {
            items: output.tokens,
            loss: output.nll_sum,
            grad_norm: norm.inner(),
            max_norm: Some(max_norm),
            correct: None,
            extras: Vec::new(),
            penalties: output.penalties,
        })
    }

    fn validation_steps(&self) -> usize {
        self.data.texts.valid.num_windows()
    }

    fn validate(&mut self, go_on: &mut GoOn<'_>) -> Option<Score> {
        let evaluated = LmLearner { lm: self.evaluated().clone(), objective: Objective::default() };
        evaluate(&evaluated.valid(), &self.data.texts.valid, &self.device.clone().inner(), go_on)
    }

    fn end_epoch(
        &mut self,
        finished: FinishedEpoch,
        score: Score,
    ) -> Result<EpochEnd<EpochRecord>, NotFinite> {
        // Above 709 nats the perplexity overflows while the loss is still a number.
        finite("the validation perplexity", score.perplexity)?;
        let verdict = self.schedule.end_epoch(score.nll);
        if verdict.improved {
            self.best = Some(self.evaluated().clone());
        }
        if verdict.restore_best
            && let Some(best) = &self.best
        {
            self.model = Some(LmLearner { lm: best.clone(), objective: self.objective.clone() });
        }
        if self.schedule.is_averaging() && self.averaging.is_none() {
            self.averaging = Some(Averaging::default());
        }
        self.state = None;
        let FinishedEpoch { epoch, learning_rate, sums } = finished;
        let record = EpochRecord {
            epoch,
            learning_rate,
            train_nll: sums.mean_loss(),
            valid_nll: score.nll,
            valid_perplexity: score.perplexity,
            penalties: sums.mean_penalties(),
            grad_norm: sums.mean_grad_norm(),
            clipped: sums.share_clipped(),
            seconds: sums.seconds,
        };
        Ok(EpochEnd { record, is_last: verdict.end.is_some() })
    }

    fn snapshot(&self) -> Snapshot<Self> {
        let state = TextState {
            vocab_size: self.data.vocab_size,
            schedule: self.schedule.clone(),
            averaging: self.averaging,
            has_best: self.best.is_some(),
            has_average: self.average.is_some(),
            has_state: self.state.is_some(),
        };
        let (best, average) = (self.best.clone(), self.average.clone());
        let model = self.model().lm.clone();
        let tensors = TextTensors::new(model, best, average, self.state.clone());
        Snapshot { tensors, optimizer: self.optimizer.to_record(), state }
    }

    fn template(&self, state: &TextState) -> TextTensors {
        TextTensors::like(&self.model().lm, state, self.recipe.data.batch_size)
    }

    fn restore(&mut self, snapshot: Snapshot<Self>) {
        let Snapshot { mut tensors, optimizer, state } = snapshot;
        self.state = tensors.take_state();
        let TextTensors { model, best, average, .. } = tensors;
        self.model = Some(LmLearner { lm: model, objective: self.objective.clone() });
        self.best = best;
        self.average = average;
        self.optimizer = self.optimizer.clone().load_record(optimizer);
        self.schedule = state.schedule;
        self.averaging = state.averaging;
    }

    /// Measure the best parameters.
    fn finish(
        self,
        curve: &[EpochRecord],
        go_on: &mut GoOnPart<'_>,
    ) -> Result<Option<RunResult>, NotFinite> {
        let best_epoch = self.schedule.best_epoch().unwrap_or(curve.len());
        let seed = seed(self.seed, Purpose::Statistics, 0);
        let Self { model, best, average, data: TextData { texts, .. }, device, .. } = self;
        // Measuring needs memory, but only one set of parameters.
        drop(average);
        let lm = best.or(model.map(|model| model.lm)).expect("the model is there between steps");
        let result = measure(lm, &texts, &device, seed, go_on);
        let Some((scores, activation_valid, activation_train)) = result else { return Ok(None) };
        let TextScores { valid, valid_single_stream, test } = scores;
        finite("the test perplexity", test.perplexity)
            .map_err(|err| NotFinite { epoch: Some(best_epoch), ..err })?;
        Ok(Some(RunResult {
            best_epoch,
            valid,
            valid_single_stream,
            test,
            activation_valid,
            activation_train,
        }))
    }
}

/// The scores of a trained model and its activations on the validation and training text; `None` if
/// `go_on` returns `false`.
fn measure(
    lm: RecurrentLm,
    texts: &Texts,
    device: &Device,
    seed: u64,
    go_on: &mut GoOnPart<'_>,
) -> Option<(TextScores, ActivationStatistics, ActivationStatistics)> {
    let learner = LmLearner { lm, objective: Objective::default() };
    let model = learner.valid();
    let plain_device = device.clone().inner();
    let scores = TextScores::of(texts, |part, streams| {
        evaluate(&model, streams, &plain_device, |done| go_on(part, done))
    })?;
    let on_validation = activation_statistics(
        &model.lm,
        &texts.valid,
        Site::OutputRaw,
        usize::MAX,
        &plain_device,
        |done| go_on("activations, validation", done),
    )?;
    device.seed(seed);
    let on_training = activation_statistics(
        &learner.lm,
        &texts.train,
        Site::OutputDropped,
        STATISTICS_WINDOWS,
        device,
        |done| go_on("activations, training", done),
    )?;
    Some((scores, on_validation, on_training))
}
