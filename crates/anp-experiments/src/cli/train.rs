//! `anp train`: one run of a row file of one's own.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::reproduce::how_to_go_on;
use super::session::{CheckpointArgs, DeviceArgs, Session};
use super::{display, interrupt};
use crate::atomic;
use crate::engine::{Outcome, RunRequest, run_any};
use crate::experiments::Row;
use crate::recipe::Scale;
use crate::record::{AnyRecord, run_name};

/// Arguments of `anp train`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anp train experiments/table2/lstm_anp.toml --scale demo --seed 7
  anp train my/wide.toml --scale small --set training.max_epochs=2 --device vulkan:0

FILE is a row file as in `experiments`: copy one and change it. The record and the checkpoints go to the
folders `records` and `runs` here, unless told otherwise; a run that is stopped goes on with the same command.")]
pub(super) struct TrainArgs {
    /// A row file
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,

    /// Which of the file's recipes
    #[arg(long, value_enum, default_value_t = Scale::Demo)]
    scale: Scale,

    /// Seed of everything random [default: the recipe's first]
    #[arg(long)]
    seed: Option<u64>,

    /// Change a key of the recipe, as in training.max_epochs=3; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,

    #[command(flatten)]
    device: DeviceArgs,

    /// Folder for the record
    #[arg(long, value_name = "DIR", default_value = "records", value_hint = clap::ValueHint::DirPath)]
    records: PathBuf,

    /// Folder for checkpoints
    #[arg(long, value_name = "DIR", default_value = "runs", value_hint = clap::ValueHint::DirPath)]
    runs: PathBuf,

    #[command(flatten)]
    checkpoints: CheckpointArgs,
}

/// Run `anp train`.
///
/// # Errors
///
/// If the file, the device or the data is not there or not right, the run fails, or its record cannot be
/// written.
pub(super) fn run(
    args: &TrainArgs,
    data_dir: Option<&Path>,
    quiet: bool,
) -> anyhow::Result<ExitCode> {
    let row = Row::load(&args.file)?;
    let Some(section) = row.section(args.scale, &args.overrides)? else {
        bail!(
            "{} has no recipe at {} scale; it has {}",
            args.file.display(),
            args.scale,
            row.file.scales().map(|scale| scale.to_string()).collect::<Vec<_>>().join(", ")
        );
    };
    let recipe = section.recipe();
    let seed = args.seed.or(section.seeds().first().copied()).unwrap_or(1);
    let folder =
        args.file.canonicalize().ok().and_then(|path| Some(path.parent()?.file_name()?.to_owned()));
    let table = folder.unwrap_or_default().to_string_lossy().into_owned();
    let name = run_name(&table, &row.id, args.scale, seed, &recipe.content_hash());

    atomic::check_writable(&args.records)
        .with_context(|| format!("cannot write records to {}", args.records.display()))?;
    let session = Session::open(&args.device, data_dir, quiet)?;
    let outcome = run_any(RunRequest {
        table,
        row: row.id.clone(),
        scale: args.scale,
        seed,
        recipe,
        device: session.device.clone(),
        other_devices: session.other_devices.clone(),
        device_name: session.device_name.clone(),
        kernels: session.kernels,
        store: session.store.clone(),
        run_dir: args.runs.join(name),
        again: false,
        checkpoint_interval: args.checkpoints.checkpoint_every,
        renderer: display::renderer(quiet, &session.interrupter),
        on_evaluation: display::evaluation(quiet),
        interrupter: session.interrupter,
    })?;
    match outcome {
        Outcome::Finished(record) => {
            let path = record.save(&args.records)?;
            let result = match *record {
                AnyRecord::Text(record) => format!(
                    "validation perplexity {:.2} (epoch {}), test perplexity {:.2}",
                    record.result.valid.perplexity,
                    record.result.best_epoch,
                    record.result.test.perplexity,
                ),
                AnyRecord::Image(record) => format!(
                    "test accuracy {:.2} % after the last epoch, {:.2} % after epoch {}, the best on test",
                    record.result.test.accuracy,
                    record.result.best.accuracy,
                    record.result.best_epoch,
                ),
            };
            super::print(format!("{result}\nrecord: {}\n", path.display()))?;
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Interrupted { checkpoint } => {
            super::note(how_to_go_on(checkpoint.as_deref(), 1, false));
            Ok(interrupt::exit_code())
        }
    }
}
