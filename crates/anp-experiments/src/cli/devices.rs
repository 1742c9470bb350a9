//! `anp devices`: what is compiled in, what is present, what would have to be added.

use std::process::ExitCode;

use anp_kernels::instructions;
use burn::tensor::Device;
use comfy_table::presets::NOTHING;

use super::output::{print, table};
use crate::device::{Backend, DeviceName};

/// Arguments of `anp devices`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anp devices                          what --device can name here
  anp reproduce table2 --device flex   compute on the CPU, whatever else there is

A backend that is not compiled in needs a build with its feature:
`cargo xtask --features cuda devices`.")]
pub(super) struct DevicesArgs {}

/// Run `anp devices`.
///
/// # Errors
///
/// If stdout cannot be written to.
pub(super) fn run() -> anyhow::Result<ExitCode> {
    let header = ["backend", "what for", "built in", "devices here"];
    let rows = Backend::all().map(|backend| {
        let devices = backend.devices();
        let built = match backend.is_compiled_in() {
            true => "yes".to_owned(),
            false => format!("--features {backend}"),
        };
        let present = match (backend.is_compiled_in(), devices.is_empty()) {
            (false, _) => "not looked for".to_owned(),
            (true, true) => "none".to_owned(),
            (true, false) => names(backend, &devices).join("\n"),
        };
        [backend.name().to_owned(), backend.description().to_owned(), built, present]
    });
    let mut text = table(NOTHING, header, 0..0, rows);
    if let Ok(best) = DeviceName::best() {
        text.push_str(&format!("Without --device, anp takes {best}.\n"));
    }
    text.push_str(&format!("Instruction sets of this CPU that kernels use: {}.\n", instructions()));
    print(text)?;
    Ok(ExitCode::SUCCESS)
}

/// The names that `--device` takes, each with what the device calls itself and whether it is
/// software.
fn names(backend: Backend, devices: &[Device]) -> Vec<String> {
    let name = |(index, device): (usize, &Device)| {
        let name = DeviceName { backend, index };
        let software = backend.is_software(device).then(|| "software, no GPU".to_owned());
        let remarks: Vec<_> = own_name(device).into_iter().chain(software).collect();
        match remarks.is_empty() {
            true => name.to_string(),
            false => format!("{name} ({})", remarks.join("; ")),
        }
    };
    devices.iter().enumerate().map(name).collect()
}

#[cfg(any(feature = "cpu", feature = "cuda", feature = "rocm", feature = "wgpu"))]
fn own_name(device: &Device) -> Option<String> {
    device.identity().map(|identity| identity.name)
}

#[cfg(not(any(feature = "cpu", feature = "cuda", feature = "rocm", feature = "wgpu")))]
fn own_name(_: &Device) -> Option<String> {
    None
}
