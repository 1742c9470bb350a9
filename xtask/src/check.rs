//! What CI checks of the workspace itself, the cheapest step first.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::Options;
use crate::program::{build_flags, cargo, succeeds};

/// A step: what it is called, Cargo's words, and whether these choose features.
type Step = (&'static str, &'static [&'static str], bool);

const STEPS: [Step; 6] = [
    ("formatting", &["fmt", "--all", "--check"], false),
    ("lints", &["clippy", "--workspace", "--all-targets"], true),
    // Started by name only (`bench = false`), so that `--all-targets` leaves it out.
    ("lints", &["clippy", "--workspace", "--bench", "peers"], true),
    ("lints", &["clippy", "--workspace", "--bench", "rows"], true),
    ("documentation", &["doc", "--workspace", "--no-deps"], true),
    ("tests", &["test", "--workspace"], true),
];

/// Run the steps until one fails; warnings are failures. The exit code is then 1.
///
/// # Errors
///
/// If Cargo cannot be started.
pub fn run(options: &Options) -> Result<ExitCode> {
    for (name, words, has_features) in STEPS {
        let mut command = cargo();
        command.args(words);
        if has_features {
            command.args(build_flags(options));
        }
        match name {
            "lints" => {
                command.args(["--", "--deny", "warnings"]);
            }
            "documentation" => {
                command.env("RUSTDOCFLAGS", "--deny warnings");
            }
            _ => {}
        }
        eprintln!("check: {name}");
        if !succeeds(&mut command)? {
            eprintln!("check: {name} failed");
            return Ok(ExitCode::from(1));
        }
    }
    eprintln!("check: all is well");
    Ok(ExitCode::SUCCESS)
}

/// Run all tests, with more words for `cargo test`.
///
/// # Errors
///
/// If Cargo cannot be started.
pub fn test(options: &Options, words: &[OsString]) -> Result<ExitCode> {
    let mut command = cargo();
    command.args(["test", "--workspace"]).args(build_flags(options)).args(words);
    Ok(if succeeds(&mut command)? { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
