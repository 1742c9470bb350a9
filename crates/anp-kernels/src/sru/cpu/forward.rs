use super::activate::{Activate, Identity, Relu, Tanh};
use super::{Row, Scan, for_each, nth_or, rows};
use crate::cpu::recurrent::{Dims, nth};
use crate::cpu::scalar::Scalar;
use crate::cpu::simd::vectorized;
use crate::sru::Activation;

/// States of all steps: `[seq_length, batch_size, d_hidden]`.
#[derive(Debug)]
pub(super) struct States<E> {
    pub(super) hidden: Vec<E>,
    pub(super) cell: Vec<E>,
}

/// States of all steps.
///
/// # Panics
///
/// If a size is zero or a slice has another length.
pub(super) fn forward<E: Scalar>(scan: &Scan<'_, E>, product: &[E], threads: usize) -> States<E> {
    scan.check(product);
    let dims = scan.dims;
    let mut hidden = vec![E::ZERO; dims.sequence()];
    let mut cell = hidden.clone();
    let ones = vec![E::ONE; dims.d_hidden];
    let rows = rows(&mut hidden, dims, 1).into_iter().zip(rows(&mut cell, dims, 1)).enumerate();
    let sequence = match scan.activation {
        Activation::Identity => sequence::<E, Identity>,
        Activation::Tanh => sequence::<E, Tanh>,
        Activation::Relu => sequence::<E, Relu>,
    };
    for_each(rows.collect(), dims, threads, |(row, (mut hidden, mut cell))| {
        sequence(scan, product, &ones, row, (&mut hidden, &mut cell));
    });
    States { hidden, cell }
}

fn sequence<E: Scalar, G: Activate>(
    scan: &Scan<'_, E>,
    product: &[E],
    ones: &[E],
    row: usize,
    (hidden, cell): (&mut [&mut [E]], &mut [&mut [E]]),
) {
    let Dims { batch_size, d_hidden, gates: parts, .. } = scan.dims;
    let mask = nth_or(scan.mask, row, ones);
    vectorized(
        #[inline(always)]
        || {
            let mut previous = nth(scan.cell0, row, d_hidden);
            for (t, (hidden, cell)) in hidden.iter_mut().zip(cell).enumerate() {
                let at = t * batch_size + row;
                let parts = nth(product, at, parts * d_hidden);
                let highway = match scan.highway {
                    Some(highway) => nth(highway, at, d_hidden),
                    None => nth(parts, 3, d_hidden),
                };
                step::<E, G>(parts, Row { bias: scan.bias, highway, mask, previous }, cell, hidden);
                previous = cell;
            }
        },
    );
}

/// What is written are arguments of their own: the compiler knows only of those that nothing else overlaps with them.
#[inline(always)]
fn step<E: Scalar, G: Activate>(parts: &[E], row: Row<'_, E>, cell: &mut [E], hidden: &mut [E]) {
    let n = cell.len();
    let (candidate, forget, reset) = (nth(parts, 0, n), nth(parts, 1, n), nth(parts, 2, n));
    let (bias_forget, bias_reset) = (nth(row.bias, 0, n), nth(row.bias, 1, n));
    let (highway, mask, previous, hidden) =
        (&row.highway[..n], &row.mask[..n], &row.previous[..n], &mut hidden[..n]);
    for i in 0..n {
        let f = (forget[i] + bias_forget[i]).sigmoid();
        let r = (reset[i] + bias_reset[i]).sigmoid();
        let c = f * (previous[i] - candidate[i]) + candidate[i];
        cell[i] = c;
        hidden[i] = r * (G::value(c) * mask[i] - highway[i]) + highway[i];
    }
}
