//! The `anp` program.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 all is well, 1 a row misses the
//! published number at paper scale, 2 something could not be done, 130 interrupted and can resume.

mod data;
mod devices;
mod display;
mod evaluate;
mod interrupt;
mod recipe;
mod report;
mod reproduce;
mod session;
mod terminal;
mod train;

use std::error::Error;
use std::io::{self, ErrorKind, Write};
use std::iter::successors;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

/// Train recurrent language models with the activation norm penalty, and compare with the paper.
#[derive(Debug, Parser)]
#[command(
    name = "anp",
    version,
    infer_long_args = true,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  anp reproduce table2                     run what has no record at demo scale, print the table
  anp reproduce table2 --scale small       the same on the Penn Treebank, with small models
  anp data fetch penn_treebank             get the data for it
  anp report                               print all tables from the records, run nothing

Exit codes: 0 all is well; 1 a row misses the published number at paper scale; 2 something could not
be done; 130 interrupted, rerun the command to resume.
`anp COMMAND --help` explains a command."
)]
struct Cli {
    /// Folder of the data sets, instead of ANP_DATA_DIR or the platform's data folder
    #[arg(long, global = true, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    data_dir: Option<PathBuf>,

    /// Print results and errors only, no progress
    #[arg(long, short, global = true)]
    quiet: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run what has no record yet, and print the tables
    Reproduce(reproduce::ReproduceArgs),
    /// Print tables from records, run nothing
    Report(report::ReportArgs),
    /// Train one recipe of a row file
    Train(train::TrainArgs),
    /// Measure the best parameters of a checkpoint
    Evaluate(evaluate::EvaluateArgs),
    /// List, download, import or verify data sets
    Data(data::DataArgs),
    /// List what --device can name: compiled in, present, and what would have to be added
    Devices(devices::DevicesArgs),
    /// Print a script that lets the shell complete commands and options
    #[command(after_help = "\
Examples:
  anp completions bash > ~/.local/share/bash-completion/completions/anp
  anp completions zsh > ~/.zfunc/_anp
  anp completions fish > ~/.config/fish/completions/anp.fish")]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Do what the command line says and return the exit code. Errors are printed to stderr. Does not
/// return if the command line is wrong or asks for help.
pub fn run() -> ExitCode {
    dispatch().unwrap_or_else(|err| {
        complain(err.as_ref());
        ExitCode::from(2)
    })
}

fn dispatch() -> anyhow::Result<ExitCode> {
    let Cli { data_dir, quiet, command } = Cli::parse();
    let data_dir = data_dir.as_deref();
    match command {
        Command::Reproduce(args) => reproduce::run(&args, data_dir, quiet),
        Command::Report(args) => report::run(&args, data_dir, quiet),
        Command::Train(args) => train::run(&args, data_dir, quiet),
        Command::Evaluate(args) => evaluate::run(&args, data_dir, quiet),
        Command::Data(args) => data::run(&args, data_dir, quiet),
        Command::Devices(_) => devices::run(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "anp", &mut script);
            print(&script)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Write to stdout. If it is closed, the reader has read enough, as in `anp report | head`.
fn print(text: impl AsRef<[u8]>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()) {
        Err(err) if err.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Write a line to stderr. If it is closed, nobody wants to know; a run goes on regardless.
fn note(line: String) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The messages of an error and its causes, the outermost first.
fn chain(err: &(dyn Error + 'static)) -> Vec<String> {
    successors(Some(err), |&err| err.source()).map(ToString::to_string).collect()
}

/// Write an error and its causes to stderr, one line each.
fn complain(err: &(dyn Error + 'static)) {
    // Some causes quote lines of a file.
    let lines = chain(err).into_iter().map(|text| text.trim_end().replace('\n', "\n    "));
    note(format!("error: {}", lines.collect::<Vec<_>>().join("\n  caused by: ")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:\n"), "{} has no examples", command.get_name());
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn global_options_may_stand_behind_the_command() {
        let cli = Cli::try_parse_from(["anp", "report", "--quiet", "--data-dir", "d"]).unwrap();
        assert!(cli.quiet);
        assert_eq!(cli.data_dir, Some(PathBuf::from("d")));
    }
}
