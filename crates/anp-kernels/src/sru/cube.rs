//! Forward, one kernel, in which a unit goes through all steps of one element of the state. Backward, another, and a
//! reduction over the batch for the bias.

use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{Activation, SruBackend, SruBackward, SruForward, SruGradients, SruOutputs, SruSaved};
use crate::backend::Optional;
use crate::cube::recurrent::in_row;
use crate::cube::{empty, grid, into_contiguous, optional, owned, sigmoid, types, wide};

/// `g(c)`.
#[cube]
fn activate<A: Float>(c: A, #[comptime] activation: Activation) -> A {
    if comptime!(activation == Activation::Tanh) {
        c.tanh()
    } else if comptime!(activation == Activation::Relu) {
        max(c, A::new(0.0))
    } else {
        c
    }
}

/// `g'(c)`, from `g(c)`.
#[cube]
fn slope<A: Float>(value: A, #[comptime] activation: Activation) -> A {
    if comptime!(activation == Activation::Tanh) {
        A::new(1.0) - value * value
    } else if comptime!(activation == Activation::Relu) {
        select(value > A::new(0.0), A::new(1.0), A::new(0.0))
    } else {
        A::new(1.0)
    }
}

#[cube(launch)]
fn forward<F: Float, A: Float>(
    product: &[F],
    highway: &ComptimeOption<&[F]>,
    bias: &[F],
    mask: &ComptimeOption<&[F]>,
    cell0: &[F],
    hidden: &mut [F],
    cell: &mut [F],
    #[comptime] activation: Activation,
    #[comptime] parts: usize,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let states = cell0.len();
    let element = ABSOLUTE_POS;
    if element >= states {
        terminate!();
    }
    let n = bias.len() / 2;
    let bias_forget = A::cast_from(bias[element % n]);
    let bias_reset = A::cast_from(bias[element % n + n]);
    #[comptime]
    let mask = match mask {
        ComptimeOption::Some(mask) => A::cast_from(mask[element]),
        ComptimeOption::None => A::new(1.0),
    };
    let mut c = A::cast_from(cell0[element]);
    let mut at = in_row(element, n, 0usize, parts);
    let mut place = element;
    while place < hidden.len() {
        let candidate = A::cast_from(product[at]);
        let f = sigmoid::<A>(A::cast_from(product[at + n]) + bias_forget);
        let r = sigmoid::<A>(A::cast_from(product[at + 2 * n]) + bias_reset);
        #[comptime]
        let x = match highway {
            ComptimeOption::Some(highway) => A::cast_from(highway[place]),
            ComptimeOption::None => A::cast_from(product[at + 3 * n]),
        };
        c = f * (c - candidate) + candidate;
        cell[place] = F::cast_from(c);
        hidden[place] = F::cast_from(r * (activate::<A>(c, activation) * mask - x) + x);
        place += states;
        at += parts * states;
    }
}

/// Writes the product's gradient over the product, the highway's over `hidden_grad` where it is an input of its own, and
/// to `sums`, `[3, batch_size, d_hidden]`, the gradients of the initial state and of the biases by each sequence.
#[cube(launch)]
fn backward<F: Float, A: Float>(
    product: &mut [F],
    highway: &ComptimeOption<&[F]>,
    bias: &[F],
    mask: &ComptimeOption<&[F]>,
    cell0: &[F],
    cell: &[F],
    hidden_grad: &mut [F],
    cell_grad: &ComptimeOption<&[F]>,
    sums: &mut [A],
    #[comptime] activation: Activation,
    #[comptime] parts: usize,
    #[define(F, A)] _types: [ElemType; 2],
) {
    let states = cell0.len();
    let element = ABSOLUTE_POS;
    if element >= states {
        terminate!();
    }
    let n = bias.len() / 2;
    let bias_forget = A::cast_from(bias[element % n]);
    let bias_reset = A::cast_from(bias[element % n + n]);
    #[comptime]
    let mask = match mask {
        ComptimeOption::Some(mask) => A::cast_from(mask[element]),
        ComptimeOption::None => A::new(1.0),
    };
    let one = A::new(1.0);
    let mut carry = A::new(0.0);
    let mut forget_sum = A::new(0.0);
    let mut reset_sum = A::new(0.0);
    let steps = cell.len() / states;
    for t in 0..steps {
        let step = steps - 1 - t;
        let place = step * states + element;
        let at = parts * step * states + in_row(element, n, 0usize, parts);
        let candidate = A::cast_from(product[at]);
        let f = sigmoid::<A>(A::cast_from(product[at + n]) + bias_forget);
        let r = sigmoid::<A>(A::cast_from(product[at + 2 * n]) + bias_reset);
        #[comptime]
        let x = match highway {
            ComptimeOption::Some(highway) => A::cast_from(highway[place]),
            ComptimeOption::None => A::cast_from(product[at + 3 * n]),
        };
        let mut before = A::cast_from(cell0[element]);
        if step > 0 {
            before = A::cast_from(cell[place - states]);
        }
        let value = activate::<A>(A::cast_from(cell[place]), activation);
        let dh = A::cast_from(hidden_grad[place]);
        let mut dc = dh * mask * slope::<A>(value, activation) * r + carry;
        #[comptime]
        match cell_grad {
            ComptimeOption::Some(cell_grad) => dc += A::cast_from(cell_grad[place]),
            ComptimeOption::None => {}
        }
        let forget_grad = dc * (before - candidate) * (f * (one - f));
        let reset_grad = dh * (value * mask - x) * (r * (one - r));
        let highway_grad = F::cast_from(dh * (one - r));
        product[at] = F::cast_from(dc * (one - f));
        product[at + n] = F::cast_from(forget_grad);
        product[at + 2 * n] = F::cast_from(reset_grad);
        if comptime!(parts == 4) {
            product[at + 3 * n] = highway_grad;
        } else {
            hidden_grad[place] = highway_grad;
        }
        forget_sum += forget_grad;
        reset_sum += reset_grad;
        carry = dc * f;
    }
    sums[element] = carry;
    sums[states + element] = forget_sum;
    sums[2 * states + element] = reset_sum;
}

impl SruBackend for CubeBackend {
    fn sru_forward(inputs: SruForward<Self>) -> SruOutputs<Self> {
        let SruForward { product, highway, bias, mask, cell0, activation } = inputs;
        let [seq_length, batch_size, width] = product.shape().dims();
        let [_, d_hidden] = cell0.shape().dims();
        let (client, types) = (product.client.clone(), types(&product));
        let [product, bias, cell0] = [product, bias, cell0].map(into_contiguous);
        let [highway, mask] =
            [highway, mask].map(|tensor| tensor.into_option().map(into_contiguous));
        let states = [seq_length, batch_size, d_hidden];
        let [hidden, cell] = [(); 2].map(|()| empty(&product, states, product.dtype));
        let (count, dim) = grid(&client, batch_size * d_hidden);
        forward::launch(
            &client,
            count,
            dim,
            product.into_buffer_arg(),
            optional(&highway),
            bias.into_buffer_arg(),
            optional(&mask),
            cell0.into_buffer_arg(),
            hidden.clone().into_buffer_arg(),
            cell.clone().into_buffer_arg(),
            activation,
            width / d_hidden,
            types,
        );
        SruOutputs { hidden, cell }
    }
}

impl SruBackward for CubeBackend {
    fn sru_backward(
        saved: SruSaved<Self>,
        hidden_grad: CubeTensor,
        cell_grad: Optional<Self>,
    ) -> SruGradients<Self> {
        let SruSaved { inputs, cell } = saved;
        let SruForward { product, highway, bias, mask, cell0, activation } = inputs;
        let [_, batch_size, width] = product.shape().dims();
        let [_, d_hidden] = cell0.shape().dims();
        let (client, types, dtype) = (product.client.clone(), types(&product), product.dtype);
        let product = owned(product);
        let [bias, cell0, cell] = [bias, cell0, cell].map(into_contiguous);
        let [highway, mask, cell_grad] =
            [highway, mask, cell_grad].map(|tensor| tensor.into_option().map(into_contiguous));
        let hidden_grad =
            if highway.is_some() { owned(hidden_grad) } else { into_contiguous(hidden_grad) };
        let sums = empty(&product, [3, batch_size, d_hidden], wide(dtype));
        let (count, dim) = grid(&client, batch_size * d_hidden);
        backward::launch(
            &client,
            count,
            dim,
            product.clone().into_buffer_arg(),
            optional(&highway),
            bias.into_buffer_arg(),
            optional(&mask),
            cell0.into_buffer_arg(),
            cell.into_buffer_arg(),
            hidden_grad.clone().into_buffer_arg(),
            optional(&cell_grad),
            sums.clone().into_buffer_arg(),
            activation,
            width / d_hidden,
            types,
        );
        let part = |from, to| {
            let part = [(from..to).into(), (0..batch_size).into(), (0..d_hidden).into()];
            Self::float_slice(sums.clone(), &part)
        };
        let finish = |sums, shape: &[usize]| {
            Self::float_reshape(Self::float_cast(sums, dtype.into()), shape.into())
        };
        SruGradients {
            product,
            highway: highway.map(|_| hidden_grad).into(),
            bias: finish(Self::float_sum_dim(part(1, 3), 1), &[2 * d_hidden]),
            cell0: finish(part(0, 1), &[batch_size, d_hidden]),
        }
    }
}
