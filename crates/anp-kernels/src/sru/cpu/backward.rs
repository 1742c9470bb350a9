use super::activate::{Activate, Identity, Relu, Tanh};
use super::{Row, Scan, for_each, nth_or, rows};
use crate::cpu::recurrent::{Dims, add, nth};
use crate::cpu::scalar::Scalar;
use crate::cpu::simd::vectorized;
use crate::sru::Activation;

/// What the backward half reads beside the inputs, `[seq_length, batch_size, d_hidden]` each.
#[derive(Debug, Clone, Copy)]
pub(super) struct States<'a, E> {
    /// As the forward half wrote them.
    pub(super) cell: &'a [E],
    pub(super) hidden_grad: &'a [E],
    /// Zero if absent.
    pub(super) cell_grad: Option<&'a [E]>,
}

/// What [`backward`] returns.
#[derive(Debug)]
pub(super) struct Gradients<E> {
    /// That of `x'` alone, without what reaches the layer's input through the product: there if [`Scan::highway`] is.
    pub(super) highway: Option<Vec<E>>,
    pub(super) bias: Vec<E>,
    pub(super) cell0: Vec<E>,
}

/// Gradients of everything that the forward half read but the mask; that of the product is written over it.
///
/// # Panics
///
/// If a size is zero or a slice has another length.
pub(super) fn backward<E: Scalar>(
    scan: &Scan<'_, E>,
    product: &mut [E],
    states: States<'_, E>,
    threads: usize,
) -> Gradients<E> {
    scan.check(product);
    let dims = scan.dims;
    dims.check("cell states", states.cell, dims.sequence());
    for gradient in [Some(states.hidden_grad), states.cell_grad].into_iter().flatten() {
        dims.check("gradient of the states", gradient, dims.sequence());
    }
    let mut highway = scan.highway.map(|highway| vec![E::ZERO; highway.len()]);
    let mut cell0 = vec![E::ZERO; dims.state()];
    let mut bias_of_row = vec![E::ZERO; dims.batch_size * scan.bias.len()];
    let constants = (vec![E::ONE; dims.d_hidden], vec![E::ZERO; dims.d_hidden]);
    let highway_rows: Vec<_> = match &mut highway {
        Some(gradient) => rows(gradient, dims, 1).into_iter().map(Some).collect(),
        None => (0..dims.batch_size).map(|_| None).collect(),
    };
    let sequences = rows(product, dims, dims.gates)
        .into_iter()
        .zip(highway_rows)
        .zip(bias_of_row.chunks_mut(scan.bias.len()))
        .zip(cell0.chunks_mut(dims.d_hidden))
        .enumerate()
        .map(|(row, (((product, highway), bias), carry))| Sequence {
            row,
            product,
            highway,
            bias,
            carry,
        });
    let differentiate = match scan.activation {
        Activation::Identity => differentiate::<E, Identity>,
        Activation::Tanh => differentiate::<E, Tanh>,
        Activation::Relu => differentiate::<E, Relu>,
    };
    for_each(sequences.collect(), dims, threads, |sequence| {
        differentiate(scan, states, &constants, sequence);
    });
    // One after the other, so that the sum does not depend on the threads.
    let mut bias = vec![E::ZERO; scan.bias.len()];
    for of_row in bias_of_row.chunks(bias.len()) {
        add(&mut bias, of_row);
    }
    Gradients { highway, bias, cell0 }
}

/// What is written for one sequence.
struct Sequence<'a, E> {
    row: usize,
    product: Vec<&'a mut [E]>,
    highway: Option<Vec<&'a mut [E]>>,
    bias: &'a mut [E],
    /// Gradient of the cell state before a step, and at last of the initial one.
    carry: &'a mut [E],
}

/// [`States`] of one sequence at one step: `[d_hidden]` each.
#[derive(Debug, Clone, Copy)]
struct StateRow<'a, E> {
    cell: &'a [E],
    hidden_grad: &'a [E],
    cell_grad: &'a [E],
}

fn differentiate<E: Scalar, G: Activate>(
    scan: &Scan<'_, E>,
    states: States<'_, E>,
    (ones, zeros): &(Vec<E>, Vec<E>),
    sequence: Sequence<'_, E>,
) {
    let Dims { batch_size, d_hidden, .. } = scan.dims;
    let Sequence { row, product, highway: mut highway_grad, bias, carry } = sequence;
    let mask = nth_or(scan.mask, row, ones);
    let mut fourth = vec![E::ZERO; d_hidden];
    vectorized(
        #[inline(always)]
        || {
            for (t, parts) in product.into_iter().enumerate().rev() {
                let at = t * batch_size + row;
                let previous = match t {
                    0 => nth(scan.cell0, row, d_hidden),
                    _ => nth(states.cell, at - batch_size, d_hidden),
                };
                let (parts, rest) = parts.split_at_mut(3 * d_hidden);
                let (highway, highway_grad) = match (scan.highway, &mut highway_grad) {
                    (Some(highway), Some(gradient)) => {
                        (nth(highway, at, d_hidden), &mut *gradient[t])
                    }
                    _ => {
                        fourth.copy_from_slice(rest);
                        (&*fourth, rest)
                    }
                };
                let states = StateRow {
                    cell: nth(states.cell, at, d_hidden),
                    hidden_grad: nth(states.hidden_grad, at, d_hidden),
                    cell_grad: nth_or(states.cell_grad, at, zeros),
                };
                let row = Row { bias: scan.bias, highway, mask, previous };
                step::<E, G>(row, states, parts, highway_grad, bias, carry);
            }
        },
    );
}

/// What is written are arguments of their own: the compiler knows only of those that nothing else overlaps with them.
#[inline(always)]
fn step<E: Scalar, G: Activate>(
    row: Row<'_, E>,
    states: StateRow<'_, E>,
    parts: &mut [E],
    highway_grad: &mut [E],
    bias_grad: &mut [E],
    carry: &mut [E],
) {
    let n = carry.len();
    let (candidate, gates) = parts.split_at_mut(n);
    let (forget, reset) = gates.split_at_mut(n);
    let reset = &mut reset[..n];
    let (bias_forget, bias_reset) = (nth(row.bias, 0, n), nth(row.bias, 1, n));
    let (forget_sum, reset_sum) = bias_grad.split_at_mut(n);
    let (reset_sum, highway_grad) = (&mut reset_sum[..n], &mut highway_grad[..n]);
    let (highway, mask, previous) = (&row.highway[..n], &row.mask[..n], &row.previous[..n]);
    let (cell, hidden_grad, cell_grad) =
        (&states.cell[..n], &states.hidden_grad[..n], &states.cell_grad[..n]);
    for i in 0..n {
        let f = (forget[i] + bias_forget[i]).sigmoid();
        let r = (reset[i] + bias_reset[i]).sigmoid();
        let value = G::value(cell[i]);
        let dh = hidden_grad[i];
        let dc = dh * mask[i] * G::slope(value) * r + cell_grad[i] + carry[i];
        let df = dc * (previous[i] - candidate[i]) * (f * (E::ONE - f));
        let dr = dh * (value * mask[i] - highway[i]) * (r * (E::ONE - r));
        candidate[i] = dc * (E::ONE - f);
        forget[i] = df;
        reset[i] = dr;
        highway_grad[i] = dh * (E::ONE - r);
        forget_sum[i] += df;
        reset_sum[i] += dr;
        carry[i] = dc * f;
    }
}
