use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anp_models::Kernels;
use burn::train::Interrupter;
use burn::train::renderer::MetricsRenderer;

use super::checkpoint::StoredCheckpoint;
use super::error::TrainError;
use super::position::{Position, RunState};
use super::record::{RunRecord, SCHEMA_VERSION};
use super::run_folder::RunFolder;
use super::scalars::EpochSums;
use super::strategy::{Launch, Run, Stopped, not_finite, train};
use super::task::{Context, EvaluationProgress, Task};
use crate::data::Store;
use crate::device::Devices;
use crate::provenance::{Course, Provenance};
use crate::random::{Purpose, seed};
use crate::recipe::hash::content_hash;
use crate::recipe::scale::Scale;

/// A run to make.
pub struct RunRequest<R> {
    /// What to do.
    pub recipe: R,
    /// Which run it is.
    pub id: RunId,
    /// Where it runs.
    pub place: Place,
    /// How it is saved, shown and interrupted.
    pub control: Control,
}

/// Which run it is, for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunId {
    /// Table of the row.
    pub table: String,
    /// Row.
    pub row: String,
    /// Scale of the recipe.
    pub scale: Scale,
    /// Seed of all random draws.
    pub seed: u64,
}

/// Where a run runs.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where to compute.
    pub devices: Devices,
    /// How the model computes.
    pub kernels: Kernels,
    /// Where the data sets are.
    pub store: Store,
}

/// How a run is saved, shown and interrupted.
pub struct Control {
    /// Folder of the run's checkpoints.
    pub run_dir: PathBuf,
    /// Time between checkpoints; one is also written after each epoch.
    pub checkpoint_interval: Duration,
    /// Whether to keep the checkpoint of every epoch, not only the newest ones.
    pub keep_epochs: bool,
    /// Stops the run at the next step.
    pub interrupter: Interrupter,
    /// Whether to start again if the run is already complete. An interrupted run resumes anyway.
    pub again: bool,
    /// Shows the progress of training.
    pub renderer: Box<dyn MetricsRenderer>,
    /// Called with the part and the progress of the last evaluation.
    pub on_evaluation: OnEvaluation,
}

/// Called with the part and the progress of an evaluation.
pub type OnEvaluation = Box<dyn FnMut(&'static str, EvaluationProgress)>;

impl Control {
    /// Save only after each epoch, and do not show the last evaluation.
    pub fn new(
        run_dir: PathBuf,
        renderer: Box<dyn MetricsRenderer>,
        interrupter: Interrupter,
    ) -> Self {
        Self {
            run_dir,
            checkpoint_interval: Duration::MAX,
            keep_epochs: false,
            interrupter,
            again: false,
            renderer,
            on_evaluation: Box::new(|_, _| ()),
        }
    }
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome<R> {
    /// It is complete.
    Finished(Box<R>),
    /// It was interrupted and can resume.
    Interrupted {
        /// Where it resumes; `None` if it was interrupted before the first checkpoint.
        checkpoint: Option<PathBuf>,
    },
}

impl<R> Outcome<R> {
    /// The same with another record.
    pub fn map<S>(self, record: impl FnOnce(R) -> S) -> Outcome<S> {
        match self {
            Self::Finished(finished) => Outcome::Finished(Box::new(record(*finished))),
            Self::Interrupted { checkpoint } => Outcome::Interrupted { checkpoint },
        }
    }
}

/// The record of a run of kind `T`.
pub type RecordOf<T> = RunRecord<<T as Task>::Recipe, <T as Task>::Epoch, <T as Task>::Result>;

/// Train as the recipe says, or resume the run in the same folder, then evaluate.
///
/// # Errors
///
/// See [`TrainError`]. Earlier checkpoints are kept.
pub fn run<T: Task>(request: RunRequest<T::Recipe>) -> Result<Outcome<RecordOf<T>>, TrainError> {
    T::check(&request.recipe, &request.place.devices)?;
    let data = T::load(&request.recipe, &request.place.store)?;
    run_on::<T>(data, request)
}

/// [`run`] on data that is not in the store.
///
/// # Errors
///
/// See [`TrainError`]. Earlier checkpoints are kept.
pub fn run_on<T: Task>(
    data: T::Data,
    request: RunRequest<T::Recipe>,
) -> Result<Outcome<RecordOf<T>>, TrainError> {
    let RunRequest { recipe, id, place, control } = request;
    let Control {
        run_dir,
        checkpoint_interval,
        keep_epochs,
        interrupter,
        again,
        renderer,
        on_evaluation,
    } = control;
    T::check(&recipe, &place.devices)?;
    let folder = RunFolder::claim(&run_dir, keep_epochs)?;
    let checkpoints = folder.checkpoints.clone();
    if again
        && let Some(path) = checkpoints.newest()?
        && StoredCheckpoint::<T>::open(&path)?.run.ended
    {
        checkpoints.clear()?;
    }

    let devices = place.devices.named().iter().map(|(_, device)| device.clone().autodiff());
    let context = Context { devices: devices.collect(), kernels: place.kernels, seed: id.seed };
    context.devices[0].seed(seed(id.seed, Purpose::Init, 0));
    let mut task = T::new(recipe.clone(), data, context);
    let mut state = RunState {
        recipe_hash: content_hash(&recipe),
        seed: id.seed,
        position: Position::START,
        sums: EpochSums::default(),
        curve: Vec::new(),
        ended: false,
        course: Course::begin(&place.devices, place.kernels),
    };
    if let Some(path) = checkpoints.newest()? {
        state = resume(&mut task, &state, StoredCheckpoint::open(&path)?, &run_dir)?;
    }

    let mut run = Run { recipe, task, state, checkpoints };
    if !run.state.ended {
        let label = format!("{} {}, seed {}", id.table, id.row, id.seed);
        let interrupter = interrupter.clone();
        run = match train(run, Launch { label, renderer, interrupter, checkpoint_interval }) {
            Ok(run) => run,
            Err(Stopped::Interrupted { checkpoint }) => {
                return Ok(Outcome::Interrupted { checkpoint: Some(checkpoint) });
            }
            Err(Stopped::Failed(err)) => return Err(err),
        };
    }

    finish(run, id, &interrupter, on_evaluation)
}

/// Measure a trained run and make its record.
fn finish<T: Task>(
    run: Run<T>,
    id: RunId,
    interrupter: &Interrupter,
    mut on_evaluation: OnEvaluation,
) -> Result<Outcome<RecordOf<T>>, TrainError> {
    let Run { recipe, task, state, checkpoints } = run;
    let RunState { recipe_hash, position, curve, mut course, .. } = state;
    let started = Instant::now();
    let (num_params, penalties) = (task.num_params(), task.penalties());
    let last = Position { epoch: curve.len(), ..position };
    let learning_rate = task.learning_rate(last.epoch);
    let mut go_on = |part, progress| {
        on_evaluation(part, progress);
        !interrupter.should_stop()
    };
    let result = task
        .finish(&curve, &mut go_on)
        .map_err(|err| not_finite::<T>(err, last, learning_rate, &checkpoints))?;
    let Some(result) = result else {
        return Ok(Outcome::Interrupted { checkpoint: checkpoints.newest()? });
    };
    course.wall_seconds += started.elapsed().as_secs_f64();
    Ok(Outcome::Finished(Box::new(RunRecord {
        schema_version: SCHEMA_VERSION,
        table: id.table,
        row: id.row,
        scale: id.scale,
        seed: id.seed,
        recipe,
        recipe_hash,
        provenance: Provenance::of(course),
        num_params,
        penalties,
        curve,
        result,
    })))
}

/// Restore `task` from a checkpoint. `begins` is the state of a new run, which must match.
fn resume<T: Task>(
    task: &mut T,
    begins: &RunState<T::Epoch>,
    stored: StoredCheckpoint<T>,
    run_dir: &Path,
) -> Result<RunState<T::Epoch>, TrainError> {
    let path = run_dir.to_owned();
    let found = &stored.run;
    if (&found.recipe_hash, found.seed) != (&begins.recipe_hash, begins.seed) {
        return Err(TrainError::OtherRun { path });
    }
    let Course { device, kernels, .. } = &found.course;
    if (device, kernels) != (&begins.course.device, &begins.course.kernels) {
        let begun_on = format!("{device} --kernels {kernels}");
        return Err(TrainError::OtherDevice { path, begun_on });
    }
    let mut state = found.clone();
    state.course = state.course.resume(&begins.course);
    let template = task.template(&stored.state);
    task.restore(stored.load(template)?);
    Ok(state)
}
