//! `cargo xtask`: build the `anp` program and run it, or check the workspace.
//!
//! It knows no experiment and does not depend on Burn, so that it is there in seconds: every word
//! after its own options goes to `anp` as it is.

mod bench;
mod check;
mod program;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

const HELP: &str = "\
Build the anp program and run it, or check the workspace.

Usage: cargo xtask [OPTIONS] COMMAND [WORDS]...

Commands:
  reproduce TABLE...   run what has no record yet, and print the tables
  report               print tables from records, run nothing
  train, evaluate      train one recipe; measure a checkpoint
  analyze              norms, spectra, information, gradients of a checkpoint
  data, devices        get data sets; list devices
  bench [FILTER]       time every operation
  bench peers          time training steps beside PyTorch; explained by
                       `cargo xtask bench peers --help`
  bench rows           time training steps of the rows of a table beside its first
  test                 all tests; words go to `cargo test`
  check                formatting, lints, documentation and tests; .ci/run checks more than these

All except `bench`, `test` and `check` are commands of the anp program: `cargo xtask COMMAND --help`
explains them, and their exit code is passed on.

Options, before the command:
      --features LIST        Cargo features, for example cuda or \"vulkan ndarray\"
      --no-default-features  leave out flex, the CPU backend that is built otherwise
      --release              build with all optimisations: slower to build, a little faster to run
  -h, --help                 print this

The variable ANP_FEATURES names features for every build, as if they stood behind --features.

Examples:
  cargo xtask reproduce table2
  cargo xtask reproduce table2 --scale small --dry-run
  cargo xtask --features cuda reproduce table2 --scale paper --device cuda:0
  cargo xtask data fetch penn_treebank
  cargo xtask check
";

/// What stands before the command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Options {
    /// Cargo features, each a list.
    features: Vec<String>,
    /// Whether to leave out the default features.
    no_default_features: bool,
    /// Whether to build with all optimisations.
    release: bool,
}

impl Options {
    /// The options that choose features, as Cargo takes them; `from_environment` is ANP_FEATURES.
    fn feature_flags(&self, from_environment: Option<&str>) -> Vec<String> {
        let lists = self.features.iter().map(String::as_str).chain(from_environment);
        let mut flags: Vec<_> = lists.map(|list| format!("--features={list}")).collect();
        if self.no_default_features {
            flags.push("--no-default-features".to_owned());
        }
        flags
    }
}

/// The options and, if there is something to do, the command and its words.
fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Option<(Options, Vec<OsString>)>> {
    let mut words = words.into_iter();
    let mut options = Options::default();
    while let Some(word) = words.next() {
        let text = word.to_str().unwrap_or_default();
        match text {
            "-h" | "--help" | "help" => return Ok(None),
            "--release" => options.release = true,
            "--no-default-features" => options.no_default_features = true,
            "--features" => {
                let list = words.next().and_then(|list| list.into_string().ok());
                options.features.push(list.context("--features needs a list of features")?);
            }
            _ => match text.strip_prefix("--features=") {
                Some(list) => options.features.push(list.to_owned()),
                None if text.starts_with('-') => {
                    bail!(
                        "unknown option {text}; anp's own options follow its command (see --help)"
                    );
                }
                None => {
                    let words: Vec<_> = std::iter::once(word).chain(words).collect();
                    if let [command, word, ..] = &words[..]
                        && command == "check"
                    {
                        bail!("`check` takes no more words, but got {word:?}");
                    }
                    return Ok(Some((options, words)));
                }
            },
        }
    }
    Ok(None)
}

fn run() -> Result<ExitCode> {
    let Some((options, words)) = parse(std::env::args_os().skip(1))? else {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    match words[0].to_str() {
        Some("check") => check::run(&options),
        Some("bench") => bench::run(&options, &words[1..]),
        Some("test") => check::test(&options, &words[1..]),
        _ => program::run(&program::build(&options, program::ANP)?, &words),
    }
}

fn main() -> ExitCode {
    run().unwrap_or_else(|err| {
        eprintln!("error: {err:#}");
        ExitCode::from(2)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    fn parsed(text: &str) -> Option<(Options, Vec<OsString>)> {
        parse(words(text)).unwrap()
    }

    #[test]
    fn words_after_the_command_are_passed_on_as_they_are() {
        assert_eq!(
            parsed("reproduce table2 --features x --help --release"),
            Some((Options::default(), words("reproduce table2 --features x --help --release")))
        );
    }

    #[test]
    fn options_before_the_command_are_ours() {
        let options = Options {
            features: vec!["cuda".to_owned(), "ndarray,cpu".to_owned()],
            no_default_features: true,
            release: true,
        };
        let line = "--features cuda --release --features=ndarray,cpu --no-default-features";
        assert_eq!(parsed(&format!("{line} devices")), Some((options.clone(), words("devices"))));
        assert_eq!(parsed(&format!("{line} check")), Some((options.clone(), words("check"))));
        assert_eq!(
            options.feature_flags(Some("vulkan")),
            [
                "--features=cuda",
                "--features=ndarray,cpu",
                "--features=vulkan",
                "--no-default-features"
            ]
        );
        assert_eq!(
            parsed("test -- training"),
            Some((Options::default(), words("test -- training")))
        );
        assert_eq!(
            parsed("bench peers --only lstm --help"),
            Some((Options::default(), words("bench peers --only lstm --help")))
        );
    }

    #[test]
    fn nothing_to_do_explains_itself() {
        for text in ["", "--help", "-h", "help", "--release"] {
            assert_eq!(parsed(text), None);
        }
    }

    #[test]
    fn what_is_no_option_is_named() {
        let message = parse(words("--scale demo")).unwrap_err().to_string();
        assert!(message.starts_with("unknown option --scale"), "{message}");
        assert!(parse(words("--features")).is_err());
        assert!(parse(words("check twice")).is_err());
    }
}
