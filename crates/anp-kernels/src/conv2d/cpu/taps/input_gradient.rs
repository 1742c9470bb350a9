use super::super::sizes::Sizes;
use super::correlation::{Correlation, Packed};
use crate::cpu::scalar::Scalar;
use crate::cpu::simd::dispatch;
use crate::cpu::tasks::{filled, part_lens};

/// The places of the input's gradient that see the same taps of the kernel.
struct Phase<E> {
    /// The first of the places, on each axis.
    first: [usize; 2],
    packed: Packed<E>,
}

/// Gradient of the input from that of the output, for any stride.
pub(in super::super) fn strided_input_gradient<E: Scalar>(
    sizes: &Sizes,
    weight: &[E],
    output_grad: &[E],
    threads: usize,
) -> Vec<E> {
    let Sizes { batch_size, channels_in, channels_out, axes: [y, x] } = *sizes;
    let taps = sizes.taps();
    let mut phases = Vec::new();
    for [ry, rx] in (0..y.stride).flat_map(|ry| (0..x.stride).map(move |rx| [ry, rx])) {
        let [(phase_y, first_y), (phase_x, first_x)] = [y.phase(ry), x.phase(rx)];
        let axes = [phase_y, phase_x];
        if axes.iter().any(|axis| axis.taps * axis.output == 0) {
            continue;
        }
        let sizes =
            Sizes { batch_size, channels_in: channels_out, channels_out: channels_in, axes };
        let weight = |c, o, tap| {
            let dy = ry + y.stride * (phase_y.taps - 1 - tap / phase_x.taps);
            let dx = rx + x.stride * (phase_x.taps - 1 - tap % phase_x.taps);
            weight[(o * channels_in + c) * taps + dy * x.taps + dx]
        };
        let packed = Packed::new(&sizes, weight, threads);
        phases.push(Phase { first: [first_y, first_x], packed });
    }
    let (places_in, out_len) = (sizes.places_in(), channels_out * sizes.places_out());
    let image_len = channels_in * places_in;
    filled(part_lens(batch_size * image_len, image_len), threads, |image, grad: &mut [E]| {
        for Phase { first: [first_y, first_x], packed } in &phases {
            let Sizes { axes: [_, phase_x], .. } = packed.sizes;
            let places = packed.sizes.places_out();
            let mut out = vec![E::ZERO; channels_in * places];
            dispatch(Correlation {
                packed,
                bias: None,
                input: &output_grad[image * out_len..][..out_len],
                channels: 0..channels_in,
                out: &mut out,
            });
            for (grad, out) in grad.chunks_exact_mut(places_in).zip(out.chunks_exact(places)) {
                let grad = grad.chunks_exact_mut(x.input).skip(*first_y).step_by(y.stride);
                for (grad, out) in grad.zip(out.chunks_exact(phase_x.output)) {
                    let grad = grad[*first_x..].iter_mut().step_by(x.stride);
                    grad.zip(out).for_each(|(grad, out)| *grad = *out);
                }
            }
        }
    })
}
