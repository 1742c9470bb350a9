//! `anp evaluate`: the scores of a checkpoint's best parameters.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use burn::module::Module;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::session::{DeviceArgs, Session};
use super::{display, interrupt};
use crate::batches::{TokenStreams, WindowLoader};
use crate::evaluate::evaluate;
use crate::record::Score;
use crate::train::{LmLearner, Objective, StoredCheckpoint, Texts, build_learner};

/// Arguments of `anp evaluate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anp evaluate runs/table2-lstm_anp-demo-s1-38e30692
  anp evaluate runs/table2-lstm_anp-demo-s1-38e30692/checkpoints/e00002-w000000160 --format json
  anp evaluate my-run --device cuda:0

Repeats the last evaluation of a run: no dropout, the parameters with the best validation loss (those of
the checkpoint itself before the end of the first epoch), validation cut as in training and as one stream,
test as one stream.")]
pub(super) struct EvaluateArgs {
    /// Folder of a run, whose newest checkpoint is taken, or of one checkpoint
    #[arg(value_hint = clap::ValueHint::DirPath)]
    checkpoint: PathBuf,

    #[command(flatten)]
    device: DeviceArgs,

    /// How the scores are printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// How the scores are printed.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
}

/// The scores of a checkpoint.
#[derive(Debug, Serialize)]
struct Scores {
    /// The checkpoint.
    checkpoint: PathBuf,
    /// Epoch of the parameters; `None` if they are those of an unfinished first epoch.
    best_epoch: Option<usize>,
    /// Validation in the training batch size, tail dropped.
    valid: Score,
    /// Validation as one stream.
    valid_single_stream: Score,
    /// Test as one stream.
    test: Score,
}

/// Run `anp evaluate`.
///
/// # Errors
///
/// If the checkpoint, the device or the data is not there or not right.
pub(super) fn run(
    args: &EvaluateArgs,
    data_dir: Option<&Path>,
    quiet: bool,
) -> anyhow::Result<ExitCode> {
    let stored = StoredCheckpoint::open(&args.checkpoint)?;
    let session = Session::open(args.device, data_dir, quiet)?;
    let recipe = stored.recipe().clone();
    let corpus = session.store.load(&recipe.data.corpus)?;
    let texts = Texts::cut(&corpus, &recipe)?;

    let path = stored.path().to_owned();
    let best_epoch = stored.trainer().schedule.best_epoch();
    let template = build_learner(&recipe, stored.vocab_size(), session.kernels, &session.device);
    let snapshot = stored.load(&template.lm)?;
    let lm = snapshot.best.unwrap_or(snapshot.model);
    let model = LmLearner { lm, objective: Objective::default() }.valid();

    let mut show = display::evaluation(quiet);
    let mut score = |part: &'static str, streams: &Arc<TokenStreams>| {
        let loader = WindowLoader::new(Arc::clone(streams), session.device.clone());
        evaluate(&model, &loader, |progress| {
            show(part, progress);
            !session.interrupter.should_stop()
        })
    };
    let scores = (|| -> Option<Scores> {
        Some(Scores {
            checkpoint: path,
            best_epoch,
            valid: score("validation", &texts.valid)?,
            valid_single_stream: score("validation, one stream", &texts.valid_single)?,
            test: score("test, one stream", &texts.test)?,
        })
    })();
    let Some(scores) = scores else { return Ok(interrupt::exit_code()) };
    match args.format {
        Format::Text => super::print(text(&scores))?,
        Format::Json => super::print(serde_json::to_string_pretty(&scores)? + "\n")?,
    }
    Ok(ExitCode::SUCCESS)
}

fn text(scores: &Scores) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).force_no_tty();
    table.set_header(["text", "tokens", "nll, nats", "perplexity"]);
    for (name, score) in [
        ("validation, as in training", scores.valid),
        ("validation, one stream", scores.valid_single_stream),
        ("test, one stream", scores.test),
    ] {
        table.add_row([
            name.to_owned(),
            score.tokens.to_string(),
            format!("{:.4}", score.nll),
            format!("{:.2}", score.perplexity),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let parameters = match scores.best_epoch {
        Some(epoch) => format!("parameters of epoch {epoch}, the best on validation"),
        None => "parameters of an unfinished first epoch".to_owned(),
    };
    let lines: String = table.lines().map(|line| format!("{}\n", line.trim())).collect();
    format!("{}: {parameters}\n{lines}", scores.checkpoint.display())
}
