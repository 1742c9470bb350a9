//! Ctrl-C and SIGTERM.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use burn::train::Interrupter;

/// What a shell gives a program that Ctrl-C ended; here also for SIGTERM.
const INTERRUPTED: u8 = 130;

/// The exit code of a program that was asked to stop and did, with everything saved.
pub(super) fn exit_code() -> ExitCode {
    ExitCode::from(INTERRUPTED)
}

/// Something to ask whether to stop; the first Ctrl-C or SIGTERM sets it, the second ends the program.
///
/// # Errors
///
/// If the system refuses the signal handler, or there is one already.
pub(super) fn on_signal() -> anyhow::Result<Interrupter> {
    let interrupter = Interrupter::new();
    let asked = AtomicBool::new(false);
    let to_stop = interrupter.clone();
    ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::SeqCst) {
            std::process::exit(INTERRUPTED.into());
        }
        to_stop.stop(Some("asked to stop"));
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(interrupter)
}
