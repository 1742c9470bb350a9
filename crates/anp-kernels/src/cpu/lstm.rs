// Baseline until H1 delivers: one gemm a step.
use super::matmul::{Destination, Matrix, matmul};
use super::real::Real;
use super::simd::vectorized;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Dims {
    pub seq_length: usize,
    pub batch_size: usize,
    pub d_hidden: usize,
}

#[allow(clippy::too_many_arguments)]
pub(crate) fn forward<E: Real>(
    dims: Dims,
    gates: &mut [E],
    bias: Option<&[E]>,
    weight: &[E],
    mask: Option<&[E]>,
    h0: &[E],
    c0: &[E],
    forget_bias: E,
    hidden: &mut [E],
    cell: &mut [E],
    threads: usize,
) {
    let Dims { seq_length, batch_size, d_hidden } = dims;
    let (state, width) = (batch_size * d_hidden, 4 * d_hidden);
    let mut masked = vec![E::ZERO; state];
    for t in 0..seq_length {
        let (before, after) = hidden.split_at_mut(t * state);
        let h_prev = if t == 0 { h0 } else { &before[(t - 1) * state..] };
        let (cell_before, cell_after) = cell.split_at_mut(t * state);
        let c_prev = if t == 0 { c0 } else { &cell_before[(t - 1) * state..] };
        let gates_t = &mut gates[t * batch_size * width..(t + 1) * batch_size * width];
        recurrent(dims, gates_t, h_prev, mask, weight, &mut masked, threads);
        for b in 0..batch_size {
            let row = &mut gates_t[b * width..(b + 1) * width];
            let range = b * d_hidden..(b + 1) * d_hidden;
            let (c_prev, c, h) = (
                &c_prev[range.clone()],
                &mut cell_after[range.clone()],
                &mut after[range.clone()],
            );
            vectorized(|| step(row, bias, c_prev, forget_bias, c, h));
        }
    }
}

#[inline(always)]
fn step<E: Real>(row: &mut [E], bias: Option<&[E]>, c_prev: &[E], forget_bias: E, c: &mut [E], h: &mut [E]) {
    let n = c.len();
    if let Some(bias) = bias {
        for (x, &b) in row.iter_mut().zip(bias) {
            *x += b;
        }
    }
    let (i, rest) = row.split_at_mut(n);
    let (f, rest) = rest.split_at_mut(n);
    let (g, o) = rest.split_at_mut(n);
    let (c_prev, h, o) = (&c_prev[..n], &mut h[..n], &mut o[..n]);
    for j in 0..n {
        i[j] = i[j].sigmoid();
        f[j] = (f[j] + forget_bias).sigmoid();
        g[j] = g[j].tanh();
        o[j] = o[j].sigmoid();
        c[j] = f[j] * c_prev[j] + i[j] * g[j];
        h[j] = o[j] * c[j].tanh();
    }
}

fn recurrent<E: Real>(dims: Dims, out: &mut [E], h: &[E], mask: Option<&[E]>, weight: &[E], masked: &mut [E], threads: usize) {
    let Dims { batch_size, d_hidden, .. } = dims;
    let (state, width) = (batch_size * d_hidden, 4 * d_hidden);
    let Some(mask) = mask else {
        let (h, w) = (Matrix::new(h, batch_size, d_hidden), Matrix::new(weight, d_hidden, width));
        return matmul(out, width, Destination::Accumulate, E::ONE, h, w, threads);
    };
    let groups = mask.len() / state;
    let columns = width / groups;
    for (group, mask) in mask.chunks(state).enumerate() {
        for ((x, &h), &m) in masked.iter_mut().zip(h).zip(mask) {
            *x = h * m;
        }
        let w = Matrix::strided(&weight[group * columns..], [d_hidden, columns], [width, 1]);
        let h = Matrix::new(masked, batch_size, d_hidden);
        matmul(&mut out[group * columns..], width, Destination::Accumulate, E::ONE, h, w, threads);
    }
}

#[allow(clippy::too_many_arguments)]
pub(crate) fn backward<E: Real>(
    dims: Dims,
    gates: &mut [E],
    weight: &[E],
    mask: Option<&[E]>,
    h0: &[E],
    c0: &[E],
    hidden: &[E],
    cell: &[E],
    d_hidden_states: Option<&[E]>,
    d_cell_states: Option<&[E]>,
    d_weight: Option<&mut [E]>,
    d_bias: Option<&mut [E]>,
    d_h0: Option<&mut [E]>,
    d_c0: Option<&mut [E]>,
    threads: usize,
) {
    let Dims { seq_length, batch_size, d_hidden } = dims;
    let (state, width) = (batch_size * d_hidden, 4 * d_hidden);
    let groups = mask.map_or(1, |mask| mask.len() / state);
    let columns = width / groups;
    let mut dh = vec![E::ZERO; state];
    let mut dc = vec![E::ZERO; state];
    let mut product = vec![E::ZERO; state];
    for t in (0..seq_length).rev() {
        let at = t * state..(t + 1) * state;
        if let Some(d) = d_hidden_states {
            dh.iter_mut().zip(&d[at.clone()]).for_each(|(x, &d)| *x += d);
        }
        if let Some(d) = d_cell_states {
            dc.iter_mut().zip(&d[at.clone()]).for_each(|(x, &d)| *x += d);
        }
        let c_prev = if t == 0 { c0 } else { &cell[(t - 1) * state..t * state] };
        let gates_t = &mut gates[t * batch_size * width..(t + 1) * batch_size * width];
        for b in 0..batch_size {
            let range = b * d_hidden..(b + 1) * d_hidden;
            let row = &mut gates_t[b * width..(b + 1) * width];
            let (c, c_prev) = (&cell[at.clone()][range.clone()], &c_prev[range.clone()]);
            let (dh, dc) = (&dh[range.clone()], &mut dc[range.clone()]);
            vectorized(|| step_backward(row, c, c_prev, dh, dc));
        }
        dh.fill(E::ZERO);
        for group in 0..groups {
            let w = Matrix::strided(&weight[group * columns..], [d_hidden, columns], [width, 1]);
            let g = Matrix::strided(&gates_t[group * columns..], [batch_size, columns], [width, 1]);
            if let Some(mask) = mask {
                matmul(&mut product, d_hidden, Destination::Overwrite, E::ONE, g, w.t(), threads);
                let mask = &mask[group * state..(group + 1) * state];
                for ((x, &p), &m) in dh.iter_mut().zip(&product).zip(mask) {
                    *x += p * m;
                }
            } else {
                matmul(&mut dh, d_hidden, Destination::Overwrite, E::ONE, g, w.t(), threads);
            }
        }
    }
    if let Some(d) = d_bias {
        d.fill(E::ZERO);
        for row in gates.chunks(width) {
            vectorized(|| d.iter_mut().zip(row).for_each(|(x, &g)| *x += g));
        }
    }
    if let Some(d) = d_weight {
        let mut previous = h0.to_vec();
        previous.extend_from_slice(&hidden[..(seq_length - 1) * state]);
        let rows = seq_length * batch_size;
        let mut masked;
        for group in 0..groups {
            let h = match mask {
                None => &previous,
                Some(mask) => {
                    masked = previous.clone();
                    let mask = &mask[group * state..(group + 1) * state];
                    for step in masked.chunks_mut(state) {
                        step.iter_mut().zip(mask).for_each(|(x, &m)| *x *= m);
                    }
                    &masked
                }
            };
            let h = Matrix::new(h, rows, d_hidden);
            let g = Matrix::strided(&gates[group * columns..], [rows, columns], [width, 1]);
            matmul(&mut d[group * columns..], width, Destination::Overwrite, E::ONE, h.t(), g, threads);
        }
    }
    if let Some(d) = d_h0 {
        d.copy_from_slice(&dh);
    }
    if let Some(d) = d_c0 {
        d.copy_from_slice(&dc);
    }
}

#[inline(always)]
fn step_backward<E: Real>(row: &mut [E], c: &[E], c_prev: &[E], dh: &[E], dc: &mut [E]) {
    let n = c.len();
    let (i, rest) = row.split_at_mut(n);
    let (f, rest) = rest.split_at_mut(n);
    let (g, o) = rest.split_at_mut(n);
    let (c_prev, dh, dc, o) = (&c_prev[..n], &dh[..n], &mut dc[..n], &mut o[..n]);
    for j in 0..n {
        let tanh_c = c[j].tanh();
        let d = dc[j] + dh[j] * o[j] * (E::ONE - tanh_c * tanh_c);
        dc[j] = d * f[j];
        o[j] = dh[j] * tanh_c * o[j] * (E::ONE - o[j]);
        f[j] = d * c_prev[j] * f[j] * (E::ONE - f[j]);
        let (was_i, was_g) = (i[j], g[j]);
        i[j] = d * was_g * was_i * (E::ONE - was_i);
        g[j] = d * was_i * (E::ONE - was_g * was_g);
    }
}
