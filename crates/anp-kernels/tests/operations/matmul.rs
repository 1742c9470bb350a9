use anp_kernels::Kernels;
use proptest::prelude::*;

use crate::{agree_on_cpus, proptest_config, weighted};
use anp_testing::{TestDevice, Values, gradient, values};

#[derive(Debug, Clone, Copy)]
struct Case {
    rows: usize,
    inner: usize,
    columns: usize,
    /// Whether the left matrix is a transposed view.
    transposed: bool,
}

fn run(case: Case, device: &TestDevice, kernels: Kernels) -> Values {
    let device = &device.autodiff();
    let Case { rows, inner, columns, transposed } = case;
    let lhs = device.leaf(1, if transposed { [inner, rows] } else { [rows, inner] }, 1.0);
    let rhs = device.leaf(2, [inner, columns], 1.0);
    let view = if transposed { lhs.clone().transpose() } else { lhs.clone() };
    let out = kernels.matmul(view, rhs.clone());
    let gradients = weighted(out.clone(), device, 3).backward();
    vec![
        ("product", values(out)),
        ("gradient of lhs", gradient(&lhs, &gradients)),
        ("gradient of rhs", gradient(&rhs, &gradients)),
    ]
}

proptest! {
    #![proptest_config(proptest_config(32))]

    #[test]
    fn agrees_with_the_reference_on_any_shape(
        rows in 1_usize..50,
        inner in 1_usize..50,
        columns in 1_usize..50,
        transposed: bool,
    ) {
        agree_on_cpus(Case { rows, inner, columns, transposed }, run);
    }
}
