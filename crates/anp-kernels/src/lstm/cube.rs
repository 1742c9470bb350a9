//! Forward, each step is one product and one kernel. Backward, too; then follow the last product, a kernel that lays out the
//! hidden states before each step, one product for the weight's gradient and one reduction for the bias'.

use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::LstmBackend;
use crate::backend::Optional;
use crate::cube::{empty, grid, into_contiguous, optional, owned, product, sigmoid, types, wide};

/// Where the input gate of `element` (of a state) lies among a step's gates `[batch_size, 4 · d_hidden]`; the others follow
/// at distances of `d_hidden`.
#[cube]
fn first_gate(element: usize, d_hidden: usize) -> usize {
    element + 3 * (element / d_hidden) * d_hidden
}

/// Where the `gate`th gate of `element` lies in a product `[groups, batch_size, 4 / groups · d_hidden]`.
#[cube]
fn in_product(
    element: usize,
    gate: usize,
    d_hidden: usize,
    states: usize,
    #[comptime] groups: usize,
) -> usize {
    if comptime!(groups == 1) {
        first_gate(element, d_hidden) + gate * d_hidden
    } else {
        gate * states + element
    }
}

/// One step: adds up and activates the gates in place, moves the states on, and leaves the masked hidden state in
/// `recurrent` for the product of the next step.
#[cube(launch)]
fn forward_step<F: Float, A: Float>(
    gates: &mut [F],
    product: &[F],
    bias: &[F],
    mask: ComptimeOption<&[F]>,
    cell0: &[F],
    hidden: &mut [F],
    cell: &mut [F],
    recurrent: &mut [F],
    step: u32,
    forget_bias: InputScalar,
    #[comptime] groups: usize,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let states = cell0.len();
    let element = ABSOLUTE_POS;
    if element >= states {
        terminate!();
    }
    let step = step as usize;
    let d_hidden = bias.len() / 4;
    let unit = element % d_hidden;
    let place = step * states + element;
    let at = 4 * step * states + first_gate(element, d_hidden);

    let i = A::cast_from(gates[at])
        + A::cast_from(bias[unit])
        + A::cast_from(product[in_product(element, 0usize, d_hidden, states, groups)]);
    let f = A::cast_from(gates[at + d_hidden])
        + A::cast_from(bias[unit + d_hidden])
        + A::cast_from(product[in_product(element, 1usize, d_hidden, states, groups)]);
    let g = A::cast_from(gates[at + 2 * d_hidden])
        + A::cast_from(bias[unit + 2 * d_hidden])
        + A::cast_from(product[in_product(element, 2usize, d_hidden, states, groups)]);
    let o = A::cast_from(gates[at + 3 * d_hidden])
        + A::cast_from(bias[unit + 3 * d_hidden])
        + A::cast_from(product[in_product(element, 3usize, d_hidden, states, groups)]);

    let i = sigmoid::<A>(i);
    let f = sigmoid::<A>(f + forget_bias.get::<A>());
    let g = g.tanh();
    let o = sigmoid::<A>(o);
    let mut before = A::cast_from(cell0[element]);
    if step > 0 {
        before = A::cast_from(cell[place - states]);
    }
    let c = f * before + i * g;
    let h = o * c.tanh();

    gates[at] = F::cast_from(i);
    gates[at + d_hidden] = F::cast_from(f);
    gates[at + 2 * d_hidden] = F::cast_from(g);
    gates[at + 3 * d_hidden] = F::cast_from(o);
    cell[place] = F::cast_from(c);
    hidden[place] = F::cast_from(h);
    #[unroll]
    for group in 0..groups {
        let at = group * states + element;
        #[comptime]
        let masked = match mask {
            ComptimeOption::Some(mask) => h * A::cast_from(mask[at]),
            ComptimeOption::None => h,
        };
        recurrent[at] = F::cast_from(masked);
    }
}

/// One step: turns the activated gates into the gradient of their sums in place, and leaves it in `step_grad`, grouped, for
/// the product that gives the step before its share, and the cell state's gradient in `carry`.
#[cube(launch)]
fn backward_step<F: Float, A: Float>(
    gates: &mut [F],
    product: &[F],
    mask: ComptimeOption<&[F]>,
    cell0: &[F],
    cell: &[F],
    hidden_grad: &[F],
    cell_grad: ComptimeOption<&[F]>,
    step_grad: &mut [F],
    carry: &mut [A],
    step: u32,
    d_hidden: u32,
    #[comptime] groups: usize,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let states = cell0.len();
    let element = ABSOLUTE_POS;
    if element >= states {
        terminate!();
    }
    let step = step as usize;
    let d_hidden = d_hidden as usize;
    let place = step * states + element;
    let at = 4 * step * states + first_gate(element, d_hidden);

    let mut dh = A::cast_from(hidden_grad[place]);
    #[comptime]
    let mut dc = match cell_grad {
        ComptimeOption::Some(cell_grad) => A::cast_from(cell_grad[place]),
        ComptimeOption::None => A::new(0.0),
    };
    // Behind the last step nothing follows: neither buffer is set.
    if place + states < cell.len() {
        dc += carry[element];
        #[unroll]
        for group in 0..groups {
            let at = group * states + element;
            #[comptime]
            let share = match mask {
                ComptimeOption::Some(mask) => A::cast_from(product[at]) * A::cast_from(mask[at]),
                ComptimeOption::None => A::cast_from(product[at]),
            };
            dh += share;
        }
    }

    let one = A::new(1.0);
    let i = A::cast_from(gates[at]);
    let f = A::cast_from(gates[at + d_hidden]);
    let g = A::cast_from(gates[at + 2 * d_hidden]);
    let o = A::cast_from(gates[at + 3 * d_hidden]);
    let mut before = A::cast_from(cell0[element]);
    if step > 0 {
        before = A::cast_from(cell[place - states]);
    }
    let c = A::cast_from(cell[place]).tanh();
    let dc = dc + dh * o * (one - c * c);
    let di = F::cast_from(dc * g * i * (one - i));
    let df = F::cast_from(dc * before * f * (one - f));
    let dg = F::cast_from(dc * i * (one - g * g));
    let d_o = F::cast_from(dh * c * o * (one - o));

    carry[element] = dc * f;
    gates[at] = di;
    gates[at + d_hidden] = df;
    gates[at + 2 * d_hidden] = dg;
    gates[at + 3 * d_hidden] = d_o;
    step_grad[in_product(element, 0usize, d_hidden, states, groups)] = di;
    step_grad[in_product(element, 1usize, d_hidden, states, groups)] = df;
    step_grad[in_product(element, 2usize, d_hidden, states, groups)] = dg;
    step_grad[in_product(element, 3usize, d_hidden, states, groups)] = d_o;
}

/// The hidden state before each step as the product saw it: `[groups, seq_length, batch_size, d_hidden]`.
#[cube(launch)]
fn states_before<F: Float, A: Float>(
    hidden0: &[F],
    hidden: &[F],
    mask: ComptimeOption<&[F]>,
    before: &mut [F],
    #[comptime] groups: usize,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let place = ABSOLUTE_POS;
    if place >= hidden.len() {
        terminate!();
    }
    let states = hidden0.len();
    let element = place % states;
    let mut h = A::cast_from(hidden0[element]);
    if place >= states {
        h = A::cast_from(hidden[place - states]);
    }
    #[unroll]
    for group in 0..groups {
        #[comptime]
        let masked = match mask {
            ComptimeOption::Some(mask) => h * A::cast_from(mask[group * states + element]),
            ComptimeOption::None => h,
        };
        before[group * hidden.len() + place] = F::cast_from(masked);
    }
}

/// A mask in row-major order, and how many groups of gates have their own.
fn groups(mask: Optional<CubeBackend>) -> (Option<CubeTensor>, usize) {
    let mask = mask.into_option().map(into_contiguous);
    let groups = mask.as_ref().map_or(1, |mask| mask.shape()[0]);
    (mask, groups)
}

/// The recurrent weight as `[groups, d_hidden, 4 / groups · d_hidden]`.
fn grouped(weight: CubeTensor, groups: usize) -> CubeTensor {
    let [d_hidden, d_gates] = weight.shape().dims();
    let weight = CubeBackend::float_reshape(weight, [d_hidden, groups, d_gates / groups].into());
    into_contiguous(CubeBackend::float_permute(weight, &[1, 0, 2]))
}

fn transposed(matrices: CubeTensor) -> CubeTensor {
    CubeBackend::float_swap_dims(matrices, 1, 2)
}

impl LstmBackend for CubeBackend {
    fn lstm_forward(
        gates: CubeTensor,
        bias: CubeTensor,
        weight_hidden: CubeTensor,
        mask: Optional<Self>,
        hidden0: CubeTensor,
        cell0: CubeTensor,
        forget_bias: f64,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let [seq_length, batch_size, d_gates] = gates.shape().dims();
        let d_hidden = d_gates / 4;
        let dtype = gates.dtype;
        let types = types(&gates);
        let (mask, groups) = groups(mask);
        let activated = owned(gates);
        let [bias, cell0] = [bias, cell0].map(into_contiguous);
        let weight = grouped(weight_hidden, groups);

        let states = [seq_length, batch_size, d_hidden];
        let [hidden, cell] = [(); 2].map(|()| empty(&activated, states, dtype));
        let sum = empty(&activated, [groups, batch_size, d_gates / groups], dtype);
        let recurrent = empty(&activated, [groups, batch_size, d_hidden], dtype);
        let hidden0 = CubeBackend::float_reshape(hidden0, [1, batch_size, d_hidden].into());
        let mut input = match &mask {
            Some(mask) => CubeBackend::float_mul(hidden0, mask.clone()),
            None => hidden0,
        };
        for step in 0..seq_length {
            product(input, weight.clone(), &sum);
            input = recurrent.clone();
            let (count, dim) = grid(&cell.client, batch_size * d_hidden);
            forward_step::launch(
                &cell.client,
                count,
                dim,
                activated.clone().into_buffer_arg(),
                sum.clone().into_buffer_arg(),
                bias.clone().into_buffer_arg(),
                optional(&mask),
                cell0.clone().into_buffer_arg(),
                hidden.clone().into_buffer_arg(),
                cell.clone().into_buffer_arg(),
                recurrent.clone().into_buffer_arg(),
                step as u32,
                InputScalar::new(forget_bias, types[1]),
                groups,
                types,
            );
        }
        (hidden, cell, activated)
    }

    fn lstm_backward(
        activated: CubeTensor,
        weight_hidden: CubeTensor,
        mask: Optional<Self>,
        hidden0: CubeTensor,
        cell0: CubeTensor,
        hidden: CubeTensor,
        cell: CubeTensor,
        hidden_grad: CubeTensor,
        cell_grad: Optional<Self>,
    ) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
        let [seq_length, batch_size, d_gates] = activated.shape().dims();
        let d_hidden = d_gates / 4;
        let dtype = activated.dtype;
        let types = types(&activated);
        let (mask, groups) = groups(mask);
        let cell_grad = cell_grad.into_option().map(into_contiguous);
        let gates = owned(activated);
        let [hidden0, cell0, hidden, cell, hidden_grad] =
            [hidden0, cell0, hidden, cell, hidden_grad].map(into_contiguous);
        let weight = transposed(grouped(weight_hidden, groups));

        let step_grad = empty(&gates, [groups, batch_size, d_gates / groups], dtype);
        let share = empty(&gates, [groups, batch_size, d_hidden], dtype);
        let carry = empty(&gates, [batch_size, d_hidden], wide(dtype));
        for step in (0..seq_length).rev() {
            let (count, dim) = grid(&cell.client, batch_size * d_hidden);
            backward_step::launch(
                &cell.client,
                count,
                dim,
                gates.clone().into_buffer_arg(),
                share.clone().into_buffer_arg(),
                optional(&mask),
                cell0.clone().into_buffer_arg(),
                cell.clone().into_buffer_arg(),
                hidden_grad.clone().into_buffer_arg(),
                optional(&cell_grad),
                step_grad.clone().into_buffer_arg(),
                carry.clone().into_buffer_arg(),
                step as u32,
                d_hidden as u32,
                groups,
                types,
            );
            product(step_grad.clone(), weight.clone(), &share);
        }

        let before = empty(&gates, [groups, seq_length * batch_size, d_hidden], dtype);
        let (count, dim) = grid(&cell.client, seq_length * batch_size * d_hidden);
        states_before::launch(
            &cell.client,
            count,
            dim,
            hidden0.into_buffer_arg(),
            hidden.into_buffer_arg(),
            optional(&mask),
            before.clone().into_buffer_arg(),
            groups,
            types,
        );
        let rows = CubeBackend::float_reshape(
            gates.clone(),
            [seq_length * batch_size, groups, d_gates / groups].into(),
        );
        let rows = CubeBackend::float_permute(rows, &[1, 0, 2]);
        let weight_grad = empty(&gates, [groups, d_hidden, d_gates / groups], dtype);
        product(transposed(before), rows, &weight_grad);
        let weight_grad = CubeBackend::float_permute(weight_grad, &[1, 0, 2]);
        let weight_grad = CubeBackend::float_reshape(weight_grad, [d_hidden, d_gates].into());

        let rows = [seq_length * batch_size, d_gates];
        let rows = CubeBackend::float_reshape(gates.clone(), rows.into());
        let bias_grad = CubeBackend::float_sum_dim(rows, 0);
        let bias_grad = CubeBackend::float_reshape(bias_grad, [d_gates].into());

        let share = match mask {
            Some(mask) => CubeBackend::float_sum_dim(CubeBackend::float_mul(share, mask), 0),
            None => share,
        };
        let state = [batch_size, d_hidden];
        let hidden0_grad = CubeBackend::float_reshape(share, state.into());
        let cell0_grad = CubeBackend::float_cast(carry, dtype.into());
        (gates, bias_grad, weight_grad, hidden0_grad, cell0_grad)
    }
}
