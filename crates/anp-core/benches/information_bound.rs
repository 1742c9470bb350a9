//! The information bound with its gradient, at the size of the paper's medium language model on
//! Penn Treebank, beside the penalty that is its trace.
//!
//! ```sh
//! cargo bench -p anp-core --bench information_bound
//! ```
//!
//! Without a bench framework: one more dependency would change features that Burn is built with.

use std::time::Instant;

use anp_core::{ExampleGroup, InformationBoundConfig, InformationTerms};
use burn::tensor::{Device, Distribution, Tensor};

const REPEATS: usize = 41;

fn main() {
    println!("forward and backward, 35 steps x 20 examples x 512 features, {REPEATS} repeats");
    for group in [ExampleGroup::TimeStep, ExampleGroup::Minibatch] {
        for terms in [InformationTerms::Trace, InformationTerms::TraceAndLogDeterminant] {
            let [fastest, median] = milliseconds(group, terms);
            println!("{group:<10} {terms:<26} median {median:8.2} ms, fastest {fastest:8.2} ms");
        }
    }
}

/// The shortest time and the median.
fn milliseconds(group: ExampleGroup, terms: InformationTerms) -> [f64; 2] {
    let device = Device::default().autodiff();
    device.seed(0);
    let noise = Distribution::Normal(0.0, 0.4);
    let hidden = Tensor::<3>::random([35, 20, 512], noise, &device).require_grad();
    let bound = InformationBoundConfig::new(1e-4)
        .with_batch_first(false)
        .with_group(group)
        .with_terms(terms)
        .init();
    let mut times: Vec<f64> = (0..REPEATS)
        .map(|_| {
            let start = Instant::now();
            let gradients = bound.forward(hidden.clone()).backward();
            device.sync().expect("the device finishes its work");
            drop(gradients);
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    [times[0], times[REPEATS / 2]]
}
