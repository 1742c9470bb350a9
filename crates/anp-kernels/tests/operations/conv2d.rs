use anp_kernels::conv2d::{Conv2dInputs, Conv2dOptions};
use anp_kernels::{Kernels, MatmulPrecision};
use proptest::prelude::*;

use crate::{agree_in, agree_on_every_device, any_precision, proptest_config, weighted};
use anp_testing::{TestDevice, Values, gradient, values};

#[derive(Debug, Clone, Copy)]
struct Case {
    batch_size: usize,
    channels: [usize; 2],
    input: [usize; 2],
    kernel: [usize; 2],
    bias: bool,
    options: Conv2dOptions,
    precision: MatmulPrecision,
}

fn run(case: Case, device: &TestDevice, kernels: Kernels) -> Values {
    let device = &device.autodiff();
    let Case { batch_size, channels: [channels_in, channels_out], options, .. } = case;
    let input = device.leaf(1, [batch_size, channels_in, case.input[0], case.input[1]], 1.0);
    let weight = device.leaf(2, [channels_out, channels_in, case.kernel[0], case.kernel[1]], 1.0);
    let bias = case.bias.then(|| device.leaf(3, [channels_out], 1.0));
    let output = kernels.conv2d(Conv2dInputs {
        input: input.clone(),
        weight: weight.clone(),
        bias: bias.clone(),
        options,
        precision: case.precision,
    });
    let gradients = weighted(output.clone(), device, 4).backward();
    let mut results = vec![
        ("output", values(output)),
        ("input's gradient", gradient(&input, &gradients)),
        ("weight's gradient", gradient(&weight, &gradients)),
    ];
    results.extend(bias.map(|bias| ("bias' gradient", gradient(&bias, &gradients))));
    results
}

#[test]
fn agrees_with_the_reference_on_every_device() {
    for (kernel, stride, padding, bias) in
        [(3, 1, 1, false), (3, 2, 1, true), (1, 1, 0, true), (1, 2, 0, false)]
    {
        let options = Conv2dOptions { stride: [stride; 2], padding: [padding; 2] };
        let (channels, input, kernel) = ([3, 5], [6, 7], [kernel; 2]);
        let case =
            |precision| Case { batch_size: 2, channels, input, kernel, bias, options, precision };
        agree_on_every_device(case(MatmulPrecision::Full), run);
        agree_in(MatmulPrecision::Bf16, case(MatmulPrecision::Bf16), run);
    }
}

proptest! {
    #![proptest_config(proptest_config(32))]

    #[test]
    fn agrees_with_the_reference_on_any_shape(
        batch_size in 1_usize..5,
        channels in prop::array::uniform2(1_usize..20),
        input in prop::array::uniform2(1_usize..12),
        kernel in prop::array::uniform2(1_usize..4),
        bias: bool,
        stride in prop::array::uniform2(1_usize..4),
        padding in prop::array::uniform2(0_usize..3),
        precision in any_precision(),
    ) {
        let fits = |axis: usize| kernel[axis] <= input[axis] + 2 * padding[axis];
        prop_assume!(fits(0) && fits(1));
        let options = Conv2dOptions { stride, padding };
        let case = Case { batch_size, channels, input, kernel, bias, options, precision };
        agree_in(precision, case, run);
    }
}

#[cfg(feature = "flex")]
#[test]
#[should_panic(
    expected = "a kernel of 3 × 3 is larger than the input of 2 × 5 with its padding of 0, 0"
)]
fn a_kernel_larger_than_its_input_is_named() {
    let device = TestDevice::cpus().next().unwrap();
    anp_kernels::conv2d::conv2d(Conv2dInputs {
        input: device.random(1, [1, 2, 2, 5], 1.0),
        weight: device.random(2, [4, 2, 3, 3], 1.0),
        bias: None,
        options: Conv2dOptions::default(),
        precision: MatmulPrecision::Full,
    });
}
