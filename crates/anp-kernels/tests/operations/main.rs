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

use anp_kernels::{Kernels, MatmulPrecision};
use anp_testing::{TestDevice, Values, assert_values_close};
use burn::tensor::{DType, Tensor};
use proptest::prelude::*;

/// What an operation computes in a case on a device.
type Run<C> = fn(C, &TestDevice, Kernels) -> Values;

/// Panic unless the fused operation and its reference compute the same.
///
/// Products of rounded operands are compared in double precision (see [`exact`]): elsewhere an
/// operand that is off in its last place may be rounded to the next number.
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

/// The devices on which products of rounded operands can be compared with their reference.
fn exact() -> impl Iterator<Item = &'static TestDevice> {
    TestDevice::cpus().filter(|device| device.dtype == DType::F64)
}

/// [`agree`] on every CPU, or with rounded operands on the [`exact`] ones.
#[track_caller]
fn agree_in<C: Debug + Copy>(precision: MatmulPrecision, case: C, run: Run<C>) {
    match precision {
        MatmulPrecision::Full => agree_on_cpus(case, run),
        MatmulPrecision::Bf16 => exact().for_each(|device| agree(case, device, run)),
    }
}

fn any_precision() -> impl Strategy<Value = MatmulPrecision> {
    prop_oneof![Just(MatmulPrecision::Full), Just(MatmulPrecision::Bf16)]
}

/// `Σ w x` with another weight for every element.
fn weighted<const D: usize>(tensor: Tensor<D>, device: &TestDevice, seed: u64) -> Tensor<1> {
    let weights = device.random(seed, tensor.dims(), 1.0);
    (tensor * weights).sum()
}

/// As many cases as take a while, and no file of failures.
fn proptest_config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..Default::default() }
}
