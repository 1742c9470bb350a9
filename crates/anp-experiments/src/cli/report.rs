//! `anp report`: tables from records.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::output::{chain, note, print};
use super::recipe::RecipeArgs;
use crate::experiments::{Experiments, Table};
use crate::plot;
use crate::record::{self, StoredRecord};
use crate::report::{self, Failure, Format, TableReport};
use crate::reproduce::FailedRun;

/// Columns of a text table where there is no terminal to ask.
const DEFAULT_WIDTH: u16 = 100;

/// Arguments of `anp report`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anp report                                    all tables at demo scale
  anp report table2 --scale small
  anp report table1 table2 --scale paper --format markdown > tables.md
  anp report vib --scale small --plot vib.svg   the table, and its curve to a file
  anp report --format json | jq '.[] | select(.row == \"lstm_anp\").ours'

A record counts if its recipe is the row's current one; the others are listed below the table.
The exit code is 1 if a row misses its tolerance at paper scale.")]
pub(super) struct ReportArgs {
    /// Tables, each a folder of `experiments`; all if none is given
    #[arg(value_name = "TABLE")]
    tables: Vec<String>,

    /// Draw the sweep of one table, whose table.toml has a [plot], to a file (.svg or .png)
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    plot: Option<PathBuf>,

    #[command(flatten)]
    common: TableArgs,
}

/// What `report` and `reproduce` have in common.
#[derive(Debug, clap::Args)]
pub(super) struct TableArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,

    /// How the tables are printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,

    /// Folder of the records [default: `records` in the experiments folder]
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub records: Option<PathBuf>,

    /// Folder of the tables [default: `experiments` here or in the nearest folder above]
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub experiments: Option<PathBuf>,
}

/// Tables and records, loaded and checked.
pub(super) struct Loaded {
    pub experiments: Experiments,
    pub tables: Vec<Table>,
    pub records_dir: PathBuf,
    pub records: Vec<StoredRecord>,
}

/// The name that stands for every table of the paper.
const EVERY_TABLE: &str = "all";

impl TableArgs {
    /// Load the records and the tables with these names, or all tables if there are no names.
    pub fn load(&self, names: &[String]) -> anyhow::Result<Loaded> {
        let experiments = Experiments::locate(self.experiments.as_deref())?;
        let names = if names.is_empty() { experiments.table_names()? } else { names.to_vec() };
        let mut wanted = Vec::new();
        for name in names {
            let meant = if name == EVERY_TABLE { experiments.paper_tables()? } else { vec![name] };
            wanted.extend(meant.into_iter().filter(|it| !wanted.contains(it)).collect::<Vec<_>>());
        }
        let tables = wanted.iter().map(|it| experiments.table(it)).collect::<Result<_, _>>()?;
        let records_dir = self.records.clone().unwrap_or_else(|| experiments.records());
        let records = record::load_folder(&records_dir)?;
        Ok(Loaded { experiments, tables, records_dir, records })
    }

    /// Print the tables. The exit code is 2 if a run `failed`, else 1 if a row misses at paper
    /// scale.
    pub fn print(
        &self,
        tables: &[Table],
        records: &[StoredRecord],
        failed: &[FailedRun],
    ) -> anyhow::Result<ExitCode> {
        let RecipeArgs { scale, overrides } = &self.recipe;
        let mut reports = tables
            .iter()
            .map(|table| report::fold(table, *scale, overrides, records))
            .collect::<Result<Vec<_>, _>>()?;
        for FailedRun { run, source } in failed {
            let failure = Failure { seed: run.id.seed, reason: chain(source).join(": ") };
            for report in &mut reports {
                report.add_failure(&run.id.table, &run.id.row, failure.clone());
            }
        }
        print(report::render(&reports, self.format, width()))
            .context("cannot write the table to stdout")?;
        Ok(if !failed.is_empty() {
            ExitCode::from(2)
        } else if reports.iter().any(TableReport::misses) {
            ExitCode::from(1)
        } else {
            ExitCode::SUCCESS
        })
    }
}

/// Columns of the terminal on stdout, if there is one.
fn width() -> u16 {
    let stdout = std::io::stdout();
    match terminal_size::terminal_size_of(&stdout) {
        Some((terminal_size::Width(width), _)) if stdout.is_terminal() => width,
        _ => DEFAULT_WIDTH,
    }
}

/// Run `anp report`.
///
/// # Errors
///
/// If tables or records cannot be read, or the plot cannot be drawn or written.
pub(super) fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    // Before anything is read.
    args.plot.as_deref().map(plot::Format::of).transpose()?;
    let loaded = args.common.load(&args.tables)?;
    if let Some(path) = &args.plot {
        let [table] = &loaded.tables[..] else {
            bail!("--plot draws one table; name it, for example `anp report vib --plot vib.svg`");
        };
        let RecipeArgs { scale, overrides } = &args.common.recipe;
        let report = report::fold(table, *scale, overrides, &loaded.records)?;
        report::figure(table, &report)?.write(path)?;
        note(format!("plot: {}", path.display()));
    }
    args.common.print(&loaded.tables, &loaded.records, &[])
}
