//! A kind of run that is neither text nor images: the regression of a line. It shows what a kind of
//! run has to bring along, and that the engine does all else.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anp_models::Kernels;
use anp_testing::{SilentRenderer, lock_generator};
use burn::module::Module;
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor, TensorData};
use burn::train::{InferenceStep, Interrupter, TrainOutput, TrainStep};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::*;
use crate::data::Store;
use crate::device::{DeviceName, Devices};
use crate::random::{Purpose, seed};
use crate::recipe::scale::Scale;

// The task ----------------------------------------------------------------------------------------

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ToyRecipe {
    epochs: usize,
    steps: usize,
    learning_rate: f64,
    /// Of a step, so that a run can be killed in the middle.
    milliseconds: u64,
}

/// When the run is asked to stop.
#[derive(Default)]
struct ToyData {
    stop_before: Option<(u64, Interrupter)>,
    stop_in_evaluation: Option<Interrupter>,
}

#[derive(Module, Debug)]
struct ToyLearner {
    linear: Linear,
}

#[derive(Debug, Clone)]
struct ToyOutput {
    loss: Tensor<1>,
    items: usize,
}

#[derive(Module, Debug)]
struct ToyTensors {
    learner: ToyLearner,
    best: Option<ToyLearner>,
}

#[derive(Serialize, Deserialize)]
struct ToyState {
    best: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ToyEpoch {
    train_loss: f64,
    valid_loss: f64,
    weight: f64,
}

struct Toy {
    recipe: ToyRecipe,
    data: ToyData,
    device: Device,
    seed: u64,
    /// Taken during an update, which consumes it.
    learner: Option<ToyLearner>,
    optimizer: ModuleOptimizer,
    best: Option<(f64, ToyLearner)>,
}

impl StepOutput for ToyOutput {
    fn summary(&self) -> Summary {
        let loss = self.loss.clone().into_scalar::<f64>() / self.items as f64;
        Summary { loss, items: self.items, ..Summary::default() }
    }
}

impl TrainStep for ToyLearner {
    type Input = (Tensor<2>, Tensor<2>);
    type Output = Report<ToyOutput>;

    fn step(&self, batch: (Tensor<2>, Tensor<2>)) -> TrainOutput<Report<ToyOutput>> {
        let items = batch.0.dims()[0];
        let loss = self.loss(batch);
        let gradients = (loss.clone() * (1.0 / items as f64)).backward();
        TrainOutput::new(self, gradients, Report::step(ToyOutput { loss: loss.inner(), items }))
    }
}

impl InferenceStep for ToyLearner {
    type Input = (Tensor<2>, Tensor<2>);
    type Output = Report<ToyOutput>;

    fn step(&self, batch: (Tensor<2>, Tensor<2>)) -> Report<ToyOutput> {
        let items = batch.0.dims()[0];
        Report::step(ToyOutput { loss: self.loss(batch), items })
    }
}

impl ToyLearner {
    fn loss(&self, (x, y): (Tensor<2>, Tensor<2>)) -> Tensor<1> {
        (self.linear.forward(x) - y).square().sum()
    }
}

impl Toy {
    const ITEMS: usize = 8;

    /// Points of the line y = 2x + 1, with noise.
    fn points(seed: u64, device: &Device) -> (Tensor<2>, Tensor<2>) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let x: Vec<f32> = (0..Self::ITEMS).map(|_| random.random_range(-1.0..1.0)).collect();
        let y = x.iter().map(|x| 2.0 * x + 1.0 + random.random_range(-0.1..0.1)).collect();
        let tensor =
            |values: Vec<f32>| Tensor::from_data(TensorData::new(values, [Self::ITEMS, 1]), device);
        (tensor(x), tensor(y))
    }

    fn learner(&self) -> &ToyLearner {
        self.learner.as_ref().expect("it is there between steps")
    }
}

impl Task for Toy {
    const KIND: &'static str = "toy";
    const WORDS: Words = Words { step: "draw", steps: "draws", remedy: "a smaller step" };
    const METRICS: Metrics = Metrics { both: &[Quantity::LOSS], train: &[Quantity::GRAD_NORM] };
    const READ_EVERY: usize = 4;

    type Recipe = ToyRecipe;
    type Data = ToyData;
    type Output = ToyOutput;
    type Learner = ToyLearner;
    type Tensors = ToyTensors;
    type State = ToyState;
    type Validation = f64;
    type Epoch = ToyEpoch;
    type Result = f64;

    fn check(_: &ToyRecipe, _: &Devices) -> Result<(), TrainError> {
        Ok(())
    }

    fn load(_: &ToyRecipe, _: &Store) -> Result<ToyData, TrainError> {
        Ok(ToyData::default())
    }

    fn made_up(_: &ToyRecipe, _: f64) -> Result<ToyData, TrainError> {
        Ok(ToyData::default())
    }

    fn new(recipe: ToyRecipe, data: ToyData, context: Context) -> Self {
        let Context { mut devices, seed, .. } = context;
        let device = devices.swap_remove(0);
        let linear = LinearConfig::new(1, 1).with_initializer(Initializer::Zeros).init(&device);
        let learner = Some(ToyLearner { linear });
        let optimizer = AdamConfig::new().init();
        Self { recipe, data, device, seed, learner, optimizer, best: None }
    }

    fn learner(&self) -> ToyLearner {
        Toy::learner(self).clone()
    }

    fn num_params(&self) -> usize {
        Toy::learner(self).num_params()
    }

    fn penalties(&self) -> Vec<PenaltyEquivalent> {
        Vec::new()
    }

    fn max_epochs(&self) -> usize {
        self.recipe.epochs
    }

    fn learning_rate(&self, epoch: usize) -> f64 {
        self.recipe.learning_rate / epoch as f64
    }

    fn start_epoch(&mut self, _: Position) -> usize {
        self.recipe.steps
    }

    fn step(&mut self, at: Position) -> Result<StepScalars, StepError> {
        sleep(Duration::from_millis(self.recipe.milliseconds));
        if let Some((_, interrupter)) =
            self.data.stop_before.as_ref().filter(|(step, _)| *step == at.step + 1)
        {
            interrupter.stop(None);
        }
        let batch = Self::points(seed(self.seed, Purpose::Order, at.step), &self.device);
        let learner = self.learner.take().expect("it is there between steps");
        let output = TrainStep::step(&learner, batch);
        let (gradients, norm) = norm_of(output.grads, &learner);
        let rate = self.learning_rate(at.epoch);
        self.learner = Some(self.optimizer.step(rate, learner, gradients));
        let ToyOutput { loss, items } = output.item.into_step();
        Ok(StepScalars {
            items,
            loss,
            grad_norm: norm,
            max_norm: None,
            correct: None,
            extras: Vec::new(),
            penalties: Vec::new(),
        })
    }

    fn validation_steps(&self) -> usize {
        1
    }

    fn validate(&mut self, go_on: &mut GoOn<'_>) -> Option<f64> {
        let device = self.device.clone().inner();
        let learner = Toy::learner(self).valid();
        let batch = Self::points(seed(self.seed, Purpose::Statistics, 0), &device);
        let measured = InferenceStep::step(&learner, batch).into_step().summary();
        let progress = EvaluationProgress { done: 1, total: 1, measured: Some(measured) };
        go_on(progress).then_some(measured.loss)
    }

    fn end_epoch(
        &mut self,
        finished: FinishedEpoch,
        valid_loss: f64,
    ) -> Result<EpochEnd<ToyEpoch>, NotFinite> {
        finite("the validation loss", valid_loss)?;
        if self.best.as_ref().is_none_or(|(best, _)| valid_loss < *best) {
            self.best = Some((valid_loss, Toy::learner(self).clone()));
        }
        let weight = Toy::learner(self).linear.weight.val().into_scalar::<f64>();
        let train_loss = finished.sums.mean_loss();
        let record = ToyEpoch { train_loss, valid_loss, weight };
        Ok(EpochEnd { record, is_last: finished.epoch == self.recipe.epochs })
    }

    fn snapshot(&self) -> Snapshot<Self> {
        let (best, best_learner) = self.best.clone().unzip();
        let tensors = ToyTensors { learner: Toy::learner(self).clone(), best: best_learner };
        Snapshot { tensors, optimizer: self.optimizer.to_record(), state: ToyState { best } }
    }

    fn template(&self, state: &ToyState) -> ToyTensors {
        let learner = Toy::learner(self).clone();
        ToyTensors { best: state.best.map(|_| learner.clone()), learner }
    }

    fn restore(&mut self, snapshot: Snapshot<Self>) {
        let Snapshot { tensors, optimizer, state } = snapshot;
        self.learner = Some(tensors.learner);
        self.best = state.best.zip(tensors.best);
        self.optimizer = self.optimizer.clone().load_record(optimizer);
    }

    fn finish(self, _: &[ToyEpoch], go_on: &mut GoOnPart<'_>) -> Result<Option<f64>, NotFinite> {
        if let Some(interrupter) = &self.data.stop_in_evaluation {
            interrupter.stop(None);
        }
        let progress = EvaluationProgress { done: 1, total: 1, measured: None };
        if !go_on("the best", progress) {
            return Ok(None);
        }
        let (_, best) = self.best.expect("an epoch is done");
        Ok(Some(best.linear.weight.val().into_scalar::<f64>()))
    }
}

/// The gradients, and their norm.
fn norm_of(gradients: GradientsParams, learner: &ToyLearner) -> (GradientsParams, Tensor<1>) {
    let weight = gradients.get::<2>(learner.linear.weight.id).expect("it has a gradient");
    (gradients, weight.square().sum().sqrt())
}

// Runs --------------------------------------------------------------------------------------------

const RECIPE: ToyRecipe = ToyRecipe { epochs: 3, steps: 10, learning_rate: 0.2, milliseconds: 0 };

type ToyRecord = RecordOf<Toy>;

fn request(recipe: &ToyRecipe, run_dir: &Path) -> RunRequest<ToyRecipe> {
    let name: DeviceName = "flex".parse().unwrap();
    let id =
        RunId { table: "tests".to_owned(), row: "toy".to_owned(), scale: Scale::Demo, seed: 7 };
    let renderer = Box::new(SilentRenderer::default());
    RunRequest {
        recipe: recipe.clone(),
        id,
        place: Place {
            devices: Devices::open(&[name]).unwrap(),
            kernels: Kernels::Fused,
            store: Store::locate(None),
        },
        control: Control::new(run_dir.to_owned(), renderer, Interrupter::new()),
    }
}

/// The run in `run_dir` from where it is to its end.
fn finish(recipe: &ToyRecipe, run_dir: &Path) -> ToyRecord {
    finished(run::<Toy>(request(recipe, run_dir)).unwrap())
}

fn finished(outcome: Outcome<ToyRecord>) -> ToyRecord {
    match outcome {
        Outcome::Finished(record) => *record,
        Outcome::Interrupted { .. } => panic!("nobody asked it to stop"),
    }
}

/// The run in `run_dir`, stopped before this step.
fn stop_before(step: u64, run_dir: &Path) -> Outcome<ToyRecord> {
    let request = request(&RECIPE, run_dir);
    let stop_before = Some((step, request.control.interrupter.clone()));
    run_on::<Toy>(ToyData { stop_before, ..ToyData::default() }, request).unwrap()
}

fn refusal(request: RunRequest<ToyRecipe>) -> TrainError {
    run::<Toy>(request).map(|_| "it was run").unwrap_err()
}

fn newest(run_dir: &Path) -> Option<String> {
    let newest = CheckpointFolder::new(run_dir).newest().unwrap()?;
    Some(newest.file_name().unwrap().to_string_lossy().into_owned())
}

/// What two runs that are the same must agree in, to the bit.
fn numbers(record: &ToyRecord) -> (&[ToyEpoch], f64) {
    (&record.curve, record.result)
}

#[test]
fn a_toy_learns_its_line_and_leaves_a_record() {
    let _turn = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let record = finish(&RECIPE, folder.path());
    assert_eq!((record.row.as_str(), record.seed, record.num_params), ("toy", 7, 2));
    assert_eq!(record.curve.len(), 3);
    assert!(record.curve[2].valid_loss < 0.1 * record.curve[0].train_loss, "{record:?}");
    assert_eq!((record.provenance.device.as_str(), record.provenance.resumed), ("flex", 0));
    assert_eq!(newest(folder.path()).as_deref(), Some("e00003-w000000000"));
}

#[test]
fn stopped_before_any_step_it_ends_with_the_same_bits() {
    let _turn = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let whole = finish(&RECIPE, &folder.path().join("whole"));
    let run_dir = folder.path().join("stopped");
    for step in [1, 4, 10, 11, 19, 30] {
        let outcome = stop_before(step, &run_dir);
        assert!(matches!(outcome, Outcome::Interrupted { checkpoint: Some(_) }), "{step}");
    }
    let record = finish(&RECIPE, &run_dir);
    assert_eq!(numbers(&record), numbers(&whole));
    assert_eq!(record.provenance.resumed, 6);
}

/// Also those from before a stop, and after a resume without the option only the newest.
#[test]
fn kept_epochs_are_all_there() {
    let _turn = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let names = |run_dir: &Path| -> Vec<String> {
        let ends = CheckpointFolder::new(run_dir).epoch_ends().unwrap();
        ends.iter().map(|it| it.file_name().unwrap().to_string_lossy().into_owned()).collect()
    };
    let run_dir = folder.path().join("kept");
    let keep = |stop_before: Option<u64>| {
        let mut request = request(&RECIPE, &run_dir);
        request.control.keep_epochs = true;
        request.control.checkpoint_interval = Duration::ZERO;
        let stop_before = stop_before.map(|step| (step, request.control.interrupter.clone()));
        run_on::<Toy>(ToyData { stop_before, ..ToyData::default() }, request).unwrap()
    };
    assert!(matches!(keep(Some(13)), Outcome::Interrupted { .. }));
    assert_eq!(names(&run_dir), ["e00001-w000000000"]);
    let kept = finished(keep(None));
    let all = ["e00001-w000000000", "e00002-w000000000", "e00003-w000000000"];
    assert_eq!(names(&run_dir), all);

    let plain = folder.path().join("plain");
    assert_eq!(numbers(&finish(&RECIPE, &plain)), numbers(&kept));
    assert_eq!(names(&plain), all[1..]);
}

/// Checksums that lost the last line would otherwise resume with an optimizer that remembers
/// nothing.
#[test]
fn checksums_without_the_optimizer_are_refused() {
    let _turn = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    stop_before(4, folder.path());
    let sums = CheckpointFolder::new(folder.path()).newest().unwrap().unwrap().join("SHA256SUMS");
    let text = fs::read_to_string(&sums).unwrap();
    let kept: Vec<_> = text.lines().filter(|line| !line.ends_with("optimizer.bpk")).collect();
    assert!(kept.len() < text.lines().count(), "{text}");
    fs::write(&sums, kept.join("\n")).unwrap();

    let err = refusal(request(&RECIPE, folder.path())).to_string();
    assert!(err.contains("it does not list optimizer.bpk"), "{err}");
}

/// The other half of the next test: what is killed there.
#[test]
#[ignore = "it is started by the test that kills it"]
fn child() {
    let Ok(run_dir) = std::env::var("ANP_TOY_RUN") else { return };
    let mut request = request(&SLOW, Path::new(&run_dir));
    request.control.checkpoint_interval = Duration::ZERO;
    run::<Toy>(request).unwrap();
}

const SLOW: ToyRecipe = ToyRecipe { milliseconds: 3, ..RECIPE };

fn start_child(run_dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "engine::tests::child"])
        .env("ANP_TOY_RUN", run_dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Each life ends a moment after it has saved, now and then while it saves again.
#[test]
fn killed_again_and_again_it_ends_with_the_same_bits() {
    let _turn = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let whole = finish(&SLOW, &folder.path().join("whole"));
    let run_dir = folder.path().join("killed");
    let mut places = Vec::new();
    for life in 0..6 {
        let mut child = start_child(&run_dir);
        let before = newest(&run_dir);
        while newest(&run_dir) == before && child.try_wait().unwrap().is_none() {
            sleep(Duration::from_micros(200));
        }
        sleep(Duration::from_millis(life));
        child.kill().unwrap();
        child.wait().unwrap();
        places.extend(newest(&run_dir));
    }
    assert!(places.iter().any(|place| !place.ends_with("w000000000")), "{places:?}");
    let record = finish(&SLOW, &run_dir);
    assert_eq!(numbers(&record), numbers(&whole), "killed at {places:?}");
    assert!(record.provenance.resumed > 0, "{places:?}");
}

#[test]
fn another_recipe_seed_or_device_is_refused() {
    let _turn = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    stop_before(5, folder.path());
    let begun = || request(&RECIPE, folder.path());

    let mut other = begun();
    other.recipe.learning_rate = 0.1;
    assert!(matches!(refusal(other), TrainError::OtherRun { .. }));
    let mut other = begun();
    other.id.seed = 8;
    assert!(matches!(refusal(other), TrainError::OtherRun { .. }));
    let mut other = begun();
    other.place.kernels = Kernels::Plain;
    let message = refusal(other).to_string();
    assert!(message.contains("was begun on flex --kernels fused"), "{message}");
    let mut other = begun();
    let (name, device) = other.place.devices.named()[0].clone();
    other.place.devices = Devices::new(vec![(name, device.clone()), (name, device)]);
    let message = refusal(other).to_string();
    assert!(message.contains("resume with --device flex "), "{message}");
}

#[test]
fn a_run_that_another_process_works_on_is_refused() {
    let _turn = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let claimed = run_folder::RunFolder::claim(folder.path(), false).unwrap();
    assert!(matches!(refusal(request(&RECIPE, folder.path())), TrainError::Locked { .. }));
    drop(claimed);
    finish(&RECIPE, folder.path());
}

#[test]
fn a_loss_that_is_not_finite_is_named_with_its_place() {
    let _turn = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let recipe = ToyRecipe { learning_rate: 1e20, ..RECIPE };
    let message = refusal(request(&recipe, folder.path())).to_string();
    // The first step gives a number; the second is squared beyond single precision.
    let place = "the loss became inf in epoch 1, draw 2 (step 2)";
    assert!(message.starts_with(place), "{message}");
    assert!(message.ends_with("no checkpoint from before; try a smaller step"), "{message}");
    assert_eq!(newest(folder.path()), None, "nothing is saved that is not read");
}

#[test]
fn what_is_done_is_run_again_only_if_asked() {
    let _turn = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let first = finish(&RECIPE, folder.path());
    let again = |again| {
        let mut request = request(&RECIPE, folder.path());
        request.control.again = again;
        finished(run::<Toy>(request).unwrap())
    };
    let (same, anew) = (again(false), again(true));
    assert_eq!((same.provenance.resumed, anew.provenance.resumed), (1, 0));
    for record in [&same, &anew] {
        assert_eq!(numbers(record), numbers(&first));
    }

    // One that was stopped goes on all the same.
    let stopped = folder.path().join("stopped");
    stop_before(15, &stopped);
    let mut request = request(&RECIPE, &stopped);
    request.control.again = true;
    assert_eq!(finished(run::<Toy>(request).unwrap()).provenance.resumed, 1);
}

#[test]
fn stopped_in_the_last_evaluation_it_does_not_train_again() {
    let _turn = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let request = request(&RECIPE, folder.path());
    let stop_in_evaluation = Some(request.control.interrupter.clone());
    let data = ToyData { stop_in_evaluation, ..ToyData::default() };
    let Outcome::Interrupted { checkpoint: Some(checkpoint) } =
        run_on::<Toy>(data, request).unwrap()
    else {
        panic!("it was asked to stop")
    };
    assert!(checkpoint.ends_with("e00003-w000000000"), "{}", checkpoint.display());
    assert!(StoredCheckpoint::<Toy>::open(&checkpoint).unwrap().run.ended);
    assert_eq!(finish(&RECIPE, folder.path()).provenance.resumed, 1);
}

#[test]
fn a_checkpoint_of_another_kind_of_run_is_refused() {
    let _turn = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    stop_before(5, folder.path());
    let err = StoredCheckpoint::<crate::text::TextTask>::open(folder.path()).unwrap_err();
    assert!(matches!(err, CheckpointError::OtherKind { .. }), "{err}");
    assert!(err.to_string().ends_with("belongs to a run on toy, not on text"), "{err}");
}
