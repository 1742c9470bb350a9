use anp_kernels::Kernels;
use anp_kernels::batch_norm::{BatchNormInputs, BatchStatistics};
use burn::tensor::DType;
use proptest::prelude::*;

use crate::{agree, agree_on_every_device, proptest_config, weighted};
use anp_testing::{TestDevice, Values, gradient, values};

#[derive(Debug, Clone, Copy)]
struct Case {
    shape: [usize; 4],
    of_batch: bool,
    relu: bool,
}

fn run(case: Case, device: &TestDevice, kernels: Kernels) -> Values {
    let device = &device.autodiff();
    let Case { shape, of_batch, relu } = case;
    let channels = [shape[1]];
    let input = device.leaf(1, shape, 2.0);
    let gamma = device.leaf(2, channels, 1.0);
    let beta = device.leaf(3, channels, 1.0);
    let (output, BatchStatistics { mean, variance }) = kernels.batch_norm(BatchNormInputs {
        input: input.clone(),
        gamma: gamma.clone(),
        beta: beta.clone(),
        statistics: (!of_batch).then(|| BatchStatistics {
            mean: device.random(4, channels, 1.0),
            variance: device.random(5, channels, 1.0).square(),
        }),
        // Two values may be close to each other; the reciprocal of their deviation is bounded.
        epsilon: 0.1,
        relu,
    });
    let gradients = weighted(output.clone(), device, 6).backward();
    vec![
        ("output", values(output)),
        ("mean", values(mean)),
        ("variance", values(variance)),
        ("input's gradient", gradient(&input, &gradients)),
        ("gamma's gradient", gradient(&gamma, &gradients)),
        ("beta's gradient", gradient(&beta, &gradients)),
    ]
}

#[test]
fn agrees_with_the_reference_on_every_device() {
    for (of_batch, relu) in [(true, false), (true, true), (false, false), (false, true)] {
        agree_on_every_device(Case { shape: [3, 4, 5, 6], of_batch, relu }, run);
    }
}

proptest! {
    #![proptest_config(proptest_config(32))]

    #[test]
    fn agrees_with_the_reference_on_any_shape(
        batch_size in 1_usize..5,
        channels in 1_usize..20,
        height in 1_usize..9,
        width in 1_usize..9,
        of_batch: bool,
        relu: bool,
    ) {
        for device in TestDevice::cpus() {
            // In single precision, rounding may move a value over the ReLU's kink.
            let relu = relu && device.dtype == DType::F64;
            let shape = [batch_size, channels, height, width];
            agree(Case { shape, of_batch, relu }, device, run);
        }
    }
}
