//! What was built and where it ran.

use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;

use anp_kernels::instructions;
use anp_models::Kernels;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::device::Devices;

/// Version of Burn that this build is made with; Burn does not say it itself.
pub const BURN_VERSION: &str = "0.22.1";

/// The time, RFC 3339, UTC, to the second.
pub fn now() -> String {
    OffsetDateTime::now_utc()
        .replace_nanosecond(0)
        .expect("zero is a nanosecond")
        .format(&Rfc3339)
        .expect("the present has a four-digit year")
}

/// The sources that a run is made with, if the current folder is in a checkout of anp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// Commit.
    pub commit: String,
    /// Whether tracked files differ from it.
    pub dirty: bool,
}

impl Sources {
    /// Ask Git.
    pub fn current() -> Option<Self> {
        let commit = git(&["rev-parse", "HEAD"])?;
        let changes = git(&["status", "--porcelain", "--untracked-files=no"])?;
        Some(Self { commit, dirty: !changes.is_empty() })
    }
}

/// Where and how long a run has run, beside its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// Devices that the run was begun on, as given to `--device`.
    pub device: String,
    /// How the model computes, as given to `--kernels`.
    pub kernels: Kernels,
    /// Sources that the run was begun with.
    pub sources: Option<Sources>,
    /// When the run first started, RFC 3339, UTC.
    pub started_at: String,
    /// Seconds of work.
    pub wall_seconds: f64,
    /// Of these, seconds spent in training steps.
    pub train_seconds: f64,
    /// Tokens or images trained on.
    pub train_items: u64,
    /// How often the run was continued.
    pub resumed: usize,
    /// Instruction sets of the CPUs that it ran on, as [`anp_kernels::instructions`] names them:
    /// each once, in the order of their first use. Empty on other devices.
    #[serde(default)]
    pub instructions: Vec<String>,
}

impl Course {
    /// Of a run that begins now.
    pub fn begin(devices: &Devices, kernels: Kernels) -> Self {
        let on_cpu = devices.named().iter().all(|(name, _)| name.backend.is_cpu());
        Self {
            device: devices.to_string(),
            kernels,
            instructions: on_cpu.then(instructions).into_iter().collect(),
            sources: Sources::current(),
            started_at: now(),
            wall_seconds: 0.0,
            train_seconds: 0.0,
            train_items: 0,
            resumed: 0,
        }
    }

    /// The same run, continued now by a process whose course would begin as `begins`.
    pub fn resume(mut self, begins: &Self) -> Self {
        self.resumed += 1;
        // A run from before there was this list does not know where it began.
        if self.instructions.is_empty() {
            return self;
        }
        for set in &begins.instructions {
            if !self.instructions.contains(set) {
                self.instructions.push(set.clone());
            }
        }
        self
    }
}

/// What was built and where it ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Commit of the sources that the run was begun with, if they were a Git checkout.
    pub commit: Option<String>,
    /// Whether tracked files differed from that commit; `None` if it is not known.
    pub dirty: Option<bool>,
    /// Version of anp.
    pub anp_version: String,
    /// Version of Burn.
    pub burn_version: String,
    /// Device, as given to `--device`.
    pub device: String,
    /// As given to `--kernels`; records from before there was a choice are from plain ones.
    #[serde(default = "plain")]
    pub kernels: Kernels,
    /// Operating system and architecture.
    pub platform: String,
    /// Hardware threads of the machine.
    pub threads: usize,
    /// Instruction sets of the CPUs that the run was on, in this order. More than one means that it
    /// was continued on another kind of CPU, so that its last digits may be those of no single one.
    /// Empty on other devices and in old records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instructions: Vec<String>,
    /// When the run first started, RFC 3339, UTC.
    pub started_at: String,
    /// When the run ended, RFC 3339, UTC.
    pub finished_at: String,
    /// Seconds of work, over all sessions of the run.
    pub wall_seconds: f64,
    /// Training tokens, or images, a second, over the time spent training.
    pub tokens_per_second: f64,
    /// How often the run was continued from a checkpoint.
    pub resumed: usize,
}

/// For serde.
fn plain() -> Kernels {
    Kernels::Plain
}

impl Provenance {
    /// Of a run that ends now.
    pub fn of(course: Course) -> Self {
        let sources = course.sources;
        Self {
            dirty: sources.as_ref().map(|sources| sources.dirty),
            commit: sources.map(|sources| sources.commit),
            anp_version: env!("CARGO_PKG_VERSION").to_owned(),
            burn_version: BURN_VERSION.to_owned(),
            device: course.device,
            kernels: course.kernels,
            platform: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
            threads: available_parallelism().map_or(1, usize::from),
            instructions: course.instructions,
            started_at: course.started_at,
            finished_at: now(),
            wall_seconds: course.wall_seconds,
            tokens_per_second: course.train_items as f64 / course.train_seconds,
            resumed: course.resumed,
        }
    }
}

/// What Git answers in the checkout of anp that the current folder is in; `None` if it is in none.
fn git(arguments: &[&str]) -> Option<String> {
    let ask = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let top = ask(&["rev-parse", "--show-toplevel"])?;
    Path::new(&top).join("crates/anp-experiments").is_dir().then(|| ask(arguments))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stated_version_of_burn_is_the_one_in_the_lock_file() {
        let lock = include_str!("../../../Cargo.lock").parse::<toml::Table>().unwrap();
        let packages = lock["package"].as_array().unwrap();
        let burn =
            packages.iter().find(|package| package["name"].as_str() == Some("burn")).unwrap();
        assert_eq!(burn["version"].as_str(), Some(BURN_VERSION));
    }

    #[test]
    fn a_resumed_run_names_each_instruction_set_once() {
        let course = |sets: &[&str]| Course {
            device: "flex".to_owned(),
            kernels: Kernels::Fused,
            sources: None,
            started_at: now(),
            wall_seconds: 0.0,
            train_seconds: 0.0,
            train_items: 0,
            resumed: 0,
            instructions: sets.iter().map(|&set| set.to_owned()).collect(),
        };
        let resume = |of: &[&str], on: &[&str]| course(of).resume(&course(on)).instructions;
        assert_eq!(resume(&["avx2"], &["avx2"]), ["avx2"]);
        assert_eq!(resume(&["avx2"], &["avx512"]), ["avx2", "avx512"]);
        assert!(resume(&[], &["avx512"]).is_empty(), "where it began is not known");
    }

    #[test]
    fn times_are_utc_to_the_second() {
        let text = now();
        assert!(text.len() == 20 && text.ends_with('Z'), "{text}");
    }
}
