//! One run, as `anp reproduce` and `anp train` make it.

use std::path::Path;

use super::display;
use super::session::{CheckpointArgs, Session};
use crate::engine::{Outcome, RunRequest, TrainError, run_any};
use crate::recipe::Scale;
use crate::record::AnyRecord;
use crate::reproduce::PlannedRun;

/// Which recipe of a row, and what to change in it.
#[derive(Debug, clap::Args)]
pub(super) struct RecipeArgs {
    /// How large the runs are; only `paper` is compared with the paper
    #[arg(long, value_enum, default_value_t = Scale::Demo)]
    pub scale: Scale,

    /// Change a key of every recipe, as in training.max_epochs=3; may be repeated
    ///
    /// KEY is a path with dots, with numbers for positions in a list (penalty.0.eta=1e-3). VALUE is
    /// TOML; words need no quotes.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}

/// Make a run, or resume it, in its folder in `runs_dir`; `again` makes a finished one again.
///
/// # Errors
///
/// See [`TrainError`].
pub(super) fn make(
    run: &PlannedRun,
    session: &Session,
    runs_dir: &Path,
    checkpoints: CheckpointArgs,
    again: bool,
    quiet: bool,
) -> Result<Outcome<AnyRecord>, TrainError> {
    run_any(RunRequest {
        table: run.table.clone(),
        row: run.row.clone(),
        scale: run.scale,
        seed: run.seed,
        recipe: run.recipe.clone(),
        device: session.device.clone(),
        other_devices: session.other_devices.clone(),
        device_name: session.device_name.clone(),
        kernels: session.kernels,
        store: session.store.clone(),
        run_dir: runs_dir.join(run.name()),
        again,
        checkpoint_interval: checkpoints.checkpoint_every,
        interrupter: session.interrupter.clone(),
        renderer: display::renderer(quiet, &session.interrupter),
        on_evaluation: display::evaluation(quiet),
    })
}
