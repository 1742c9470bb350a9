//! `anp analyze`: what the activations of a trained network look like.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use comfy_table::presets::NOTHING;

use super::globals::Globals;
use super::output::{note, print, table};
use super::session::{DeviceArgs, Session};
use super::{display, interrupt};
use crate::analyze::{self, Analysis, GivenSigma, Number, Options, SiteReport};
use crate::data::Split;
use crate::engine::{Checkpoint, CheckpointFolder};
use crate::plot::Format as PlotFormat;
use crate::runs;

/// Arguments of `anp analyze`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anp analyze runs/table1-lstm_anp-demo-s1-0b12c345
  anp analyze my-run --plot my-run.png
  anp analyze my-run --format json > my-run.json
  anp analyze my-run --epochs --plot my-run.svg       (trained with --keep-epochs)
  anp analyze with-penalty without-penalty --sigma 1,2,4 --samples 1000

Measures each activation of a network without dropout: its norms (the readings of Table 6a), the
spectrum of K̂ = ΦΦᵀ/K + εI with its divergence (equation 10), effective rank, saturation, and
bounds on I(X; T) and I(T; Y) with Gaussian noise. Then, on batches of training, the share of each
penalty in the gradient. docs/analyze.md explains every number.

Of a run on texts, the parameters with the best validation loss are taken, as by `anp evaluate`; of
a run on images, the last. The same command prints the same numbers.")]
pub(super) struct AnalyzeArgs {
    /// Folders of runs, whose newest checkpoints are taken, or of checkpoints
    #[arg(required = true, value_name = "CHECKPOINT|RUN", value_hint = clap::ValueHint::DirPath)]
    checkpoints: Vec<PathBuf>,

    /// All checkpoints of the run at the ends of epochs, with the parameters that the next epoch
    /// starts from
    #[arg(long)]
    epochs: bool,

    /// Part of the data [default: valid for texts, test for images]
    #[arg(long, value_name = "SPLIT")]
    split: Option<SplitArg>,

    /// Measure at most N windows of text or batches of images, from the beginning of the split
    #[arg(long, value_name = "N", default_value_t = Options::default().max_windows)]
    max_windows: usize,

    /// Take spectra and information of N tokens or images; time grows with N³
    #[arg(long, value_name = "N", default_value_t = Options::default().samples)]
    samples: usize,

    /// Variance ε that K̂ adds to each item's own
    #[arg(
        long, value_name = "VARIANCE", default_value_t = Options::default().epsilon,
        allow_negative_numbers = true
    )]
    epsilon: f64,

    /// Standard deviations σ of the noise of the information, as multiples of the activation's root
    /// mean square
    #[arg(
        long, value_name = "SIGMA", value_delimiter = ',', allow_negative_numbers = true,
        default_values_t = Options::default().relative_sigmas
    )]
    sigma: Vec<f64>,

    /// The same, as values that hold for every activation
    #[arg(
        long, value_name = "SIGMA", value_delimiter = ',', allow_negative_numbers = true,
        default_values_t = Options::default().absolute_sigmas
    )]
    absolute_sigma: Vec<f64>,

    /// Compare the gradients of N training steps; 0 leaves them out
    #[arg(long, value_name = "N", default_value_t = Options::default().gradient_steps)]
    gradient_steps: usize,

    /// Seed of the choice of items and of the masks; the run's own if not given
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,

    #[command(flatten)]
    device: DeviceArgs,

    /// How the numbers are printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// Also draw the numbers, as SVG or PNG by the file's extension
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    plot: Option<PathBuf>,
}

/// How the numbers are printed.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
}

/// A part of the data.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum SplitArg {
    Train,
    Valid,
    Test,
}

impl From<SplitArg> for Split {
    fn from(split: SplitArg) -> Self {
        match split {
            SplitArg::Train => Self::Train,
            SplitArg::Valid => Self::Valid,
            SplitArg::Test => Self::Test,
        }
    }
}

impl AnalyzeArgs {
    fn options(&self) -> Options {
        Options {
            split: self.split.map(Split::from),
            max_windows: self.max_windows,
            samples: self.samples,
            epsilon: self.epsilon,
            relative_sigmas: self.sigma.clone(),
            absolute_sigmas: self.absolute_sigma.clone(),
            gradient_steps: self.gradient_steps,
            seed: self.seed,
        }
    }

    /// The checkpoints to analyse.
    fn paths(&self) -> anyhow::Result<Vec<PathBuf>> {
        if !self.epochs {
            return Ok(self.checkpoints.clone());
        }
        let mut paths = Vec::new();
        for run in &self.checkpoints {
            let ends = CheckpointFolder::new(run).epoch_ends()?;
            if ends.is_empty() {
                bail!(
                    "{} is not the folder of a run with a checkpoint at the end of an epoch; train \
                     with --keep-epochs to keep them all",
                    run.display()
                );
            }
            paths.extend(ends);
        }
        Ok(paths)
    }
}

/// Run `anp analyze`.
///
/// # Errors
///
/// If an option has no meaning, a checkpoint, the device or the data is not there or not right, or
/// the figure cannot be written.
pub(super) fn run(args: &AnalyzeArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let options = args.options();
    options.validate()?;
    if let Some(path) = &args.plot {
        PlotFormat::of(path)?;
    }
    let paths = args.paths()?;
    // A wrong path is found before minutes are spent on the others.
    for path in &paths {
        Checkpoint::open(path)?;
    }
    let session = Session::on_one_device(&args.device, globals)?;
    let mut analyses = Vec::with_capacity(paths.len());
    for path in &paths {
        if paths.len() > 1 {
            globals.note(format!("analysing {}", path.display()));
        }
        let analysis = analyze(path, args.epochs, &session, &options, globals)?;
        let Some(analysis) = analysis else { return Ok(interrupt::exit_code()) };
        analyses.push(analysis);
    }
    print(match args.format {
        Format::Json => serde_json::to_string_pretty(&analyses)? + "\n",
        Format::Text => analyses.iter().map(text).collect::<Vec<_>>().join("\n"),
    })?;
    if let Some(path) = &args.plot {
        analyze::figure(&analyses).write(path)?;
        note(format!("figure: {}", path.display()));
    }
    Ok(ExitCode::SUCCESS)
}

fn analyze(
    path: &Path,
    last: bool,
    session: &Session,
    options: &Options,
    globals: &Globals,
) -> anyhow::Result<Option<Analysis>> {
    let mut show = display::evaluation(globals.quiet);
    let mut go_on = |part, progress| {
        show(part, progress);
        !session.interrupter.should_stop()
    };
    runs::analyze(Checkpoint::open(path)?, &session.place, options, last, &mut go_on)
        .with_context(|| format!("cannot analyse {}", path.display()))
}

fn text(analysis: &Analysis) -> String {
    let Analysis { checkpoint, parameters, epoch, on, epsilon, sites, .. } = analysis;
    let epoch = epoch.map_or("an unfinished first epoch".to_owned(), |it| format!("epoch {it}"));
    let mut text = format!(
        "{}: parameters of {epoch}, {parameters}; {} {}s of {}, no dropout\n",
        checkpoint.display(),
        on.items,
        on.item,
        on.split,
    );

    text += "\nSize\n";
    let header =
        ["activation", "units", "‖h‖₂", "½‖h‖₂²", "‖block‖F/T", "RMS", "saturated", "dead"];
    text += &table(
        NOTHING,
        header,
        1..8,
        sites.iter().map(|site| {
            let size = &site.size;
            let saturation = site.saturation.as_ref();
            vec![
                site.site.clone(),
                site.units.to_string(),
                number(size.norm.value),
                number(size.half_squared_norm.value),
                number(size.frobenius_per_step.value),
                number(size.rms.value),
                saturation.map_or(String::new(), |it| percent(it.share.value)),
                saturation
                    .and_then(|it| it.dead_units)
                    .map_or(String::new(), |it| percent(it.value)),
            ]
        }),
    );
    for criterion in criteria(sites) {
        text += &format!("saturated: {criterion}\n");
    }

    let first = &sites[0];
    text += &format!(
        "\nSpectrum: K̂ = ΦΦᵀ/K + εI with ε = {epsilon}; divergence of N(0, K̂) from N(0, I) in \
         nats, mean over groups of {}; ranks over {} sampled {}s\n",
        first.divergence.group_size, first.spectrum.samples, on.item,
    );
    let header = [
        "activation",
        "½(tr K̂ − N)",
        "−½ ln det K̂",
        "KL",
        "effective rank",
        "participation ratio",
        "largest eigenvalue",
        "smallest",
    ];
    text += &table(
        NOTHING,
        header,
        1..8,
        sites.iter().map(|site| {
            let (divergence, spectrum) = (&site.divergence, &site.spectrum);
            let eigenvalue =
                |value: Option<&f64>| value.map_or(String::new(), |value| number(value + epsilon));
            vec![
                site.site.clone(),
                number(divergence.trace.value),
                number(divergence.log_determinant.value),
                number(divergence.kl.value),
                number(spectrum.effective_rank.value),
                number(spectrum.participation_ratio.value),
                eigenvalue(spectrum.kernel.first()),
                eigenvalue(spectrum.kernel.last()),
            ]
        }),
    );

    text += &information(analysis);

    let decoder = &analysis.decoder;
    text += &format!(
        "\nI(T; Y) of {} by the decoder: at least {} = entropy of the targets {:.4} − \
         cross-entropy {:.4} nats\n",
        decoder.site,
        with_error(decoder.information),
        decoder.target_entropy.value,
        decoder.cross_entropy.value,
    );
    text + &gradient(analysis)
}

/// What counts as saturated, with the sites that it counts for.
fn criteria(sites: &[SiteReport]) -> Vec<&'static str> {
    let mut criteria = Vec::new();
    for saturation in sites.iter().filter_map(|site| site.saturation.as_ref()) {
        if !criteria.contains(&saturation.criterion) {
            criteria.push(saturation.criterion);
        }
    }
    criteria
}

fn information(analysis: &Analysis) -> String {
    let sites = &analysis.sites;
    let Some(first) = sites.iter().find_map(|site| site.information.first()) else {
        return "\nInformation: the activations are 0\n".to_owned();
    };
    let mut text = format!(
        "\nInformation with noise N(0, σ²I), in nats: lower to upper bound, at most ln {} = \
         {:.3}\n",
        first.samples, first.ceiling.value,
    );
    let has_labels = first.label.is_some();
    let mut header = vec!["activation", "σ/RMS", "σ", "I(X; T)", "± (lower, upper)"];
    if has_labels {
        header.push("I(T; Y)");
    }
    let rows = sites.iter().flat_map(|site| {
        site.information.iter().map(move |it| {
            let range = |range: analyze::Range| {
                let [low, high] = [range.lower, range.upper].map(|it| it.estimate.nats);
                format!("{low:.3} – {high:.3}")
            };
            let half = |bound: analyze::Bounded| {
                let half = bound.interval.map(|[low, high]| 0.5 * (high - low));
                half.map_or("?".to_owned(), |half| format!("{half:.3}"))
            };
            let is_given = |given| if it.noise.given == given { "" } else { "≈" };
            let mut row = vec![
                site.site.clone(),
                is_given(GivenSigma::Relative).to_owned() + &number(it.noise.relative_sigma),
                is_given(GivenSigma::Absolute).to_owned() + &number(it.noise.sigma),
                range(it.input),
                format!("{}, {}", half(it.input.lower), half(it.input.upper)),
            ];
            row.extend(it.label.map(range));
            row
        })
    });
    text += &table(NOTHING, header, 1..6, rows);
    text + "±: half of the 95 % interval for items drawn from a population\n"
}

fn gradient(analysis: &Analysis) -> String {
    let gradient = &analysis.gradient;
    if gradient.steps == 0 {
        return String::new();
    }
    let mut text = format!(
        "\nGradients over all parameters, mean of {} training steps with dropout; the data's has \
         the norm {}\n",
        gradient.steps,
        with_error(gradient.data_norm),
    );
    if gradient.terms.is_empty() {
        return text + "no penalty: the recipe has no other term of the loss\n";
    }
    let header = ["term", "strength", "norm / norm of the data's", "cosine with the data's"];
    text += &table(
        NOTHING,
        header,
        1..4,
        gradient.terms.iter().map(|term| {
            vec![
                term.name.clone(),
                number(term.strength),
                with_error(term.share),
                with_error(term.cosine),
            ]
        }),
    );
    text
}

/// Four digits.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if (1e-3..1e6).contains(&size) => {
            let digits = (3 - size.log10().floor() as i32).max(0) as usize;
            format!("{value:.digits$}")
        }
        _ if value.is_finite() => format!("{value:.3e}"),
        _ => "–".to_owned(),
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

fn with_error(value: Number) -> String {
    match value.standard_error {
        Some(error) => format!("{} ± {}", number(value.value), number(error)),
        None => number(value.value),
    }
}
