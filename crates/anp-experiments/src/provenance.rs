//! What was built and where it ran.

use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;

use anp_models::Kernels;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::record::Provenance;

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

/// How a run went, beside its numbers.
#[derive(Debug, Clone)]
pub struct Course {
    /// Device, as given to `--device`.
    pub device: String,
    /// As given to `--kernels`.
    pub kernels: Kernels,
    /// Sources that it was begun with.
    pub sources: Option<Sources>,
    /// When it first started.
    pub started_at: String,
    /// Seconds of work.
    pub wall_seconds: f64,
    /// Training tokens or images a second.
    pub items_per_second: f64,
    /// How often it was continued.
    pub resumed: usize,
}

/// Provenance of a run that ends now.
pub fn collect(course: Course) -> Provenance {
    let sources = course.sources;
    Provenance {
        dirty: sources.as_ref().map(|sources| sources.dirty),
        commit: sources.map(|sources| sources.commit),
        anp_version: env!("CARGO_PKG_VERSION").to_owned(),
        burn_version: BURN_VERSION.to_owned(),
        device: course.device,
        kernels: course.kernels,
        platform: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
        threads: available_parallelism().map_or(1, usize::from),
        started_at: course.started_at,
        finished_at: now(),
        wall_seconds: course.wall_seconds,
        tokens_per_second: course.items_per_second,
        resumed: course.resumed,
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
    fn times_are_utc_to_the_second() {
        let text = now();
        assert!(text.len() == 20 && text.ends_with('Z'), "{text}");
    }
}
