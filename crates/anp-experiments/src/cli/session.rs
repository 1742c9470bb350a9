//! What every command that trains or evaluates needs from its surroundings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anp_models::Kernels;
use anyhow::{Context, bail};
use burn::train::Interrupter;

use super::display;
use super::globals::Globals;
use super::interrupt::{self, Asked};
use crate::atomic;
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

/// `--checkpoint-every` and `--keep-epochs`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct CheckpointArgs {
    /// Save a checkpoint after so many seconds, and after each epoch in any case; 0 saves after
    /// each step
    #[arg(
        long, value_name = "SECONDS", default_value = "180", value_parser = seconds,
        allow_negative_numbers = true
    )]
    pub checkpoint_every: Duration,

    /// Keep the checkpoint of every epoch, for `anp analyze RUN --epochs`; otherwise, also when a
    /// run is resumed without it, all but the newest two checkpoints are deleted
    #[arg(long)]
    pub keep_epochs: bool,
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
    /// Open the devices and say which they are; listen for Ctrl-C.
    pub fn open(args: &DeviceArgs, globals: &Globals) -> anyhow::Result<Self> {
        let names = args.names()?;
        let devices = Devices::open(&names)?;
        let of = |name: &DeviceName| format!("{name} ({})", name.backend.description());
        let what = if names.len() == 1 { "device" } else { "devices" };
        globals.note(format!("{what}: {}", names.iter().map(of).collect::<Vec<_>>().join(", ")));
        let (interrupter, asked) = interrupt::on_signal()?;
        let place = Place { devices, kernels: args.kernels, store: globals.store() };
        Ok(Self { place, interrupter, asked, quiet: globals.quiet })
    }

    /// [`open`](Self::open) for runs whose records go to `folder`, which must be writable.
    pub fn for_records(
        folder: &Path,
        args: &DeviceArgs,
        globals: &Globals,
    ) -> anyhow::Result<Self> {
        atomic::check_writable(folder)
            .with_context(|| format!("cannot write records to {}", folder.display()))?;
        Self::open(args, globals)
    }

    /// [`open`](Self::open) where more than one device is of no use.
    pub fn on_one_device(args: &DeviceArgs, globals: &Globals) -> anyhow::Result<Self> {
        if args.device.len() > 1 {
            bail!(
                "a checkpoint is evaluated on one device, but --device names {}",
                device::list(&args.device)
            );
        }
        Self::open(args, globals)
    }

    /// How a run in `run_dir` is saved, shown and stopped.
    pub fn control(&self, run_dir: PathBuf, checkpoints: CheckpointArgs, again: bool) -> Control {
        Control {
            run_dir,
            checkpoint_interval: checkpoints.checkpoint_every,
            keep_epochs: checkpoints.keep_epochs,
            interrupter: self.interrupter.clone(),
            again,
            renderer: display::renderer(self.quiet, &self.interrupter),
            on_evaluation: display::evaluation(self.quiet),
        }
    }
}
