//! Fused operations against their references in Burn's operations, forward and every gradient, on
//! every device of this build.

mod batch_norm;
#[cfg(feature = "flex")]
mod burn_operations;
mod conv2d;
mod cross_entropy;
mod lstm;
mod matmul;
mod random;
mod rhn;
mod sampled_weight;
mod sgd;
mod square_norm;
mod sru;

use std::fmt::Debug;

use anp_kernels::Kernels;
use anp_testing::{TestDevice, Values, assert_values_close};
use burn::tensor::Tensor;

/// What an operation computes in a case on a device.
type Run<C> = fn(C, &TestDevice, Kernels) -> Values;

/// Panic unless the fused operation and its reference compute the same.
#[track_caller]
fn agree<C: Debug + Copy>(case: C, device: &TestDevice, run: Run<C>) {
    let [fused, plain] = [Kernels::Fused, Kernels::Plain].map(|kernels| run(case, device, kernels));
    assert_values_close(&format!("{case:?} on {device:?}"), &fused, &plain, device.tolerance());
}

#[track_caller]
fn agree_on_every_device<C: Debug + Copy>(case: C, run: Run<C>) {
    TestDevice::all().iter().for_each(|device| agree(case, device, run));
}

#[track_caller]
fn agree_on_cpus<C: Debug + Copy>(case: C, run: Run<C>) {
    TestDevice::cpus().for_each(|device| agree(case, device, run));
}

/// `Σ w x` with another weight for every element.
fn weighted<const D: usize>(tensor: Tensor<D>, device: &TestDevice, seed: u64) -> Tensor<1> {
    let weights = device.random(seed, tensor.dims(), 1.0);
    (tensor * weights).sum()
}

/// As many cases as take a while, and no file of failures.
fn proptest_config(cases: u32) -> proptest::prelude::ProptestConfig {
    proptest::prelude::ProptestConfig { cases, failure_persistence: None, ..Default::default() }
}
