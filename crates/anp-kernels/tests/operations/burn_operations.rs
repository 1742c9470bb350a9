//! Burn's own operations on a GPU against the CPU: what the references, and kernels in part, are
//! made of.
//!
//! Drivers miscompile: software that stood in for a GPU once gave wrong products. This test names
//! the operation.

use anp_testing::{TestDevice, Values, assert_values_close, values};
use burn::tensor::activation::{log_softmax, sigmoid, tanh};
use burn::tensor::{DType, Device, IndexingUpdateOp, Int, Tensor, TensorData};

/// Each operation on tensors of sizes around `[rows, inner] × [inner, columns]`.
fn operations(device: &TestDevice, [batch, rows, inner, columns]: [usize; 4]) -> Values {
    let lhs = device.random(1, [rows, inner], 1.0);
    let rhs = device.random(2, [inner, columns], 1.0);
    let wide = device.random(3, [rows, columns], 2.0);
    let stack = device.random(4, [batch, rows, inner], 1.0);
    let other = device.random(5, [batch, inner, columns], 1.0);
    let ids: Vec<i64> = (0..columns).map(|n| ((5 * n + 2) % rows) as i64).collect();
    let ids: Tensor<1, Int> = Tensor::from_data(TensorData::new(ids, [columns]), &device.device);
    let column: Vec<i64> = (0..rows).map(|n| ((7 * n + 3) % columns) as i64).collect();
    let column: Tensor<2, Int> =
        Tensor::from_data(TensorData::new(column, [rows, 1]), &device.device);
    let half = rows.div_ceil(2);
    vec![
        ("product", values(lhs.clone().matmul(rhs.clone()))),
        ("product of transposes", {
            let [lhs, rhs] =
                [&lhs, &rhs].map(|x| x.clone().transpose().mul_scalar(1.0).transpose());
            values(lhs.matmul(rhs))
        }),
        ("products", values(stack.clone().matmul(other))),
        ("products with one matrix", values(stack.clone().matmul(rhs.clone().unsqueeze()))),
        ("gradient's product", values(lhs.clone().transpose().matmul(wide.clone()))),
        ("sum", values(wide.clone().sum())),
        ("sum over rows", values(wide.clone().sum_dim(0))),
        ("sum over columns", values(wide.clone().sum_dim(1))),
        ("sum over the batch", values(stack.clone().sum_dim(0))),
        ("mean", values(wide.clone().mean())),
        ("maximum", values(wide.clone().max_dim(1))),
        ("log-softmax", values(log_softmax(wide.clone(), 1))),
        ("sigmoid", values(sigmoid(wide.clone()))),
        ("tanh", values(tanh(wide.clone()))),
        ("exponential", values(wide.clone().exp())),
        ("root", values(wide.clone().square().sqrt())),
        ("gather", values(wide.clone().gather(1, column.clone()))),
        ("scatter", {
            let upstream = device.random(6, [rows, 1], 1.0);
            values(wide.zeros_like().scatter(1, column, upstream, IndexingUpdateOp::Add))
        }),
        ("select", values(lhs.clone().select(0, ids.clone()))),
        ("rows added", {
            let rows = device.random(7, [columns, inner], 1.0);
            values(lhs.clone().select_assign(0, ids, rows, IndexingUpdateOp::Add))
        }),
        ("cat", values(Tensor::cat(vec![wide.clone(), lhs.clone().matmul(rhs)], 0))),
        ("stack", values(Tensor::stack::<3>(vec![wide.clone(), wide.clone() * 2.0], 1))),
        ("slice", values(stack.clone().narrow(1, rows - half, half).sum_dim(2))),
        ("assigned slice", {
            let part = device.random(8, [half, columns], 1.0);
            values(wide.clone().slice_assign([0..half, 0..columns], part))
        }),
        ("permuted", values(stack.permute([2, 0, 1]).mul_scalar(2.0))),
        ("broadcast", {
            let row = device.random(9, [1, columns], 1.0);
            let column = device.random(10, [rows, 1], 1.0);
            values(wide.clone() * row + column)
        }),
        ("masked", values(wide.clone().mask_fill(wide.greater_elem(0.5), 3.0))),
    ]
}

/// Single numbers, and odd sizes of which one is more than a tile of a product.
#[test]
fn a_gpu_agrees_with_the_cpu() {
    let Some(device) = TestDevice::wgpu() else { return };
    let exact = TestDevice { device: Device::flex(), dtype: DType::F64 };
    for shape in [[1, 1, 1, 1], [3, 20, 7, 70]] {
        let (actual, expected) = (operations(&device, shape), operations(&exact, shape));
        let what = format!("{shape:?} on {device:?}");
        assert_values_close(&what, &actual, &expected, device.tolerance());
    }
}
