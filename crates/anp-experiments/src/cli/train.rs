//! `anp train`: one run of any row file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;

use super::globals::Globals;
use super::output::{note, print};
use super::recipe::RecipeArgs;
use super::reproduce::how_to_go_on;
use super::session::{CheckpointArgs, DeviceArgs, Session};
use super::{display, interrupt};
use crate::engine::{Outcome, RunId, RunRequest};
use crate::experiments::{Row, Runs, Sweep};
use crate::recipe::content_hash;
use crate::record::{Record, VibScore, run_name};
use crate::runs;

/// Arguments of `anp train`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anp train experiments/table2/lstm_anp.toml --seed 7
  anp train experiments/table2/lstm_anp.toml --scale small
  anp train my/wider.toml --scale small --set training.max_epochs=2 --device vulkan:0

FILE is a row file as in `experiments`. One of your own extends a row and says what differs:

  name = \"wider\"
  ours = true
  extends = \"table2/lstm_anp\"
  base.model.lstm = { d_embed = 200, d_hidden = 200 }

The record and the checkpoints go to the folders `records` and `runs` in the current folder, unless
you name others. If the run is stopped, rerun the command to resume it.")]
pub(super) struct TrainArgs {
    /// A row file
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,

    #[command(flatten)]
    recipe: RecipeArgs,

    /// Seed of everything random [default: the recipe's first]
    #[arg(long)]
    seed: Option<u64>,

    #[command(flatten)]
    device: DeviceArgs,

    /// Folder for the record
    #[arg(
        long, value_name = "DIR", default_value = "records", value_hint = clap::ValueHint::DirPath
    )]
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
/// If the file, the device or the data is missing or wrong, the run fails, or its record cannot be
/// written.
pub(super) fn run(args: &TrainArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let row = Row::load(&args.file)?;
    let scale = args.recipe.scale;
    let Some(Runs { recipe, seeds, sweep }) = row.runs(scale, &args.recipe.overrides)? else {
        let scales: Vec<_> = row.scales().map(|scale| format!("--scale {scale}")).collect();
        bail!(
            "{} has no recipe at {scale} scale; give {}",
            args.file.display(),
            if scales.is_empty() { "it one".to_owned() } else { scales.join(" or ") },
        );
    };
    if let Some(Sweep { key, candidates }) = sweep {
        let values: Vec<_> = candidates.iter().map(|it| it.value.to_string()).collect();
        bail!(
            "{} has a sweep over {key} ({}); choose a value, for example --set {key}={}, or let \
             `anp reproduce` choose",
            args.file.display(),
            values.join(", "),
            values[0],
        );
    }
    let file = args.file.canonicalize().unwrap_or_default();
    let folder = file.parent().and_then(Path::file_name).unwrap_or_default();
    let (table, seed) = (folder.to_string_lossy().into_owned(), args.seed.unwrap_or(seeds[0]));
    let name = run_name(&table, &row.id, scale, seed, &content_hash(&recipe));

    let session = Session::for_records(&args.records, &args.device, globals)?;
    let outcome = runs::run(RunRequest {
        recipe,
        id: RunId { table, row: row.id, scale, seed },
        place: session.place.clone(),
        control: session.control(args.runs.join(name), args.checkpoints, false),
    })?;
    match outcome {
        Outcome::Finished(record) => {
            let path = record.save(&args.records)?;
            let result = match *record {
                Record::Text(record) => format!(
                    "validation perplexity {:.2} (epoch {}), test perplexity {:.2}",
                    record.result.valid.perplexity,
                    record.result.best_epoch,
                    record.result.test.perplexity,
                ),
                Record::Image(record) => format!(
                    "test accuracy {:.2} % after the last epoch, \
                     {:.2} % after epoch {}, the best on test",
                    record.result.test.accuracy,
                    record.result.best.accuracy,
                    record.result.best_epoch,
                ),
                Record::Vib(record) => {
                    let VibScore { one_sample, averaged, .. } = &record.result.test;
                    format!(
                        "test error {:.2} % ({:.2} % from one sample), {}",
                        averaged.error(),
                        one_sample.error(),
                        display::information(&record.result.test),
                    )
                }
            };
            print(format!("{result}\nrecord: {}\n", path.display()))?;
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Interrupted { checkpoint } => {
            note(how_to_go_on(checkpoint.as_deref(), 1, false));
            Ok(interrupt::exit_code())
        }
    }
}
