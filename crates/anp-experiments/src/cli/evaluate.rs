//! `anp evaluate`: the scores of a checkpoint's best parameters.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use comfy_table::presets::NOTHING;

use super::globals::Globals;
use super::output::{print, table};
use super::session::{DeviceArgs, Session};
use super::{display, interrupt};
use crate::engine::{Checkpoint, Task};
use crate::image::CheckpointScore;
use crate::record::{Prediction, Score};
use crate::runs::{self, Scores};
use crate::text::evaluate::MonteCarlo;
use crate::text::{CheckpointScores, TextTask};
use crate::vib::VibCheckpointScore;

/// Arguments of `anp evaluate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anp evaluate runs/table2-lstm_anp-demo-s1-38e30692
  anp evaluate runs/table2-lstm_anp-demo-s1-38e30692/checkpoints/e00002-w000000160 --format json
  anp evaluate my-run --device cuda:0
  anp evaluate my-run --mc-dropout 50

Repeats the last evaluation of a run: no dropout, the parameters with the best validation loss
(those of the checkpoint itself before the end of the first epoch), validation cut as in training
and as one stream, test as one stream. Of a run on images: the test images, with the parameters of
the checkpoint itself, or with their average if there is a bottleneck.

With --mc-dropout the same texts are scored again by Monte-Carlo dropout (Gal & Ghahramani, 2016):
the masks of training stay on, and the probabilities of so many passes are averaged.")]
pub(super) struct EvaluateArgs {
    /// Folder of a run, whose newest checkpoint is taken, or of one checkpoint
    #[arg(value_hint = clap::ValueHint::DirPath)]
    checkpoint: PathBuf,

    /// Average the probabilities of N passes with dropout, too
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    mc_dropout: Option<u16>,

    /// Seed of the masks of --mc-dropout; the run's own if not given
    #[arg(long, value_name = "SEED", requires = "mc_dropout")]
    mc_seed: Option<u64>,

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

/// Run `anp evaluate`.
///
/// # Errors
///
/// If the checkpoint, the device or the data is not there or not right.
pub(super) fn run(args: &EvaluateArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    if args.mc_dropout.is_some() && checkpoint.kind() != TextTask::KIND {
        bail!(
            "--mc-dropout is for language models; {} is a run on images",
            args.checkpoint.display()
        );
    }
    let session = Session::on_one_device(&args.device, globals)?;
    let mut show = display::evaluation(globals.quiet);
    let mut go_on = |part, progress| {
        show(part, progress);
        !session.interrupter.should_stop()
    };
    let monte_carlo = |run_seed| {
        let passes = usize::from(args.mc_dropout?);
        Some(MonteCarlo { passes, seed: args.mc_seed.unwrap_or(run_seed) })
    };
    let scores = runs::evaluate(checkpoint, &session.place, monte_carlo, &mut go_on)?;
    let Some(scores) = scores else { return Ok(interrupt::exit_code()) };
    print(match (args.format, &scores) {
        (Format::Json, scores) => serde_json::to_string_pretty(scores)? + "\n",
        (Format::Text, Scores::Text(scores)) => text(scores),
        (Format::Text, Scores::Image(CheckpointScore { checkpoint, epochs, test })) => format!(
            "{}: parameters after {epochs} epochs\n\
             {} test images: nll {:.4} nats, accuracy {:.2} %\n",
            checkpoint.display(),
            test.images,
            test.nll,
            test.accuracy
        ),
        (Format::Text, Scores::Vib(scores)) => vib(scores),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn vib(scores: &VibCheckpointScore) -> String {
    let VibCheckpointScore { checkpoint, epochs, samples, test } = scores;
    let row = |name: String, it: &Prediction| {
        [name, format!("{:.4}", it.nll), format!("{:.2}", it.error())]
    };
    let rows = [
        row("mean of the code".to_owned(), &test.mean_code),
        row("one sample".to_owned(), &test.one_sample),
        row(format!("{samples} samples"), &test.averaged),
    ];
    let header = vec!["prediction from", "nll, nats", "error, %"];
    let lines = table(NOTHING, header, 1..3, rows.map(Vec::from));
    format!(
        "{}: averaged parameters after {epochs} epochs, {} test images\n{lines}{}\n",
        checkpoint.display(),
        test.images,
        display::information(test),
    )
}

fn text(scores: &CheckpointScores) -> String {
    let numbers = |score: &Score| [format!("{:.4}", score.nll), format!("{:.2}", score.perplexity)];
    let mut header = vec!["text", "tokens", "nll, nats", "perplexity"];
    if scores.mc_dropout.is_some() {
        header.extend(["MC nll, nats", "MC perplexity"]);
    }
    let names = ["validation, as in training", "validation, one stream", "test, one stream"];
    let ordinary = names.into_iter().zip(scores.ordinary.all()).enumerate();
    let rows = ordinary.map(|(index, (name, score))| {
        let mut row = vec![name.to_owned(), score.tokens.to_string()];
        row.extend(numbers(&score));
        row.extend(scores.mc_dropout.iter().flat_map(|mc| numbers(&mc.scores.all()[index])));
        row
    });
    let lines = table(NOTHING, header, 1..6, rows);
    let parameters = match scores.best_epoch {
        Some(epoch) => format!("parameters of epoch {epoch}, the best on validation"),
        None => "parameters of an unfinished first epoch".to_owned(),
    };
    let monte_carlo = scores.mc_dropout.as_ref().map_or(String::new(), |mc| {
        let MonteCarlo { passes, seed } = mc.monte_carlo;
        format!("MC: mean probability of {passes} passes with dropout, seed {seed}\n")
    });
    format!("{}: {parameters}\n{lines}{monte_carlo}", scores.checkpoint.display())
}
