//! A step is one product and one kernel, forward as backward. Backward, there follow one kernel, one product and one
//! reduction for all steps.

use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{LstmBackend, LstmBackward, LstmForward, LstmGradients, LstmOutputs, LstmSaved};
use crate::backend::Optional;
use crate::cube::recurrent::{Prepared, in_product, in_row, read_masked, write_masked};
use crate::cube::{
    empty, grid, into_contiguous, matmul_into, optional, owned, sigmoid, types, wide,
};

/// One step: adds up and activates the gates in place, moves the states on, and leaves the masked hidden state in
/// `recurrent` for the product of the next step.
#[cube(launch)]
fn forward_step<F: Float, A: Float>(
    gates: &mut [F],
    product: &[F],
    bias: &[F],
    mask: &ComptimeOption<&[F]>,
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
    let n = bias.len() / 4;
    let unit = element % n;
    let place = step * states + element;
    let at = 4 * step * states + in_row(element, n, 0usize, 4usize);

    let i = A::cast_from(gates[at])
        + A::cast_from(bias[unit])
        + A::cast_from(product[in_product(element, n, states, 0usize, 4usize, groups)]);
    let f = A::cast_from(gates[at + n])
        + A::cast_from(bias[unit + n])
        + A::cast_from(product[in_product(element, n, states, 1usize, 4usize, groups)]);
    let g = A::cast_from(gates[at + 2 * n])
        + A::cast_from(bias[unit + 2 * n])
        + A::cast_from(product[in_product(element, n, states, 2usize, 4usize, groups)]);
    let o = A::cast_from(gates[at + 3 * n])
        + A::cast_from(bias[unit + 3 * n])
        + A::cast_from(product[in_product(element, n, states, 3usize, 4usize, groups)]);

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
    gates[at + n] = F::cast_from(f);
    gates[at + 2 * n] = F::cast_from(g);
    gates[at + 3 * n] = F::cast_from(o);
    cell[place] = F::cast_from(c);
    hidden[place] = F::cast_from(h);
    write_masked::<F, A>(h, mask, recurrent, element, states, groups);
}

/// One step: turns the activated gates into the gradient of their sums in place, and leaves it in `step_grad`, grouped, for
/// the product that gives the step before its share, and the cell state's gradient in `carry`.
#[cube(launch)]
fn backward_step<F: Float, A: Float>(
    gates: &mut [F],
    product: &[F],
    mask: &ComptimeOption<&[F]>,
    cell0: &[F],
    cell: &[F],
    hidden_grad: &[F],
    cell_grad: &ComptimeOption<&[F]>,
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
    let n = d_hidden as usize;
    let place = step * states + element;
    let at = 4 * step * states + in_row(element, n, 0usize, 4usize);

    let mut dh = A::cast_from(hidden_grad[place]);
    #[comptime]
    let mut dc = match cell_grad {
        ComptimeOption::Some(cell_grad) => A::cast_from(cell_grad[place]),
        ComptimeOption::None => A::new(0.0),
    };
    // Behind the last step nothing follows: neither buffer is set.
    if place + states < cell.len() {
        dh += read_masked::<F, A>(product, mask, element, states, groups);
        dc += carry[element];
    }

    let one = A::new(1.0);
    let i = A::cast_from(gates[at]);
    let f = A::cast_from(gates[at + n]);
    let g = A::cast_from(gates[at + 2 * n]);
    let o = A::cast_from(gates[at + 3 * n]);
    let mut before = A::cast_from(cell0[element]);
    if step > 0 {
        before = A::cast_from(cell[place - states]);
    }
    let c = A::cast_from(cell[place]).tanh();
    let dc = dc + dh * o * (one - c * c);
    let i_grad = F::cast_from(dc * g * i * (one - i));
    let f_grad = F::cast_from(dc * before * f * (one - f));
    let g_grad = F::cast_from(dc * i * (one - g * g));
    let o_grad = F::cast_from(dh * c * o * (one - o));

    carry[element] = dc * f;
    gates[at] = i_grad;
    gates[at + n] = f_grad;
    gates[at + 2 * n] = g_grad;
    gates[at + 3 * n] = o_grad;
    step_grad[in_product(element, n, states, 0usize, 4usize, groups)] = i_grad;
    step_grad[in_product(element, n, states, 1usize, 4usize, groups)] = f_grad;
    step_grad[in_product(element, n, states, 2usize, 4usize, groups)] = g_grad;
    step_grad[in_product(element, n, states, 3usize, 4usize, groups)] = o_grad;
}

impl LstmBackend for CubeBackend {
    fn lstm_forward(inputs: LstmForward<Self>) -> LstmOutputs<Self> {
        let LstmForward { gates, bias, recurrence, cell0, forget_bias } = inputs;
        let [seq_length, batch_size, d_gates] = gates.shape().dims();
        let d_hidden = d_gates / 4;
        let (client, types, dtype) = (gates.client.clone(), types(&gates), gates.dtype);
        let recurrence = Prepared::new(recurrence);
        let groups = recurrence.groups;
        let activated = owned(gates);
        let [bias, cell0] = [bias, cell0].map(into_contiguous);

        let states = [seq_length, batch_size, d_hidden];
        let [hidden, cell] = [(); 2].map(|()| empty(&activated, states, dtype));
        let sum = empty(&activated, [groups, batch_size, d_gates / groups], dtype);
        let recurrent = empty(&activated, [groups, batch_size, d_hidden], dtype);
        let mut input = recurrence.first_input();
        for step in 0..seq_length {
            matmul_into(input, recurrence.weights[0].clone(), &sum);
            input = recurrent.clone();
            let (count, dim) = grid(&client, batch_size * d_hidden);
            forward_step::launch(
                &client,
                count,
                dim,
                activated.clone().into_buffer_arg(),
                sum.clone().into_buffer_arg(),
                bias.clone().into_buffer_arg(),
                optional(&recurrence.mask),
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
        LstmOutputs { hidden, cell, activated }
    }
}

impl LstmBackward for CubeBackend {
    fn lstm_backward(
        saved: LstmSaved<Self>,
        hidden_grad: CubeTensor,
        cell_grad: Optional<Self>,
    ) -> LstmGradients<Self> {
        let LstmSaved { recurrence, cell0, outputs: LstmOutputs { hidden, cell, activated } } =
            saved;
        let [seq_length, batch_size, d_gates] = activated.shape().dims();
        let d_hidden = d_gates / 4;
        let (client, types) = (activated.client.clone(), types(&activated));
        let dtype = activated.dtype;
        let recurrence = Prepared::new(recurrence);
        let [weight] = &recurrence.transposed_weights()[..] else {
            unreachable!("an LSTM has one recurrent weight")
        };
        let groups = recurrence.groups;
        let gates = owned(activated);
        let [cell0, hidden, cell, hidden_grad] =
            [cell0, hidden, cell, hidden_grad].map(into_contiguous);
        let cell_grad = cell_grad.into_option().map(into_contiguous);

        let step_grad = empty(&gates, [groups, batch_size, d_gates / groups], dtype);
        let input_grad = empty(&gates, [groups, batch_size, d_hidden], dtype);
        let carry = empty(&gates, [batch_size, d_hidden], wide(dtype));
        for step in (0..seq_length).rev() {
            let (count, dim) = grid(&client, batch_size * d_hidden);
            backward_step::launch(
                &client,
                count,
                dim,
                gates.clone().into_buffer_arg(),
                input_grad.clone().into_buffer_arg(),
                optional(&recurrence.mask),
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
            matmul_into(step_grad.clone(), weight.clone(), &input_grad);
        }

        let all = [1, seq_length, batch_size, d_gates];
        let all = Self::float_reshape(gates.clone(), all.into());
        let (weight_hidden, bias) = recurrence.weight_gradients(all, hidden, None);
        LstmGradients {
            gates,
            bias: Self::float_reshape(bias, [d_gates].into()),
            weight_hidden: Self::float_reshape(weight_hidden, [d_hidden, d_gates].into()),
            hidden0: recurrence.through_mask(input_grad),
            cell0: Self::float_cast(carry, dtype.into()),
        }
    }
}
