use anp_kernels::cross_entropy::{LinearCrossEntropyInputs, LogitTerms};
use anp_kernels::{Kernels, MatmulPrecision};
use burn::tensor::{Int, Tensor, TensorData};
use proptest::prelude::*;

use crate::{agree_in, agree_on_every_device, any_precision, proptest_config, weighted};
use anp_testing::{TestDevice, Values, gradient, values};

#[derive(Debug, Clone, Copy)]
struct Case {
    num_tokens: usize,
    d_hidden: usize,
    num_classes: usize,
    tied: bool,
    terms: bool,
    precision: MatmulPrecision,
}

fn run(case: Case, device: &TestDevice, kernels: Kernels) -> Values {
    let device = &device.autodiff();
    let Case { num_tokens, d_hidden, num_classes, tied, terms, precision } = case;
    let shape = if tied { [num_classes, d_hidden] } else { [d_hidden, num_classes] };
    let hidden = device.leaf(1, [num_tokens, d_hidden], 1.0);
    let weight = device.leaf(2, shape, 1.0);
    let bias = device.leaf(3, [num_classes], 1.0);
    let targets: Vec<i64> = (0..num_tokens).map(|n| ((7 * n + 3) % num_classes) as i64).collect();
    let targets: Tensor<1, Int> =
        Tensor::from_data(TensorData::new(targets, [num_tokens]), &device.device);
    let inputs = LinearCrossEntropyInputs {
        hidden: hidden.clone(),
        weight: weight.clone(),
        tied,
        bias: bias.clone(),
        targets,
        precision,
    };
    let outputs = if terms {
        let LogitTerms { nll, square, entropy, log_partition } = kernels.logit_terms(inputs);
        vec![
            ("nll", nll),
            ("square", square),
            ("entropy", entropy),
            ("log_partition", log_partition),
        ]
    } else {
        vec![("nll", kernels.linear_cross_entropy(inputs))]
    };
    let losses =
        outputs.iter().zip(4..).map(|((_, output), seed)| weighted(output.clone(), device, seed));
    let gradients = losses.reduce(|sum, loss| sum + loss).unwrap().backward();
    let mut results: Values =
        outputs.into_iter().map(|(name, output)| (name, values(output))).collect();
    results.push(("hidden's gradient", gradient(&hidden, &gradients)));
    results.push(("weight's gradient", gradient(&weight, &gradients)));
    results.push(("bias' gradient", gradient(&bias, &gradients)));
    results
}

#[test]
fn agrees_with_the_reference_on_every_device() {
    for (tied, terms) in [(false, false), (true, false), (false, true), (true, true)] {
        let precision = MatmulPrecision::Full;
        let case = Case { num_tokens: 5, d_hidden: 7, num_classes: 33, tied, terms, precision };
        agree_on_every_device(case, run);
    }
}

proptest! {
    #![proptest_config(proptest_config(32))]

    #[test]
    fn agrees_with_the_reference_on_any_shape(
        num_tokens in 1_usize..40,
        d_hidden in 1_usize..40,
        num_classes in 1_usize..300,
        tied: bool,
        terms: bool,
        precision in any_precision(),
    ) {
        let case = Case { num_tokens, d_hidden, num_classes, tied, terms, precision };
        agree_in(precision, case, run);
    }
}

#[cfg(feature = "flex")]
#[test]
#[should_panic(expected = "target")]
fn a_target_outside_of_the_classes_is_named() {
    let device = TestDevice::cpus().next().unwrap();
    anp_kernels::cross_entropy::linear_cross_entropy(LinearCrossEntropyInputs {
        hidden: device.random(1, [2, 3], 1.0),
        weight: device.random(2, [3, 4], 1.0),
        tied: false,
        bias: device.random(3, [4], 1.0),
        targets: Tensor::from_data([1, 9], &device.device),
        precision: MatmulPrecision::Full,
    });
}
