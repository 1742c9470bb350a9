use anp_kernels::Kernels;
use anp_kernels::sru::{Activation, SruInputs, SruSequence};
use proptest::prelude::*;

use crate::{agree_on_cpus, agree_on_every_device, proptest_config, weighted};
use anp_testing::{TestDevice, Values, gradient, values};

#[derive(Debug, Clone, Copy)]
struct Case {
    seq_length: usize,
    batch_size: usize,
    d_hidden: usize,
    highway: bool,
    mask: bool,
    activation: Activation,
}

fn run(case: Case, device: &TestDevice, kernels: Kernels) -> Values {
    let device = &device.autodiff();
    let Case { seq_length, batch_size, d_hidden, highway, mask, activation } = case;
    let parts = if highway { 3 } else { 4 };
    let product = device.leaf(1, [seq_length, batch_size, parts * d_hidden], 2.0);
    let x = device.leaf(2, [seq_length, batch_size, d_hidden], 1.0);
    let bias = device.leaf(3, [2 * d_hidden], 1.0);
    let cell0 = device.leaf(4, [batch_size, d_hidden], 1.0);
    let SruSequence { hidden, cell, last } = kernels.sru_sequence(SruInputs {
        product: product.clone(),
        highway: highway.then(|| x.clone()),
        bias: bias.clone(),
        mask: mask.then(|| device.mask(5, [batch_size, d_hidden])),
        cell: cell0.clone(),
        activation,
    });
    let loss = weighted(hidden.clone(), device, 6)
        + weighted(cell.clone(), device, 7)
        + weighted(last.clone(), device, 8);
    let gradients = loss.backward();
    let mut results = vec![
        ("hidden", values(hidden)),
        ("cell", values(cell)),
        ("last", values(last)),
        ("product's gradient", gradient(&product, &gradients)),
        ("bias' gradient", gradient(&bias, &gradients)),
        ("state's gradient", gradient(&cell0, &gradients)),
    ];
    if highway {
        results.push(("highway's gradient", gradient(&x, &gradients)));
    }
    results
}

#[test]
fn agrees_with_the_reference_on_every_device() {
    for (highway, mask) in [(true, false), (false, true)] {
        for activation in [Activation::Identity, Activation::Tanh, Activation::Relu] {
            let (seq_length, batch_size, d_hidden) = (4, 3, 9);
            let case = Case { seq_length, batch_size, d_hidden, highway, mask, activation };
            agree_on_every_device(case, run);
        }
    }
}

proptest! {
    #![proptest_config(proptest_config(32))]

    #[test]
    fn agrees_with_the_reference_on_any_shape(
        seq_length in 1_usize..8,
        batch_size in 1_usize..20,
        d_hidden in 1_usize..70,
        highway: bool,
        mask: bool,
        activation in prop_oneof![
            Just(Activation::Identity), Just(Activation::Tanh), Just(Activation::Relu)
        ],
    ) {
        let case = Case { seq_length, batch_size, d_hidden, highway, mask, activation };
        agree_on_cpus(case, run);
    }
}
