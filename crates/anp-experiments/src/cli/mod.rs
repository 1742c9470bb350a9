//! The `anp` program.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 all is well, 1 a row misses the
//! published number at paper scale, 2 something could not be done, 130 interrupted and can resume.

mod analyze;
mod data;
mod devices;
mod display;
mod evaluate;
mod globals;
mod interrupt;
mod output;
mod recipe;
mod report;
mod reproduce;
mod session;
mod terminal;
mod train;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use globals::Globals;
use output::{complain, print};

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
    #[command(flatten)]
    globals: Globals,

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
    /// Norms, spectra, information and gradients of a trained network
    Analyze(analyze::AnalyzeArgs),
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
    let Cli { globals, command } = Cli::parse();
    match command {
        Command::Reproduce(args) => reproduce::run(&args, &globals),
        Command::Report(args) => report::run(&args),
        Command::Train(args) => train::run(&args, &globals),
        Command::Evaluate(args) => evaluate::run(&args, &globals),
        Command::Analyze(args) => analyze::run(&args, &globals),
        Command::Data(args) => data::run(&args, &globals),
        Command::Devices(_) => devices::run(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "anp", &mut script);
            print(&script)?;
            Ok(ExitCode::SUCCESS)
        }
    }
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
        assert!(cli.globals.quiet);
        assert_eq!(cli.globals.data_dir, Some("d".into()));
    }
}
