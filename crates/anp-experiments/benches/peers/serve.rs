//! This program as a peer: one case in one process, driven line by line, as python/peer.py is.

use std::io::{BufRead, Write, stdin, stdout};
use std::time::Instant;

use anp_experiments::device::{Backend, DeviceName};
use anp_experiments::provenance::BURN_VERSION;
use anp_models::Kernels;
use anyhow::{Context, Result, bail};
use burn::tensor::{Device, FloatDType, IntDType};
use serde_json::json;

use crate::case::{Case, Model};
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
/// If the device is not there, or a line is none of the driver's.
pub fn serve(
    case: &Case,
    engine: Engine,
    work: Work,
    name: DeviceName,
    dtype: Dtype,
) -> Result<()> {
    let mut device = name.open()?;
    if dtype == Dtype::Bf16 {
        device.configure((FloatDType::BF16, IntDType::I32)).context("no bf16 here")?;
    }
    device.seed(0);
    let (label, mut steps): (_, Box<dyn Steps>) = match (work, engine, case.model) {
        (Work::Products, _, Model::Lstm | Model::VdLstm | Model::Sru) => {
            ("Burn products", Box::new(Products::new(case, &device)))
        }
        (_, Engine::Fused, Model::Lstm | Model::VdLstm | Model::Sru) => {
            ("anp", Box::new(OurSteps::new(case, Kernels::Fused, &device)))
        }
        (_, Engine::Plain, Model::Lstm | Model::VdLstm | Model::Sru) => {
            ("anp, plain", Box::new(OurSteps::new(case, Kernels::Plain, &device)))
        }
        (_, Engine::Stock, Model::Lstm) => {
            ("burn-nn Lstm", Box::new(StockLm::steps(case, &device)))
        }
        (_, Engine::Fused, Model::WideResNet) => {
            ("anp", Box::new(ImageSteps::new(case, Kernels::Fused, &device)))
        }
        (_, Engine::Plain, Model::WideResNet) => {
            ("anp, plain", Box::new(ImageSteps::new(case, Kernels::Plain, &device)))
        }
        (_, engine, model) => bail!("there is no {engine:?} with {model:?}"),
    };
    let versions = json!({ "burn": BURN_VERSION, "device": name.to_string() });
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
            _ => bail!("{line:?} is no command"),
        }
    }
    Ok(())
}

/// What the device's allocator holds now; it gives nothing back while steps are alike.
fn device_bytes(device: &Device, name: DeviceName) -> Option<u64> {
    match name.backend {
        Backend::Flex | Backend::Ndarray | Backend::Cpu => None,
        _ => device.memory_pool_usage().map(|usage| usage.bytes_reserved),
    }
}

fn answer(value: &serde_json::Value) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{value}").and_then(|()| out.flush()).context("the driver is gone")
}
