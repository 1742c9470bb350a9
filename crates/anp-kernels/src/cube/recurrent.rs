//! What the recurrent kernels have in common.
//!
//! Each step multiplies the hidden state with the recurrent weight, masked separately for each of
//! the `groups` of gates that have a mask of their own.

use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{empty, grid, into_contiguous, matmul_into, optional, types};
use crate::recurrence::Recurrence;

/// The index of `element` (of a state) in part `part` of a matrix `[batch_size, parts · d_hidden]`.
#[cube]
pub(crate) fn in_row(
    element: usize,
    d_hidden: usize,
    #[comptime] part: usize,
    #[comptime] parts: usize,
) -> usize {
    element + ((parts - 1) * (element / d_hidden) + part) * d_hidden
}

/// The same in a product `[groups, batch_size, parts / groups · d_hidden]`; `groups` is 1 or
/// `parts`.
#[cube]
pub(crate) fn in_product(
    element: usize,
    d_hidden: usize,
    states: usize,
    #[comptime] part: usize,
    #[comptime] parts: usize,
    #[comptime] groups: usize,
) -> usize {
    if comptime!(groups == 1) {
        in_row(element, d_hidden, part, parts)
    } else {
        part * states + element
    }
}

/// Write `state` times the mask of each group to `recurrent`.
#[cube]
pub(crate) fn write_masked<F: Float, A: Float>(
    state: A,
    mask: &ComptimeOption<&[F]>,
    recurrent: &mut [F],
    element: usize,
    states: usize,
    #[comptime] groups: usize,
) {
    #[unroll]
    for group in 0..groups {
        let at = group * states + element;
        #[comptime]
        let masked = match mask {
            ComptimeOption::Some(mask) => state * A::cast_from(mask[at]),
            ComptimeOption::None => state,
        };
        recurrent[at] = F::cast_from(masked);
    }
}

/// The gradient of a state from those of its masked copies.
#[cube]
pub(crate) fn read_masked<F: Float, A: Float>(
    product: &[F],
    mask: &ComptimeOption<&[F]>,
    element: usize,
    states: usize,
    #[comptime] groups: usize,
) -> A {
    let mut sum = A::new(0.0);
    #[unroll]
    for group in 0..groups {
        let at = group * states + element;
        #[comptime]
        let share = match mask {
            ComptimeOption::Some(mask) => A::cast_from(product[at]) * A::cast_from(mask[at]),
            ComptimeOption::None => A::cast_from(product[at]),
        };
        sum += share;
    }
    sum
}

/// The inputs of the products of all steps and layers: `[depth, groups, seq_length, batch_size,
/// d_hidden]`.
///
/// In the first layer, the input is the output of the previous step: `state0`, or in `hidden`. In
/// other layers, it is the output of the previous layer, in `inner`, `[depth − 1, seq_length,
/// batch_size, d_hidden]`.
#[cube(launch)]
fn states_before<F: Float, A: Float>(
    state0: &[F],
    hidden: &[F],
    inner: &ComptimeOption<&[F]>,
    mask: &ComptimeOption<&[F]>,
    before: &mut [F],
    #[comptime] groups: usize,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let sequence = hidden.len();
    let place = ABSOLUTE_POS;
    if place >= before.len() / groups {
        terminate!();
    }
    let states = state0.len();
    let element = place % states;
    let mut state = A::cast_from(state0[element]);
    if place >= states && place < sequence {
        state = A::cast_from(hidden[place - states]);
    }
    #[comptime]
    match inner {
        ComptimeOption::Some(inner) => {
            if place >= sequence {
                state = A::cast_from(inner[place - sequence]);
            }
        }
        ComptimeOption::None => {}
    }
    let layer = place / sequence;
    #[unroll]
    for group in 0..groups {
        #[comptime]
        let masked = match mask {
            ComptimeOption::Some(mask) => state * A::cast_from(mask[group * states + element]),
            ComptimeOption::None => state,
        };
        before[place + (layer * (groups - 1) + group) * sequence] = F::cast_from(masked);
    }
}

/// A [`Recurrence`] prepared for its steps.
pub(crate) struct Prepared {
    /// `[groups, batch_size, d_hidden]`, in row-major order.
    pub(crate) mask: Option<CubeTensor>,
    /// Groups of gates with a mask of their own.
    pub(crate) groups: usize,
    /// The weight of each layer: `[groups, d_hidden, parts / groups · d_hidden]`.
    pub(crate) weights: Vec<CubeTensor>,
    /// In row-major order.
    pub(crate) hidden0: CubeTensor,
}

impl Prepared {
    pub(crate) fn new(recurrence: Recurrence<CubeBackend>) -> Self {
        let Recurrence { weight_hidden, mask, hidden0, .. } = recurrence;
        let mask = mask.into_option().map(into_contiguous);
        let groups = mask.as_ref().map_or(1, |mask| mask.shape()[0]);
        let weights = match *weight_hidden.shape().as_slice() {
            [depth, d_hidden, width] => {
                let layer = |layer: usize| {
                    let range =
                        [(layer..layer + 1).into(), (0..d_hidden).into(), (0..width).into()];
                    let weight = CubeBackend::float_slice(weight_hidden.clone(), &range);
                    CubeBackend::float_reshape(weight, [d_hidden, width].into())
                };
                (0..depth).map(|index| grouped(layer(index), groups)).collect()
            }
            _ => vec![grouped(weight_hidden, groups)],
        };
        Self { mask, groups, weights, hidden0: into_contiguous(hidden0) }
    }

    /// The input of the first step's product: `[groups, batch_size, d_hidden]`.
    pub(crate) fn first_input(&self) -> CubeTensor {
        let [batch_size, d_hidden] = self.hidden0.shape().dims();
        let state =
            CubeBackend::float_reshape(self.hidden0.clone(), [1, batch_size, d_hidden].into());
        match &self.mask {
            Some(mask) => CubeBackend::float_mul(state, mask.clone()),
            None => state,
        }
    }

    /// The gradient of the first state, `[batch_size, d_hidden]`, from that of
    /// [`first_input`](Self::first_input).
    pub(crate) fn through_mask(&self, input_grad: CubeTensor) -> CubeTensor {
        let [_, batch_size, d_hidden] = input_grad.shape().dims();
        let state_grad = match &self.mask {
            Some(mask) => {
                let masked = CubeBackend::float_mul(input_grad, mask.clone());
                CubeBackend::float_sum_dim(masked, 0)
            }
            None => input_grad,
        };
        CubeBackend::float_reshape(state_grad, [batch_size, d_hidden].into())
    }

    /// The transpose of each layer's weight.
    pub(crate) fn transposed_weights(&self) -> Vec<CubeTensor> {
        self.weights.iter().cloned().map(transposed).collect()
    }

    /// Gradients of the recurrent weights, `[depth, d_hidden, parts · d_hidden]`, and of the
    /// biases, `[depth, parts · d_hidden]`, from those of the pre-activations, `[depth, seq_length,
    /// batch_size, parts · d_hidden]`.
    ///
    /// One kernel, one product for all steps and layers, and one reduction.
    pub(crate) fn weight_gradients(
        &self,
        gates_grad: CubeTensor,
        hidden: CubeTensor,
        inner: Option<CubeTensor>,
    ) -> (CubeTensor, CubeTensor) {
        let [depth, seq_length, batch_size, width] = gates_grad.shape().dims();
        let [_, d_hidden] = self.hidden0.shape().dims();
        let (groups, rows) = (self.groups, seq_length * batch_size);
        let (client, types, dtype) = (hidden.client.clone(), types(&hidden), hidden.dtype);
        let before = empty(&hidden, [depth, groups, rows, d_hidden], dtype);
        let (count, dim) = grid(&client, depth * rows * d_hidden);
        states_before::launch(
            &client,
            count,
            dim,
            self.hidden0.clone().into_buffer_arg(),
            hidden.into_buffer_arg(),
            optional(&inner),
            optional(&self.mask),
            before.clone().into_buffer_arg(),
            groups,
            types,
        );
        let weight_grad = empty(&before, [depth, groups, d_hidden, width / groups], dtype);
        let columns = [depth, rows, groups, width / groups];
        let columns = CubeBackend::float_reshape(gates_grad.clone(), columns.into());
        let columns = CubeBackend::float_permute(columns, &[0, 2, 1, 3]);
        matmul_into(transposed(before), columns, &weight_grad);
        let weight_grad = CubeBackend::float_permute(weight_grad, &[0, 2, 1, 3]);
        let weight_grad = CubeBackend::float_reshape(weight_grad, [depth, d_hidden, width].into());

        let gates_grad = CubeBackend::float_reshape(gates_grad, [depth, rows, width].into());
        let bias_grad = CubeBackend::float_sum_dim(gates_grad, 1);
        (weight_grad, CubeBackend::float_reshape(bias_grad, [depth, width].into()))
    }
}

/// A recurrent weight `[d_hidden, parts · d_hidden]` as `[groups, d_hidden, parts / groups ·
/// d_hidden]`.
fn grouped(weight: CubeTensor, groups: usize) -> CubeTensor {
    let [d_hidden, width] = weight.shape().dims();
    let weight = CubeBackend::float_reshape(weight, [d_hidden, groups, width / groups].into());
    into_contiguous(CubeBackend::float_permute(weight, &[1, 0, 2]))
}

/// The transpose of each matrix of the last two dimensions.
fn transposed(matrices: CubeTensor) -> CubeTensor {
    let rank = matrices.meta.num_dims();
    CubeBackend::float_swap_dims(matrices, rank - 2, rank - 1)
}
