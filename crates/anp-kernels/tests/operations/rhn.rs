use anp_kernels::rhn::RhnInputs;
use anp_kernels::{Kernels, MatmulPrecision};
use proptest::prelude::*;

use crate::{agree_in, agree_on_every_device, any_precision, proptest_config, weighted};
use anp_testing::{TestDevice, Values, gradient, values};

#[derive(Debug, Clone, Copy)]
struct Case {
    seq_length: usize,
    depth: usize,
    batch_size: usize,
    d_hidden: usize,
    mask_groups: Option<usize>,
    precision: MatmulPrecision,
}

fn run(case: Case, device: &TestDevice, kernels: Kernels) -> Values {
    let device = &device.autodiff();
    let Case { seq_length, depth, batch_size, d_hidden, mask_groups, precision } = case;
    let range = 2.0 / (d_hidden as f64).sqrt();
    let gates = device.leaf(1, [seq_length, batch_size, 2 * d_hidden], 2.0);
    let weight_hidden = device.leaf(2, [depth, d_hidden, 2 * d_hidden], range);
    let bias = device.leaf(3, [depth, 2 * d_hidden], 1.0);
    let state = device.leaf(4, [batch_size, d_hidden], 1.0);
    let hidden = kernels.rhn_sequence(RhnInputs {
        gates: gates.clone(),
        weight_hidden: weight_hidden.clone(),
        bias: bias.clone(),
        mask: mask_groups.map(|groups| device.mask(5, [groups, batch_size, d_hidden])),
        state: state.clone(),
        precision,
    });
    let gradients = weighted(hidden.clone(), device, 6).backward();
    vec![
        ("hidden", values(hidden)),
        ("gates' gradient", gradient(&gates, &gradients)),
        ("weight's gradient", gradient(&weight_hidden, &gradients)),
        ("bias' gradient", gradient(&bias, &gradients)),
        ("state's gradient", gradient(&state, &gradients)),
    ]
}

#[test]
fn agrees_with_the_reference_on_every_device() {
    for (depth, mask_groups) in [(1, None), (3, Some(1)), (2, Some(2))] {
        let (seq_length, batch_size, d_hidden) = (3, 2, 5);
        let precision = MatmulPrecision::Full;
        let case = Case { seq_length, depth, batch_size, d_hidden, mask_groups, precision };
        agree_on_every_device(case, run);
    }
    for (seq_length, depth, batch_size, d_hidden) in [(1, 2, 1, 1), (4, 2, 3, 33)] {
        let (mask_groups, precision) = (None, MatmulPrecision::Full);
        let case = Case { seq_length, depth, batch_size, d_hidden, mask_groups, precision };
        agree_on_every_device(case, run);
    }
}

proptest! {
    #![proptest_config(proptest_config(32))]

    #[test]
    fn agrees_with_the_reference_on_any_shape(
        seq_length in 1_usize..5,
        depth in 1_usize..5,
        batch_size in 1_usize..20,
        d_hidden in 1_usize..50,
        mask_groups in prop_oneof![Just(None), Just(Some(1)), Just(Some(2))],
        precision in any_precision(),
    ) {
        let case = Case { seq_length, depth, batch_size, d_hidden, mask_groups, precision };
        agree_in(precision, case, run);
    }
}
