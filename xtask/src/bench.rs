//! Benchmarks: of every operation, and of whole training steps beside other programs.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::Options;
use crate::program::{self, cargo, feature_flags, succeeds};

/// Packages of the peers that are Python programs.
const REQUIREMENTS: &str = "crates/anp-experiments/benches/peers/python/requirements.txt";

/// Run the benches of the operations, with the words for them; or, if the first is `peers` or
/// `rows`, those of training steps.
///
/// # Errors
///
/// If a program cannot be built, installed or started.
pub fn run(options: &Options, words: &[OsString]) -> Result<ExitCode> {
    match words.split_first() {
        Some((first, words)) if first == "peers" => peers(options, words),
        Some((first, words)) if first == "rows" => {
            program::run(&program::build(options, program::ROWS)?, words)
        }
        _ => operations(options, words),
    }
}

/// One program has them all: linking Burn takes longer than running some.
fn operations(options: &Options, words: &[OsString]) -> Result<ExitCode> {
    let profile = if options.release { "release" } else { "dev" };
    let mut command = cargo();
    command.args(["bench", "--profile", profile, "--workspace", "--bench", "operations"]);
    command.args(feature_flags(options)).arg("--").args(words);
    Ok(if succeeds(&mut command)? { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Become the program that measures, with a Python that has what the peers need.
fn peers(options: &Options, words: &[OsString]) -> Result<ExitCode> {
    let program = program::build(options, program::PEERS)?;
    let mut all = Vec::new();
    if needs_python(words) {
        all.extend(["--python".into(), python()?.into_os_string()]);
    }
    all.extend_from_slice(words);
    program::run(&program, &all)
}

/// Not where another Python is named, or nothing is measured.
fn needs_python(words: &[OsString]) -> bool {
    !words.iter().filter_map(|word| word.to_str()).any(|word| {
        matches!(word, "--list" | "--help" | "-h" | "--python") || word.starts_with("--python=")
    })
}

/// The interpreter of our virtual environment, made and filled if need be.
fn python() -> Result<PathBuf> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent folder")?;
    let requirements = root.join(REQUIREMENTS);
    let wanted = fs::read(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let folder = cache_folder()?.join("anp/venv");
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    // Says what was installed; written last, so that what is interrupted begins again.
    let installed = folder.join("anp-requirements.txt");
    if python.exists() && fs::read(&installed).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }

    eprintln!("bench: installing PyTorch in {}; the first time takes minutes", folder.display());
    if !python.exists() {
        let system = if cfg!(windows) { "python" } else { "python3" };
        succeed(Command::new(system).args(["-m", "venv"]).arg(&folder))?;
    }
    let pip = ["-m", "pip", "install", "--disable-pip-version-check", "--requirement"];
    succeed(Command::new(&python).args(pip).arg(&requirements))?;
    fs::write(&installed, wanted)
        .with_context(|| format!("cannot write {}", installed.display()))?;
    Ok(python)
}

/// Run what writes only for people to read; its output goes to stderr.
fn succeed(command: &mut Command) -> Result<()> {
    let name = command.get_program().display().to_string();
    let status = command
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot start {name}, which the PyTorch peers need"))?;
    if !status.success() {
        bail!("{name} failed; what is wrong stands above");
    }
    Ok(())
}

/// Where the user's programs keep what they can make again.
fn cache_folder() -> Result<PathBuf> {
    let named = |name: &str| env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    named("XDG_CACHE_HOME")
        .or_else(|| named("LOCALAPPDATA"))
        .or_else(|| named("HOME").map(|home| home.join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME says where the virtual environment should be")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_is_prepared_only_where_it_is_used() {
        let needs = |text: &str| {
            needs_python(&text.split_whitespace().map(OsString::from).collect::<Vec<_>>())
        };
        assert!(needs("") && needs("--only lstm --steps 20"));
        for text in ["--list", "--only lstm --help", "--python python3", "--python=/bin/python3"] {
            assert!(!needs(text), "{text}");
        }
    }
}
