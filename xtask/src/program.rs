//! Building and running the programs of the workspace.

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::Options;

/// Cargo, the one that runs us if there is one.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What `cargo run` tells us about this package makes some build scripts (ring's) run again, and
    // all that depends on them compile again, each time that Cargo is called the other way.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    command
}

/// What chooses the features of a build: the options and ANP_FEATURES.
pub fn feature_flags(options: &Options) -> Vec<String> {
    let from_environment = env::var("ANP_FEATURES").ok().filter(|list| !list.is_empty());
    options.feature_flags(from_environment.as_deref())
}

/// What chooses the features of a build, and how it is optimised.
pub fn build_flags(options: &Options) -> Vec<String> {
    let mut flags = feature_flags(options);
    flags.extend(options.release.then(|| "--release".to_owned()));
    flags
}

/// Whether a call of Cargo succeeds.
///
/// # Errors
///
/// If Cargo cannot be started.
pub fn succeeds(command: &mut Command) -> Result<bool> {
    Ok(command.status().context("cannot start cargo")?.success())
}

/// The experiments: Cargo's option for the program, and its name.
pub const ANP: [&str; 2] = ["--bin", "anp"];

/// Training steps beside other programs, likewise.
pub const PEERS: [&str; 2] = ["--bench", "peers"];

/// Training steps of a table's rows, likewise.
pub const ROWS: [&str; 2] = ["--bench", "rows"];

/// Build a program and find out where it is. Cargo's progress goes to stderr.
///
/// # Errors
///
/// If it cannot be built.
pub fn build(options: &Options, target: [&str; 2]) -> Result<PathBuf> {
    let [_, name] = target;
    let mut command = cargo();
    command
        .args(["build", "--workspace"])
        .args(target)
        .arg("--message-format=json-render-diagnostics")
        .args(build_flags(options))
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo")?;
    let messages = child.stdout.take().context("cargo has no output")?;
    let mut program = None;
    for line in BufReader::new(messages).lines() {
        program = executable(&line.context("cannot read what cargo says")?, name).or(program);
    }
    if !child.wait().context("cannot wait for cargo")?.success() {
        bail!("the program {name} cannot be built; what is wrong stands above");
    }
    program.with_context(|| format!("cargo built {name} but does not say where it is"))
}

/// Where the program `name` is, if this message of Cargo is about it.
fn executable(message: &str, name: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_program = message["reason"] == "compiler-artifact" && message["target"]["name"] == name;
    is_program.then(|| message["executable"].as_str().map(PathBuf::from))?
}

/// Become the program: signals and the exit code are its own.
///
/// # Errors
///
/// If it cannot be started.
#[cfg(unix)]
pub fn run(program: &Path, words: &[OsString]) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    let err = Command::new(program).args(words).exec();
    Err(err).with_context(|| format!("cannot start {}", program.display()))
}

/// Run the program and pass its exit code on.
///
/// # Errors
///
/// If it cannot be started.
#[cfg(not(unix))]
pub fn run(program: &Path, words: &[OsString]) -> Result<ExitCode> {
    let status = Command::new(program)
        .args(words)
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_cargo_s_messages() {
        let artifact = r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"anp"},
            "executable":"C:\\target\\debug\\anp.exe"}"#;
        assert_eq!(executable(artifact, "anp"), Some(PathBuf::from(r"C:\target\debug\anp.exe")));
        for other in [
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"anp_core"},
                "executable":null}"#,
            r#"{"reason":"compiler-artifact","target":{"kind":["bench"],"name":"peers"},
                "executable":"/peers"}"#,
            r#"{"reason":"build-finished","success":true}"#,
            "warning: not a message",
        ] {
            assert_eq!(executable(other, "anp"), None);
        }
    }
}
