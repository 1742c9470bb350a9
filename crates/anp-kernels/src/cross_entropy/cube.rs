//! The forward half is a product and one kernel, in which each cube processes a token. The backward
//! half is three products and two element-wise kernels; with the terms on the logits, it is one
//! kernel, two products and a reduction.

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::ops::FloatTensorOps;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{
    CrossEntropyBackend, CrossEntropyBackward, CrossEntropyForward, CrossEntropyGradients,
    CrossEntropyOutputs, CrossEntropySaved,
};
use crate::cube::{
    cubes, empty, grid, into_contiguous, matmul_into, maximum_of_cube, owned, sum_of_cube, types,
    units_of_cube, wide,
};

/// Below this logarithm, a probability is 0, and so is its product with the logarithm.
const LOWEST: f32 = -1e3;

/// The terms of one token from its logits without bias. With `keep`, these are replaced with the
/// gradient of `nll`, or with `terms` by the logits with bias.
///
/// A target that is not one of the classes makes `nll` NaN.
#[cube(launch)]
fn token<F: Float, A: Float, I: Int>(
    logits: &mut [F],
    bias: &[F],
    targets: &[I],
    values: &mut [F],
    statistics: &mut [A],
    nan: InputScalar,
    #[comptime] terms: bool,
    #[comptime] keep: bool,
    #[comptime] units: usize,
    #[define(F, A, I)] _types: [ElemType; 3],
) {
    let num_tokens = targets.len();
    let num_classes = bias.len();
    let token = CUBE_POS;
    if token >= num_tokens {
        terminate!();
    }
    let start = token * num_classes;
    let unit = UNIT_POS as usize;
    let target = usize::cast_from(targets[token]);

    let mut largest = A::min_value();
    let mut class = unit;
    while class < num_classes {
        largest = max(largest, A::cast_from(logits[start + class]) + A::cast_from(bias[class]));
        class += units;
    }
    let largest = maximum_of_cube::<A>(largest, units);

    let mut sum = A::new(0.0);
    let mut weighted = A::new(0.0);
    let mut square = A::new(0.0);
    let mut logit = A::new(0.0);
    let mut class = unit;
    while class < num_classes {
        let z = A::cast_from(logits[start + class]) + A::cast_from(bias[class]);
        let e = (z - largest).exp();
        sum += e;
        if class == target {
            logit = z - largest;
        }
        if comptime!(terms) {
            weighted += e * max(z - largest, A::new(LOWEST));
            square += z * z;
        }
        class += units;
    }
    let sum = sum_of_cube::<A>(sum, units);
    let logit = sum_of_cube::<A>(logit, units);
    let ln_sum = sum.ln();
    if comptime!(terms) {
        let weighted = sum_of_cube::<A>(weighted, units);
        let square = sum_of_cube::<A>(square, units);
        if unit == 0 {
            values[num_tokens + token] = F::cast_from(square);
            values[2 * num_tokens + token] = F::cast_from(ln_sum - weighted / sum);
            values[3 * num_tokens + token] = F::cast_from(largest + ln_sum);
            if comptime!(keep) {
                statistics[2 * token] = largest;
                statistics[2 * token + 1] = ln_sum;
            }
        }
    }
    if unit == 0 {
        let mut nll = ln_sum - logit;
        if target >= num_classes {
            nll = nan.get::<A>();
        }
        values[token] = F::cast_from(nll);
    }

    if comptime!(keep) {
        let mut class = unit;
        while class < num_classes {
            let z = A::cast_from(logits[start + class]) + A::cast_from(bias[class]);
            if comptime!(terms) {
                logits[start + class] = F::cast_from(z);
            } else {
                let mut gradient = (z - largest).exp() / sum;
                if class == target {
                    gradient -= A::new(1.0);
                }
                logits[start + class] = F::cast_from(gradient);
            }
            class += units;
        }
    }
}

/// Replace the kept logits with their gradient.
///
/// ```text
/// dz = g_nll (p − y) + 2 g_square z − g_entropy p (ln p + entropy) + g_log_partition p
/// ```
#[cube(launch)]
fn logits_gradient<F: Float, A: Float, I: Int>(
    logits: &mut [F],
    targets: &[I],
    values: &[F],
    statistics: &[A],
    upstream: &[F],
    #[define(F, A, I)] _types: [ElemType; 3],
) {
    let at = ABSOLUTE_POS;
    if at >= logits.len() {
        terminate!();
    }
    let num_tokens = targets.len();
    let num_classes = logits.len() / num_tokens;
    let token = at / num_classes;
    let nll_grad = A::cast_from(upstream[token]);
    let factor = A::new(2.0) * A::cast_from(upstream[num_tokens + token]);
    let entropy_grad = A::cast_from(upstream[2 * num_tokens + token]);
    let log_partition_grad = A::cast_from(upstream[3 * num_tokens + token]);
    let entropy = A::cast_from(values[2 * num_tokens + token]);
    let largest = statistics[2 * token];
    let ln_sum = statistics[2 * token + 1];

    let z = A::cast_from(logits[at]);
    let ln_p = max(z - largest - ln_sum, A::new(LOWEST));
    let of_p = nll_grad + log_partition_grad - entropy_grad * (ln_p + entropy);
    let mut gradient = ln_p.exp() * of_p;
    // A class may be excluded by −∞, whose square must not matter if its factor is 0.
    if factor != A::new(0.0) {
        gradient += factor * z;
    }
    if at % num_classes == usize::cast_from(targets[token]) {
        gradient -= nll_grad;
    }
    logits[at] = F::cast_from(gradient);
}

fn transposed(matrix: CubeTensor) -> CubeTensor {
    CubeBackend::float_swap_dims(matrix, 0, 1)
}

/// The layer's weight, `[d_hidden, num_classes]`.
fn of_layer(weight: CubeTensor, tied: bool) -> CubeTensor {
    if tied { transposed(weight) } else { weight }
}

fn matmul(lhs: CubeTensor, rhs: CubeTensor) -> CubeTensor {
    let out = empty(&lhs, [lhs.meta.shape()[0], rhs.meta.shape()[1]], lhs.dtype);
    matmul_into(lhs, rhs, &out);
    out
}

impl CrossEntropyBackend for CubeBackend {
    fn cross_entropy_forward(inputs: CrossEntropyForward<Self>) -> CrossEntropyOutputs<Self> {
        let CrossEntropyForward { hidden, weight, bias, targets, tied, terms, keep, .. } = inputs;
        let [own, arithmetic] = types(&hidden);
        let [bias, targets] = [bias, targets].map(into_contiguous);
        let [num_tokens] = targets.shape().dims();
        let logits = matmul(hidden, of_layer(weight, tied));
        let values = empty(&logits, [if terms { 4 } else { 1 }, num_tokens], logits.dtype);
        let has_statistics = keep && terms;
        let statistics = if has_statistics { [num_tokens, 2] } else { [1, 1] };
        let statistics = empty(&logits, statistics, wide(logits.dtype));
        let client = logits.client.clone();
        let units = units_of_cube(&client);
        let index = dtype_to_storage_type(targets.dtype);
        token::launch(
            &client,
            cubes(&client, num_tokens),
            CubeDim::new_1d(units as u32),
            logits.clone().into_buffer_arg(),
            bias.into_buffer_arg(),
            targets.into_buffer_arg(),
            values.clone().into_buffer_arg(),
            statistics.clone().into_buffer_arg(),
            InputScalar::new(f64::NAN, arithmetic),
            terms,
            keep,
            units,
            [own, arithmetic, index],
        );
        CrossEntropyOutputs {
            values,
            logits: keep.then_some(logits).into(),
            statistics: has_statistics.then_some(statistics).into(),
        }
    }
}

impl CrossEntropyBackward for CubeBackend {
    fn cross_entropy_backward(
        saved: CrossEntropySaved<Self>,
        values_grad: CubeTensor,
    ) -> CrossEntropyGradients<Self> {
        let CrossEntropySaved { inputs, outputs } = saved;
        let CrossEntropyForward { hidden, weight, targets, tied, .. } = inputs;
        let [_, num_tokens] = values_grad.shape().dims();
        let kept = outputs.logits.into_option().expect("the forward step kept the logits");
        let [_, num_classes] = kept.shape().dims();
        let back = transposed(of_layer(weight, tied));
        // The buffer is large and the hidden states are small: apply each token's factor to these.
        let (logits_grad, hidden, factor, bias) = match outputs.statistics.into_option() {
            None => {
                let bias = matmul(values_grad.clone(), kept.clone());
                let factor = Self::float_reshape(values_grad, [num_tokens, 1].into());
                (kept, Self::float_mul(hidden, factor.clone()), Some(factor), bias)
            }
            Some(statistics) => {
                let [targets, values, statistics, values_grad] =
                    [targets, outputs.values, statistics, values_grad].map(into_contiguous);
                let logits = owned(kept);
                let [own, arithmetic] = types(&logits);
                let (count, dim) = grid(&logits.client, num_tokens * num_classes);
                let index = dtype_to_storage_type(targets.dtype);
                logits_gradient::launch(
                    &logits.client,
                    count,
                    dim,
                    logits.clone().into_buffer_arg(),
                    targets.into_buffer_arg(),
                    values.into_buffer_arg(),
                    statistics.into_buffer_arg(),
                    values_grad.into_buffer_arg(),
                    [own, arithmetic, index],
                );
                let bias = Self::float_sum_dim(logits.clone(), 0);
                (logits, hidden, None, bias)
            }
        };
        let hidden_grad = matmul(logits_grad.clone(), back);
        CrossEntropyGradients {
            hidden: match factor {
                Some(factor) => Self::float_mul(hidden_grad, factor),
                None => hidden_grad,
            },
            weight: match tied {
                true => matmul(transposed(logits_grad), hidden),
                false => matmul(transposed(hidden), logits_grad),
            },
            bias: Self::float_reshape(bias, [num_classes].into()),
        }
    }
}
