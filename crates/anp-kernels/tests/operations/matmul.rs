use anp_kernels::{Kernels, MatmulPrecision};
use proptest::prelude::*;

use crate::{agree_in, any_precision, proptest_config, weighted};
use anp_testing::{TestDevice, Values, gradient, values};

#[derive(Debug, Clone, Copy)]
struct Case {
    rows: usize,
    inner: usize,
    columns: usize,
    /// Whether the left matrix is a transposed view.
    transposed: bool,
    precision: MatmulPrecision,
}

fn run(case: Case, device: &TestDevice, kernels: Kernels) -> Values {
    let device = &device.autodiff();
    let Case { rows, inner, columns, transposed, precision } = case;
    let lhs = device.leaf(1, if transposed { [inner, rows] } else { [rows, inner] }, 1.0);
    let rhs = device.leaf(2, [inner, columns], 1.0);
    let view = if transposed { lhs.clone().transpose() } else { lhs.clone() };
    let out = kernels.matmul(view, rhs.clone(), precision);
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
        precision in any_precision(),
    ) {
        agree_in(precision, Case { rows, inner, columns, transposed, precision }, run);
    }
}
