//! What every command that trains or evaluates needs from its surroundings.

use std::path::Path;
use std::time::Duration;

use anp_models::Kernels;
use burn::tensor::Device;
use burn::train::Interrupter;

use super::interrupt::{self, Asked};
use crate::data::Store;
use crate::device::DeviceName;

/// `--device` and `--kernels`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct DeviceArgs {
    /// Where to compute: flex, cuda:0, vulkan:1 … [default: the best there is; `anp devices` lists them]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceName>,

    /// How to compute: `fused` operations where the device has them, or `plain` ones of Burn; the results differ by
    /// rounding only
    #[arg(long, value_name = "KERNELS", default_value_t)]
    pub kernels: Kernels,
}

impl DeviceArgs {
    /// The device asked for, or the best one that is compiled in and present.
    pub fn name(self) -> anyhow::Result<DeviceName> {
        Ok(self.device.map_or_else(DeviceName::best, Ok)?)
    }
}

/// `--checkpoint-every`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct CheckpointArgs {
    /// Save a checkpoint after so many seconds, and after each epoch in any case; 0 saves after each step
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

/// A device, the data, and two things to ask whether to stop.
pub(super) struct Session {
    pub device: Device,
    pub device_name: DeviceName,
    pub kernels: Kernels,
    pub store: Store,
    /// What a run asks.
    pub interrupter: Interrupter,
    /// What to ask between runs.
    pub asked: Asked,
}

impl Session {
    /// Open the device and say which one it is, unless `quiet`; listen for Ctrl-C.
    pub fn open(args: DeviceArgs, data_dir: Option<&Path>, quiet: bool) -> anyhow::Result<Self> {
        let device_name = args.name()?;
        let device = device_name.open()?;
        if !quiet {
            super::note(format!("device: {device_name} ({})", device_name.backend.description()));
        }
        let (interrupter, asked) = interrupt::on_signal()?;
        let store = Store::locate(data_dir);
        Ok(Self { device, device_name, kernels: args.kernels, store, interrupter, asked })
    }
}
