//! `anp evaluate`: the scores of a checkpoint's best parameters.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use burn::module::Module;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::session::{DeviceArgs, Session};
use super::{display, interrupt};
use crate::engine::StoredCheckpoint;
use crate::image::{evaluate_checkpoint, is_checkpoint_of_images};
use crate::record::Score;
use crate::text::batches::{TokenStreams, WindowLoader};
use crate::text::evaluate::{EvaluationProgress, MonteCarlo, evaluate, evaluate_monte_carlo};
use crate::text::{LmLearner, Objective, Texts, build_learner};

/// Arguments of `anp evaluate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anp evaluate runs/table2-lstm_anp-demo-s1-38e30692
  anp evaluate runs/table2-lstm_anp-demo-s1-38e30692/checkpoints/e00002-w000000160 --format json
  anp evaluate my-run --device cuda:0
  anp evaluate my-run --mc-dropout 50

Repeats the last evaluation of a run: no dropout, the parameters with the best validation loss (those of
the checkpoint itself before the end of the first epoch), validation cut as in training and as one stream,
test as one stream. Of a run on images: the test images, with the parameters of the checkpoint itself.

With --mc-dropout the same texts are scored again by Monte-Carlo dropout (Gal & Ghahramani, 2016): the masks of training
stay on, and the probabilities of so many passes are averaged.")]
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

/// The scores of a checkpoint.
#[derive(Debug, Serialize)]
struct Scores {
    /// The checkpoint.
    checkpoint: PathBuf,
    /// Epoch of the parameters; `None` if they are those of an unfinished first epoch.
    best_epoch: Option<usize>,
    #[serde(flatten)]
    ordinary: TextScores,
    /// The same by Monte-Carlo dropout.
    #[serde(skip_serializing_if = "Option::is_none")]
    mc_dropout: Option<MonteCarloScores>,
}

/// The scores of each text.
#[derive(Debug, Serialize)]
struct TextScores {
    /// Validation in the training batch size, tail dropped.
    valid: Score,
    /// Validation as one stream.
    valid_single_stream: Score,
    /// Test as one stream.
    test: Score,
}

impl TextScores {
    /// Score each text of `texts`.
    fn of(
        texts: &Texts,
        mut score: impl FnMut(&'static str, &Arc<TokenStreams>) -> Option<Score>,
    ) -> Option<Self> {
        Some(Self {
            valid: score("validation", &texts.valid)?,
            valid_single_stream: score("validation, one stream", &texts.valid_single)?,
            test: score("test, one stream", &texts.test)?,
        })
    }

    fn all(&self) -> [Score; 3] {
        [self.valid, self.valid_single_stream, self.test]
    }
}

/// The scores of Monte-Carlo dropout, and what repeats them.
#[derive(Debug, Serialize)]
struct MonteCarloScores {
    /// Passes whose probabilities are averaged.
    passes: usize,
    /// Seed of their masks.
    seed: u64,
    #[serde(flatten)]
    scores: TextScores,
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
    if is_checkpoint_of_images(&args.checkpoint)? {
        if args.mc_dropout.is_some() {
            bail!(
                "--mc-dropout is for language models; {} is of images",
                args.checkpoint.display()
            );
        }
        return run_images(args, data_dir, quiet);
    }
    let stored = StoredCheckpoint::open(&args.checkpoint)?;
    let session = Session::on_one_device(&args.device, data_dir, quiet)?;
    let recipe = stored.recipe().clone();
    let corpus = session.store.load(&recipe.data.corpus)?;
    let texts = Texts::cut(&corpus, &recipe)?;

    let path = stored.path().to_owned();
    let best_epoch = stored.trainer().schedule.best_epoch();
    let run_seed = stored.trainer().seed;
    let template = build_learner(&recipe, stored.vocab_size(), session.kernels, &session.device);
    let snapshot = stored.load(&template.lm)?;
    let lm = snapshot.best.unwrap_or(snapshot.model);
    let model = LmLearner { lm, objective: Objective::default() }.valid();

    let mut show = display::evaluation(quiet);
    let mut go_on = |part, progress| {
        show(part, progress);
        !session.interrupter.should_stop()
    };
    let loader = |streams: &Arc<_>| WindowLoader::new(Arc::clone(streams), session.device.clone());
    let scores = (|| -> Option<Scores> {
        let ordinary = TextScores::of(&texts, |part, streams| {
            evaluate(&model, &loader(streams), |progress| go_on(part, progress))
        })?;
        let mc_dropout = match args.mc_dropout {
            None => None,
            Some(passes) => {
                let passes = usize::from(passes);
                let seed = args.mc_seed.unwrap_or(run_seed);
                let monte_carlo = MonteCarlo { passes, seed };
                let scores = TextScores::of(&texts, |part, streams| {
                    let loader = loader(streams);
                    evaluate_monte_carlo(&model.lm, &loader, monte_carlo, |progress| {
                        go_on(part, progress)
                    })
                })?;
                Some(MonteCarloScores { passes, seed, scores })
            }
        };
        Some(Scores { checkpoint: path, best_epoch, ordinary, mc_dropout })
    })();
    let Some(scores) = scores else { return Ok(interrupt::exit_code()) };
    match args.format {
        Format::Text => super::print(text(&scores))?,
        Format::Json => super::print(serde_json::to_string_pretty(&scores)? + "\n")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The same of an image classifier: the test images, and the parameters of the checkpoint itself.
fn run_images(
    args: &EvaluateArgs,
    data_dir: Option<&Path>,
    quiet: bool,
) -> anyhow::Result<ExitCode> {
    let session = Session::on_one_device(&args.device, data_dir, quiet)?;
    let mut show = display::evaluation(quiet);
    let progress = |windows, num_windows| {
        show("test images", EvaluationProgress { windows, num_windows, nll: f64::NAN });
        !session.interrupter.should_stop()
    };
    let score = evaluate_checkpoint(
        &args.checkpoint,
        &session.store,
        session.kernels,
        &session.device,
        progress,
    )?;
    let Some(score) = score else { return Ok(interrupt::exit_code()) };
    match args.format {
        Format::Text => super::print(format!(
            "{}: parameters after {} epochs\n{} test images: nll {:.4} nats, accuracy {:.2} %\n",
            score.checkpoint.display(),
            score.epochs,
            score.test.images,
            score.test.nll,
            score.test.accuracy
        ))?,
        Format::Json => super::print(serde_json::to_string_pretty(&score)? + "\n")?,
    }
    Ok(ExitCode::SUCCESS)
}

fn text(scores: &Scores) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).force_no_tty();
    let numbers = |score: &Score| [format!("{:.4}", score.nll), format!("{:.2}", score.perplexity)];
    let mut header = vec!["text", "tokens", "nll, nats", "perplexity"];
    if scores.mc_dropout.is_some() {
        header.extend(["MC nll, nats", "MC perplexity"]);
    }
    table.set_header(header);
    let names = ["validation, as in training", "validation, one stream", "test, one stream"];
    for (index, (name, score)) in names.into_iter().zip(scores.ordinary.all()).enumerate() {
        let mut row = vec![name.to_owned(), score.tokens.to_string()];
        row.extend(numbers(&score));
        row.extend(scores.mc_dropout.iter().flat_map(|mc| numbers(&mc.scores.all()[index])));
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let parameters = match scores.best_epoch {
        Some(epoch) => format!("parameters of epoch {epoch}, the best on validation"),
        None => "parameters of an unfinished first epoch".to_owned(),
    };
    let lines: String = table.lines().map(|line| format!("{}\n", line.trim())).collect();
    let monte_carlo = scores.mc_dropout.as_ref().map_or(String::new(), |mc| {
        format!("MC: mean probability of {} passes with dropout, seed {}\n", mc.passes, mc.seed)
    });
    format!("{}: {parameters}\n{lines}{monte_carlo}", scores.checkpoint.display())
}
