//! Ctrl-C and SIGTERM.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use burn::train::Interrupter;

use super::terminal;

/// What a shell gives a program that Ctrl-C ended; here also for SIGTERM.
const INTERRUPTED: u8 = 130;

/// The exit code of a program that was asked to stop and did, with everything saved.
pub(super) fn exit_code() -> ExitCode {
    ExitCode::from(INTERRUPTED)
}

/// Whether a signal asked to stop. An [`Interrupter`] is reset by burn-train at the end of a run;
/// this is not.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked(Arc<AtomicBool>);

impl Asked {
    /// Whether a signal asked to stop.
    pub fn to_stop(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Something to ask whether to stop; the first Ctrl-C or SIGTERM sets it, the second ends the
/// program.
///
/// # Errors
///
/// If the system refuses the signal handler, or there is one already.
pub(super) fn on_signal() -> anyhow::Result<(Interrupter, Asked)> {
    let interrupter = Interrupter::new();
    let asked = Asked::default();
    let (to_stop, asked_before) = (interrupter.clone(), asked.clone());
    ctrlc::set_handler(move || {
        if asked_before.0.swap(true, Ordering::SeqCst) {
            terminal::restore();
            std::process::exit(INTERRUPTED.into());
        }
        to_stop.stop(Some("asked to stop"));
    })
    .context("cannot listen for Ctrl-C")?;
    Ok((interrupter, asked))
}
