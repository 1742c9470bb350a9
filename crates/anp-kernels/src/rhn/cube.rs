//! A micro-step is one product and one kernel, forward as backward. Backward, there follow one kernel, one product and one
//! reduction for all of them.

use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{RhnBackend, RhnBackward, RhnForward, RhnGradients, RhnOutputs, RhnSaved};
use crate::cube::recurrent::{Prepared, in_product, in_row, read_masked, write_masked};
use crate::cube::{
    empty, grid, into_contiguous, matmul_into, optional, owned, sigmoid, types, wide,
};

/// One micro-step: adds up and activates the gates, moves the state on, writes it to place `to` of `states`, and leaves it
/// masked in `recurrent` for the next product. `at` counts the micro-steps as `activated` does.
#[cube(launch)]
fn forward_step<F: Float, A: Float>(
    gates: &[F],
    product: &[F],
    bias: &[F],
    mask: &ComptimeOption<&[F]>,
    state: &mut [A],
    activated: &mut [F],
    states: &mut [F],
    recurrent: &mut [F],
    layer: u32,
    at: u32,
    to: u32,
    d_hidden: u32,
    #[comptime] groups: usize,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let len = state.len();
    let element = ABSOLUTE_POS;
    if element >= len {
        terminate!();
    }
    let layer = layer as usize;
    let n = d_hidden as usize;
    let row = in_row(element, n, 0usize, 2usize);
    let of_bias = 2 * layer * n + element % n;

    let mut h = A::cast_from(product[in_product(element, n, len, 0usize, 2usize, groups)])
        + A::cast_from(bias[of_bias]);
    let mut u = A::cast_from(product[in_product(element, n, len, 1usize, 2usize, groups)])
        + A::cast_from(bias[of_bias + n]);
    if layer == 0 {
        // In the first layer, micro-steps count as steps do.
        let of_gates = 2 * at as usize * len + row;
        h += A::cast_from(gates[of_gates]);
        u += A::cast_from(gates[of_gates + n]);
    }
    let h = h.tanh();
    let u = sigmoid::<A>(u);
    let before = state[element];
    let after = u * (h - before) + before;

    let of_activated = 2 * at as usize * len + row;
    activated[of_activated] = F::cast_from(h);
    activated[of_activated + n] = F::cast_from(u);
    state[element] = after;
    states[to as usize * len + element] = F::cast_from(after);
    write_masked::<F, A>(after, mask, recurrent, element, len, groups);
}

/// One micro-step: turns the activated gates into the gradient of their sums in place, and leaves it in `step_grad`,
/// grouped, for the product that gives the state before its share; `carry` has the rest. The state before is at place
/// `from` of `states`; behind the `last` micro-step of all nothing follows, and the `top` one of a step is its output.
#[cube(launch)]
fn backward_step<F: Float, A: Float>(
    gates: &mut [F],
    product: &[F],
    mask: &ComptimeOption<&[F]>,
    states: &[F],
    hidden_grad: &[F],
    step_grad: &mut [F],
    carry: &mut [A],
    step: u32,
    at: u32,
    from: u32,
    d_hidden: u32,
    top: u32,
    last: u32,
    #[comptime] groups: usize,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let len = carry.len();
    let element = ABSOLUTE_POS;
    if element >= len {
        terminate!();
    }
    let n = d_hidden as usize;
    let at = 2 * at as usize * len + in_row(element, n, 0usize, 2usize);

    let mut gradient = A::new(0.0);
    if top == 1 {
        gradient = A::cast_from(hidden_grad[step as usize * len + element]);
    }
    if last == 0 {
        gradient += carry[element] + read_masked::<F, A>(product, mask, element, len, groups);
    }

    let one = A::new(1.0);
    let h = A::cast_from(gates[at]);
    let u = A::cast_from(gates[at + n]);
    let before = A::cast_from(states[from as usize * len + element]);
    let h_grad = F::cast_from(gradient * u * (one - h * h));
    let u_grad = F::cast_from(gradient * (h - before) * u * (one - u));

    carry[element] = gradient * (one - u);
    gates[at] = h_grad;
    gates[at + n] = u_grad;
    step_grad[in_product(element, n, len, 0usize, 2usize, groups)] = h_grad;
    step_grad[in_product(element, n, len, 1usize, 2usize, groups)] = u_grad;
}

impl RhnBackend for CubeBackend {
    fn rhn_forward(inputs: RhnForward<Self>) -> RhnOutputs<Self> {
        let RhnForward { gates, bias, recurrence } = inputs;
        let [seq_length, batch_size, d_gates] = gates.shape().dims();
        let ([depth, _], d_hidden) = (bias.shape().dims(), d_gates / 2);
        let (client, types, dtype) = (gates.client.clone(), types(&gates), gates.dtype);
        let recurrence = Prepared::new(recurrence);
        let groups = recurrence.groups;
        let [gates, bias] = [gates, bias].map(into_contiguous);

        let activated = empty(&gates, [depth, seq_length, batch_size, d_gates], dtype);
        let inner = (depth > 1)
            .then(|| empty(&gates, [depth - 1, seq_length, batch_size, d_hidden], dtype));
        let hidden = empty(&gates, [seq_length, batch_size, d_hidden], dtype);
        let sum = empty(&gates, [groups, batch_size, d_gates / groups], dtype);
        let recurrent = empty(&gates, [groups, batch_size, d_hidden], dtype);
        let mut input = recurrence.first_input();
        let state = owned(Self::float_cast(recurrence.hidden0.clone(), wide(dtype).into()));
        for step in 0..seq_length {
            for (layer, weight) in recurrence.weights.iter().enumerate() {
                matmul_into(input, weight.clone(), &sum);
                input = recurrent.clone();
                let at = layer * seq_length + step;
                let (states, to) = match &inner {
                    Some(inner) if layer + 1 < depth => (inner, at),
                    _ => (&hidden, step),
                };
                let (count, dim) = grid(&client, batch_size * d_hidden);
                forward_step::launch(
                    &client,
                    count,
                    dim,
                    gates.clone().into_buffer_arg(),
                    sum.clone().into_buffer_arg(),
                    bias.clone().into_buffer_arg(),
                    optional(&recurrence.mask),
                    state.clone().into_buffer_arg(),
                    activated.clone().into_buffer_arg(),
                    states.clone().into_buffer_arg(),
                    recurrent.clone().into_buffer_arg(),
                    layer as u32,
                    at as u32,
                    to as u32,
                    d_hidden as u32,
                    groups,
                    types,
                );
            }
        }
        RhnOutputs { hidden, activated, inner: inner.into() }
    }
}

impl RhnBackward for CubeBackend {
    fn rhn_backward(saved: RhnSaved<Self>, hidden_grad: CubeTensor) -> RhnGradients<Self> {
        let RhnSaved { recurrence, outputs: RhnOutputs { hidden, activated, inner } } = saved;
        let [depth, seq_length, batch_size, d_gates] = activated.shape().dims();
        let d_hidden = d_gates / 2;
        let (client, types) = (activated.client.clone(), types(&activated));
        let dtype = activated.dtype;
        let recurrence = Prepared::new(recurrence);
        let groups = recurrence.groups;
        let gates = owned(activated);
        let [hidden, hidden_grad] = [hidden, hidden_grad].map(into_contiguous);
        let inner = inner.into_option().map(into_contiguous);

        let step_grad = empty(&gates, [groups, batch_size, d_gates / groups], dtype);
        let input_grad = empty(&gates, [groups, batch_size, d_hidden], dtype);
        let carry = empty(&gates, [batch_size, d_hidden], wide(dtype));
        let weights = recurrence.transposed_weights();
        for step in (0..seq_length).rev() {
            for (layer, weight) in weights.iter().enumerate().rev() {
                let at = layer * seq_length + step;
                let (states, from) = match (&inner, layer, step) {
                    (Some(inner), 1.., _) => (inner, at - seq_length),
                    (_, _, 0) => (&recurrence.hidden0, 0),
                    _ => (&hidden, step - 1),
                };
                let top = layer + 1 == depth;
                let last = top && step + 1 == seq_length;
                let (count, dim) = grid(&client, batch_size * d_hidden);
                backward_step::launch(
                    &client,
                    count,
                    dim,
                    gates.clone().into_buffer_arg(),
                    input_grad.clone().into_buffer_arg(),
                    optional(&recurrence.mask),
                    states.clone().into_buffer_arg(),
                    hidden_grad.clone().into_buffer_arg(),
                    step_grad.clone().into_buffer_arg(),
                    carry.clone().into_buffer_arg(),
                    step as u32,
                    at as u32,
                    from as u32,
                    d_hidden as u32,
                    u32::from(top),
                    u32::from(last),
                    groups,
                    types,
                );
                matmul_into(step_grad.clone(), weight.clone(), &input_grad);
            }
        }

        let (weight_hidden, bias) = recurrence.weight_gradients(gates.clone(), hidden, inner);
        let first =
            [(0..1).into(), (0..seq_length).into(), (0..batch_size).into(), (0..d_gates).into()];
        let shape = [seq_length, batch_size, d_gates];
        let carry = Self::float_cast(carry, dtype.into());
        RhnGradients {
            gates: Self::float_reshape(Self::float_slice(gates, &first), shape.into()),
            bias,
            weight_hidden,
            hidden0: Self::float_add(carry, recurrence.through_mask(input_grad)),
        }
    }
}
