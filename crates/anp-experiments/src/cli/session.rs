//! What every command that trains or evaluates needs from its surroundings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anp_models::Kernels;
use anyhow::bail;
use burn::train::Interrupter;

use super::display;
use super::interrupt::{self, Asked};
use super::output::note;
use crate::data::Store;
use crate::device::{self, DeviceName, Devices};
use crate::engine::{Control, Place};

/// `--device` and `--kernels`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct DeviceArgs {
    /// Where to compute: flex, cuda:0, vulkan:1 …; several with commas between them (cuda:0,cuda:1)
    /// share the batches of image runs [default: the best there is; `anp devices` lists them]
    #[arg(long, value_name = "DEVICE", value_delimiter = ',')]
    pub device: Vec<DeviceName>,

    /// How to compute: `fused` operations where the device has them, or `plain` ones of Burn; the
    /// results differ by rounding only
    #[arg(long, value_name = "KERNELS", default_value_t)]
    pub kernels: Kernels,
}

impl DeviceArgs {
    /// The devices asked for, or the best one that is compiled in and present.
    pub fn names(&self) -> anyhow::Result<Vec<DeviceName>> {
        match self.device.is_empty() {
            true => Ok(vec![DeviceName::best()?]),
            false => Ok(self.device.clone()),
        }
    }
}

/// `--checkpoint-every`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct CheckpointArgs {
    /// Save a checkpoint after so many seconds, and after each epoch in any case; 0 saves after
    /// each step
    #[arg(
        long, value_name = "SECONDS", default_value = "180", value_parser = seconds,
        allow_negative_numbers = true
    )]
    pub checkpoint_every: Duration,
}

/// A time in seconds.
fn seconds(text: &str) -> anyhow::Result<Duration> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}

/// Devices, the data, and two things to ask whether to stop.
pub(super) struct Session {
    pub place: Place,
    /// What a run asks.
    pub interrupter: Interrupter,
    /// What to ask between runs.
    pub asked: Asked,
    quiet: bool,
}

impl Session {
    /// Open the devices and say which they are, unless `quiet`; listen for Ctrl-C.
    pub fn open(args: &DeviceArgs, data_dir: Option<&Path>, quiet: bool) -> anyhow::Result<Self> {
        let names = args.names()?;
        let devices = Devices::open(&names)?;
        if !quiet {
            let of = |name: &DeviceName| format!("{name} ({})", name.backend.description());
            let what = if names.len() == 1 { "device" } else { "devices" };
            let all: Vec<_> = names.iter().map(of).collect();
            note(format!("{what}: {}", all.join(", ")));
        }
        let (interrupter, asked) = interrupt::on_signal()?;
        let place = Place { devices, kernels: args.kernels, store: Store::locate(data_dir) };
        Ok(Self { place, interrupter, asked, quiet })
    }

    /// [`open`](Self::open) where more than one device is of no use.
    pub fn on_one_device(
        args: &DeviceArgs,
        data_dir: Option<&Path>,
        quiet: bool,
    ) -> anyhow::Result<Self> {
        let names = args.names()?;
        if names.len() > 1 {
            bail!(
                "a checkpoint is evaluated on one device, but --device names {}",
                device::list(&names)
            );
        }
        Self::open(args, data_dir, quiet)
    }

    /// How a run in `run_dir` is saved, shown and stopped.
    pub fn control(&self, run_dir: PathBuf, checkpoints: CheckpointArgs, again: bool) -> Control {
        Control {
            run_dir,
            checkpoint_interval: checkpoints.checkpoint_every,
            interrupter: self.interrupter.clone(),
            again,
            renderer: display::renderer(self.quiet, &self.interrupter),
            on_evaluation: display::evaluation(self.quiet),
        }
    }
}
