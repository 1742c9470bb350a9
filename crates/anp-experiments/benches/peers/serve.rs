//! This program as a peer: one case in one process, driven line by line, as python/peer.py is.

use std::io::{BufRead, Write, stdin, stdout};
use std::time::Instant;

use anp_experiments::device::DeviceName;
use anp_experiments::provenance::BURN_VERSION;
use anp_models::{Kernels, MatmulPrecision};
use anyhow::{Context, Result, bail};
use burn::tensor::{Device, FloatDType, IntDType};
use serde_json::json;

use crate::case::{Case, Mode, Model};
use crate::images::ImageSteps;
use crate::ours::OurSteps;
use crate::peer::{Dtype, Engine, Work};
use crate::products::Products;
use crate::steps::Steps;
use crate::stock::StockLm;

/// Answer the driver until it says `quit`.
///
/// # Errors
///
/// If the device is not there, or a line is not one of the driver's.
pub fn serve(
    case: &Case,
    engine: Engine,
    work: Work,
    name: DeviceName,
    dtype: Dtype,
) -> Result<()> {
    let mut device = name.open()?;
    // On a CPU products alone are of bfloat16.
    let is_mixed = dtype == Dtype::Bf16 && name.backend.is_cpu();
    let precision = if is_mixed { MatmulPrecision::Bf16 } else { MatmulPrecision::Full };
    if dtype == Dtype::Bf16 && !is_mixed {
        device.configure((FloatDType::BF16, IntDType::I32)).context("no bf16 here")?;
    }
    device.seed(0);
    let label = match (work, engine) {
        (Work::Products, _) => "Burn products",
        (_, Engine::Fused) => "anp",
        (_, Engine::Plain) => "anp, plain",
        _ => "burn-nn Lstm",
    };
    let kernels = if engine == Engine::Fused { Kernels::Fused } else { Kernels::Plain };
    let graph = match case.mode {
        Mode::Train => device.clone().autodiff(),
        Mode::Evaluate => device.clone(),
    };
    let is_image = case.model == Model::WideResNet;
    let mut steps: Box<dyn Steps> = match (work, engine) {
        (Work::Products, _) if !is_image => Box::new(Products::new(case, &device)),
        (_, Engine::Fused | Engine::Plain) if is_image => {
            Box::new(ImageSteps::new(case, kernels, precision, &graph))
        }
        (_, Engine::Fused | Engine::Plain) => {
            Box::new(OurSteps::new(case, kernels, precision, &graph))
        }
        (_, Engine::Stock) if case.model == Model::Lstm => Box::new(StockLm::steps(case, &graph)),
        (_, engine) => bail!("there is no {engine:?} with {:?}", case.model),
    };
    let versions = json!({
        "burn": BURN_VERSION,
        "device": name.to_string(),
        "kernels": anp_kernels::instructions(),
    });
    answer(&json!({ "name": label, "versions": versions }))?;

    for line in stdin().lock().lines() {
        let line = line?;
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["step", count] => {
                let start = Instant::now();
                let mut loss = None;
                for _ in 0..count.parse()? {
                    loss = Some(steps.step());
                }
                device.sync().context("the device fails")?;
                let seconds = start.elapsed().as_secs_f64();
                let loss = loss.context("no step was asked for")?.into_scalar::<f32>();
                answer(&json!({ "seconds": seconds, "loss": loss }))?;
            }
            ["quit"] => return answer(&json!({ "device_bytes": device_bytes(&device, name) })),
            _ => bail!("{line:?} is not a command"),
        }
    }
    Ok(())
}

/// What the device's allocator holds now; it gives nothing back while steps are alike.
fn device_bytes(device: &Device, name: DeviceName) -> Option<u64> {
    let usage = if name.backend.is_cpu() { None } else { device.memory_pool_usage() };
    usage.map(|usage| usage.bytes_reserved)
}

fn answer(value: &serde_json::Value) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{value}").and_then(|()| out.flush()).context("the driver is gone")
}
