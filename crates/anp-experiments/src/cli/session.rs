//! What every command that trains or evaluates needs from its surroundings.

use std::path::Path;
use std::time::Duration;

use burn::tensor::Device;
use burn::train::Interrupter;

use super::interrupt::{self, Asked};
use crate::data::Store;
use crate::device::DeviceName;

/// `--device`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct DeviceArgs {
    /// Where to compute: flex, cuda:0, vulkan:1 … [default: the best there is; `anp devices` lists them]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceName>,
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
    pub store: Store,
    /// What a run asks.
    pub interrupter: Interrupter,
    /// What to ask between runs.
    pub asked: Asked,
}

impl Session {
    /// Open the device and say which one it is, unless `quiet`; listen for Ctrl-C.
    pub fn open(device: DeviceArgs, data_dir: Option<&Path>, quiet: bool) -> anyhow::Result<Self> {
        let device_name = device.name()?;
        let device = device_name.open()?;
        if !quiet {
            super::note(format!("device: {device_name} ({})", device_name.backend.description()));
        }
        let (interrupter, asked) = interrupt::on_signal()?;
        Ok(Self { device, device_name, store: Store::locate(data_dir), interrupter, asked })
    }
}
