//! The terminal under burn-train's dashboard.
//!
//! The dashboard sets the terminal to raw mode, where Ctrl-C is a key like any other, and it does
//! not look for this key. Here Ctrl-C is made a signal again, and the terminal is put back where
//! the dashboard cannot.

use std::io::{IsTerminal, stderr, stdout};

/// Whether a dashboard can be shown, and its keys read.
pub(super) fn takes_a_dashboard() -> bool {
    stdout().is_terminal()
        && stderr().is_terminal()
        && std::env::var_os("TERM").is_none_or(|name| name != "dumb")
        && platform::is_in_foreground()
}

pub(super) use platform::{keep_ctrl_c, remember, restore};

#[cfg(unix)]
mod platform {
    use std::fs::File;
    use std::io::{Write, stdout};
    use std::sync::OnceLock;
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use rustix::process::getpgrp;
    use rustix::termios::{
        LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr,
    };

    /// Longest time that the dashboard is waited for.
    const PATIENCE: Duration = Duration::from_secs(2);

    /// Mouse off, main screen, cursor on: what the dashboard does at its end.
    const LEAVE_DASHBOARD: &[u8] =
        b"\x1b[?1006l\x1b[?1015l\x1b[?1003l\x1b[?1002l\x1b[?1000l\x1b[?1049l\x1b[?25h";

    /// The terminal's modes before the first dashboard.
    static BEFORE: OnceLock<Termios> = OnceLock::new();

    fn terminal() -> Option<(File, Termios)> {
        let terminal = File::options().read(true).write(true).open("/dev/tty").ok()?;
        let modes = tcgetattr(&terminal).ok()?;
        Some((terminal, modes))
    }

    fn is_raw(modes: &Termios) -> bool {
        !modes.local_modes.contains(LocalModes::ICANON)
    }

    /// Whether the terminal is this job's; a job in the background that changes its modes is
    /// stopped.
    pub(in super::super) fn is_in_foreground() -> bool {
        let group = terminal().and_then(|(terminal, _)| tcgetpgrp(terminal).ok());
        group.is_some_and(|group| group == getpgrp())
    }

    /// Take note of the terminal's modes; before a dashboard starts.
    pub(in super::super) fn remember() {
        if let Some((_, modes)) = terminal() {
            BEFORE.get_or_init(|| modes);
        }
    }

    /// Make Ctrl-C a signal again, once the dashboard has set its modes.
    pub(in super::super) fn keep_ctrl_c() {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let Some((terminal, mut modes)) = terminal() else { return };
            if is_raw(&modes) {
                modes.local_modes.insert(LocalModes::ISIG);
                // A job that is stopped, or dumps its memory, would leave the dashboard on the
                // screen.
                for key in [SpecialCodeIndex::VSUSP, SpecialCodeIndex::VQUIT] {
                    modes.special_codes[key] = 0;
                }
                // Without it `q` still stops.
                let _ = tcsetattr(&terminal, OptionalActions::Now, &modes);
                return;
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Put the terminal back if a dashboard has it; for a program that ends at once.
    pub(in super::super) fn restore() {
        if let (Some((terminal, modes)), Some(before)) = (terminal(), BEFORE.get())
            && is_raw(&modes)
        {
            let _ = stdout().write_all(LEAVE_DASHBOARD).and_then(|()| stdout().flush());
            let _ = tcsetattr(&terminal, OptionalActions::Now, before);
        }
    }
}

/// Elsewhere `q` stops a run; Ctrl-C does where no dashboard is shown.
#[cfg(not(unix))]
mod platform {
    pub(in super::super) fn is_in_foreground() -> bool {
        true
    }

    pub(in super::super) fn remember() {}

    pub(in super::super) fn keep_ctrl_c() {}

    pub(in super::super) fn restore() {}
}
