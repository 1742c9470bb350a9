//! A convolution of images and its gradients on slices. Each uses the faster of two algorithms:
//! [sums over the taps](taps) or [Winograd's](winograd); or, for bfloat16, [tiles](bf16) where the
//! machine multiplies them.

use super::sizes::Sizes;
use super::{bf16, taps, winograd};
use crate::cpu::bf16::Kernel;
use crate::cpu::reduce::sum_of_parts;
use crate::cpu::scalar::Scalar;
use crate::cpu::simd::vectorized;
use crate::cpu::single::{of_single, single};
use crate::cpu::tasks::{filled, map, part_lens};
use crate::precision::MatmulPrecision;

/// The output, `[batch_size, channels_out, height, width]`, of `input`,
/// `[batch_size, channels_in, height, width]`, and `weight`,
/// `[channels_out, channels_in, kernel height, kernel width]`.
///
/// # Panics
///
/// If a slice is not as long as `sizes` says.
pub(super) fn forward<E: Scalar>(
    sizes: &Sizes,
    input: &[E],
    weight: &[E],
    bias: Option<&[E]>,
    precision: MatmulPrecision,
    threads: usize,
) -> Vec<E> {
    let (channels_in, taps) = (sizes.channels_in, sizes.taps());
    assert_eq!(input.len(), sizes.input_len(), "length of the input");
    assert_eq!(weight.len(), sizes.weight_len(), "length of the weight");
    let weight = |o, c, tap| weight[(o * channels_in + c) * taps + tap];
    correlation(sizes, weight, bias, input, precision, threads)
}

/// Gradient of the input from that of the output.
///
/// # Panics
///
/// If a slice is not as long as `sizes` says.
pub(super) fn input_gradient<E: Scalar>(
    sizes: &Sizes,
    weight: &[E],
    output_grad: &[E],
    precision: MatmulPrecision,
    threads: usize,
) -> Vec<E> {
    let (channels_in, taps) = (sizes.channels_in, sizes.taps());
    assert_eq!(weight.len(), sizes.weight_len(), "length of the weight");
    assert_eq!(output_grad.len(), sizes.output_len(), "length of the output's gradient");
    if sizes.axes.iter().any(|axis| axis.stride > 1) {
        if precision == MatmulPrecision::Bf16 {
            let (weight, output_grad) = (rounded(weight, threads), rounded(output_grad, threads));
            return taps::strided_input_gradient(sizes, &weight, &output_grad, threads);
        }
        return taps::strided_input_gradient(sizes, weight, output_grad, threads);
    }
    let weight = |c, o, tap| weight[(o * channels_in + c) * taps + (taps - 1 - tap)];
    correlation(&sizes.transposed(), weight, None, output_grad, precision, threads)
}

/// Gradient of the weight from that of the output.
///
/// # Panics
///
/// If a slice is not as long as `sizes` says.
pub(super) fn weight_gradient<E: Scalar>(
    sizes: &Sizes,
    input: &[E],
    output_grad: &[E],
    precision: MatmulPrecision,
    threads: usize,
) -> Vec<E> {
    assert_eq!(input.len(), sizes.input_len(), "length of the input");
    assert_eq!(output_grad.len(), sizes.output_len(), "length of the output's gradient");
    if precision == MatmulPrecision::Bf16 {
        if let Some(kernel) = bf16_kernel::<E>(sizes) {
            let (input, output_grad) = (single(input), single(output_grad));
            return of_single(bf16::weight_gradient(kernel, sizes, input, output_grad, threads));
        }
        let (input, output_grad) = (rounded(input, threads), rounded(output_grad, threads));
        return weight_gradient(sizes, &input, &output_grad, MatmulPrecision::Full, threads);
    }
    if winograd::is_faster(sizes) {
        winograd::weight_gradient(sizes, input, output_grad, threads)
    } else {
        taps::weight_gradient(sizes, input, output_grad, threads)
    }
}

/// Gradient of the bias from `output_grad`, `[batch_size, channels, positions]`: a sum over images
/// and positions.
pub(super) fn bias_gradient<E: Scalar>(
    output_grad: &[E],
    channels: usize,
    positions: usize,
    threads: usize,
) -> Vec<E> {
    let images = output_grad.chunks_exact(channels * positions);
    map((0..channels).collect(), threads, |channel| {
        vectorized(
            #[inline(always)]
            || {
                let parts = images.clone().map(|image| &image[channel * positions..][..positions]);
                let sum = sum_of_parts(
                    parts,
                    #[inline(always)]
                    |x| x,
                );
                E::from_f64(sum)
            },
        )
    })
}

/// `out[n, o, p] ← bias[o] + Σ over c and taps of weight(o, c, tap) · input[n, c, p at the tap]`.
fn correlation<E: Scalar>(
    sizes: &Sizes,
    weight: impl Fn(usize, usize, usize) -> E + Sync,
    bias: Option<&[E]>,
    input: &[E],
    precision: MatmulPrecision,
    threads: usize,
) -> Vec<E> {
    if precision == MatmulPrecision::Bf16 {
        if let Some(kernel) = bf16_kernel::<E>(sizes) {
            let weight = |o, c, tap| single(&[weight(o, c, tap)])[0];
            let (bias, input) = (bias.map(single), single(input));
            return of_single(bf16::correlation(kernel, sizes, weight, bias, input, threads));
        }
        let (weight, input) = (|o, c, tap| weight(o, c, tap).to_bf16(), rounded(input, threads));
        return exact_correlation(sizes, weight, bias, &input, threads);
    }
    exact_correlation(sizes, weight, bias, input, threads)
}

fn exact_correlation<E: Scalar>(
    sizes: &Sizes,
    weight: impl Fn(usize, usize, usize) -> E + Sync,
    bias: Option<&[E]>,
    input: &[E],
    threads: usize,
) -> Vec<E> {
    if winograd::is_faster(sizes) {
        winograd::correlation(sizes, weight, bias, input, threads)
    } else {
        taps::correlation(sizes, weight, bias, input, threads)
    }
}

/// What multiplies numbers of this type as bfloat16, if anything does so faster than as they are.
fn bf16_kernel<E: Scalar>(sizes: &Sizes) -> Option<Kernel> {
    Kernel::of::<E>().filter(|_| bf16::is_faster(sizes))
}

/// Numbers of bfloat16.
fn rounded<E: Scalar>(values: &[E], threads: usize) -> Vec<E> {
    /// Fewer are not worth another thread.
    const TASK: usize = 1 << 15;

    filled(part_lens(values.len(), TASK), threads, |task, out: &mut [E]| {
        vectorized(
            #[inline(always)]
            || {
                for (out, value) in out.iter_mut().zip(&values[task * TASK..]) {
                    *out = value.to_bf16();
                }
            },
        );
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::conv2d::Conv2dOptions;
    use crate::cpu::tests::{narrow, wave};

    /// The indices of the output, the input and the weight for all products.
    fn products(case: &Case) -> Vec<[usize; 3]> {
        let Case { batch_size, channels: [channels_in, channels_out], .. } = *case;
        let Case { input, kernel, stride, padding, .. } = *case;
        let output = case.sizes().unwrap().axes.map(|axis| axis.output);
        let mut products = Vec::new();
        let position = |i: usize, tap: usize, axis: usize| {
            let position = (i * stride[axis] + tap).checked_sub(padding[axis])?;
            (position < input[axis]).then_some(position)
        };
        let pairs = |[a, b]: [usize; 2]| (0..a).flat_map(move |i| (0..b).map(move |j| (i, j)));
        for ((n, o), c) in pairs([batch_size, channels_out])
            .flat_map(|image| (0..channels_in).map(move |c| (image, c)))
        {
            for ((i, j), (y, x)) in
                pairs(output).flat_map(|position| pairs(kernel).map(move |tap| (position, tap)))
            {
                if let (Some(u), Some(v)) = (position(i, y, 0), position(j, x, 1)) {
                    products.push([
                        ((n * channels_out + o) * output[0] + i) * output[1] + j,
                        ((n * channels_in + c) * input[0] + u) * input[1] + v,
                        ((o * channels_in + c) * kernel[0] + y) * kernel[1] + x,
                    ]);
                }
            }
        }
        products
    }

    fn close<E: Scalar>(what: &str, actual: &[E], expected: &[f64], tolerance: f64) {
        assert_eq!(actual.len(), expected.len(), "{what}");
        let scale = expected.iter().fold(1.0_f64, |max, x| max.max(x.abs()));
        for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
            let error = (actual.to_f64() - expected).abs() / scale;
            assert!(error < tolerance, "{what}[{index}] is {actual:?}, not {expected}");
        }
    }

    /// All results match sums written out, in single and double precision, and the number of
    /// threads changes no bit.
    fn check(case: &Case) {
        for precision in [MatmulPrecision::Full, MatmulPrecision::Bf16] {
            check_with(case, precision);
        }
    }

    fn check_with(case: &Case, precision: MatmulPrecision) {
        let sizes = &case.sizes().unwrap();
        let Sizes { channels_out, .. } = *sizes;
        let positions = sizes.positions_out();
        let input = wave::<f64>(sizes.input_len(), 1);
        let weight = wave::<f64>(sizes.weight_len(), 2);
        let bias = wave::<f64>(channels_out, 3);
        let output_grad = wave::<f64>(sizes.output_len(), 4);

        let mut out: Vec<f64> =
            (0..output_grad.len()).map(|i| bias[i / positions % channels_out]).collect();
        let mut input_grad = vec![0.0; input.len()];
        let mut weight_grad = vec![0.0; weight.len()];
        let mut bias_grad = vec![0.0; bias.len()];
        let multiplied = |value: f64| match precision {
            MatmulPrecision::Full => value,
            MatmulPrecision::Bf16 => value.to_bf16(),
        };
        for [o, i, w] in products(case) {
            let [grad, x, w_] = [output_grad[o], input[i], weight[w]].map(multiplied);
            out[o] += x * w_;
            input_grad[i] += grad * w_;
            weight_grad[w] += grad * x;
        }
        for (i, output_grad) in output_grad.iter().enumerate() {
            bias_grad[i / positions % channels_out] += output_grad;
        }

        let expected = [out, input_grad, weight_grad, bias_grad];
        let inputs: [&[f64]; 4] = [&input, &weight, &bias, &output_grad];
        let results = run(sizes, inputs, precision, 1);
        for threads in [2, 5] {
            let again = run(sizes, inputs, precision, threads);
            assert_eq!(results, again, "{case:?}: threads change bits");
        }
        let narrowed = inputs.map(narrow::<f32>);
        let narrowed = narrowed.each_ref().map(Vec::as_slice);
        let narrow_results = run(sizes, narrowed, precision, 1);
        let again = run(sizes, narrowed, precision, 2);
        assert_eq!(narrow_results, again, "{case:?}: threads change bits");
        for (index, expected) in expected.iter().enumerate() {
            let what = format!("{case:?}, {precision}: result {index}");
            close(&what, &results[index], expected, 1e-12);
            close(&what, &narrow_results[index], expected, 1e-4);
        }
    }

    fn run<E: Scalar>(
        sizes: &Sizes,
        inputs: [&[E]; 4],
        precision: MatmulPrecision,
        threads: usize,
    ) -> [Vec<E>; 4] {
        let [input, weight, bias, output_grad] = inputs;
        [
            forward(sizes, input, weight, Some(bias), precision, threads),
            input_gradient(sizes, weight, output_grad, precision, threads),
            weight_gradient(sizes, input, output_grad, precision, threads),
            bias_gradient(output_grad, sizes.channels_out, sizes.positions_out(), threads),
        ]
    }

    /// The sizes of a layer.
    #[derive(Debug, Clone, Copy)]
    struct Case {
        batch_size: usize,
        /// Input and output channels.
        channels: [usize; 2],
        input: [usize; 2],
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
    }

    impl Case {
        fn sizes(&self) -> Option<Sizes> {
            let Self { batch_size, channels: [channels_in, channels_out], input, kernel, .. } =
                *self;
            Sizes::new(
                [batch_size, channels_in, input[0], input[1]],
                [channels_out, channels_in, kernel[0], kernel[1]],
                Conv2dOptions { stride: self.stride, padding: self.padding },
            )
        }
    }

    fn case(batch_size: usize, channels: [usize; 2], input: [usize; 2]) -> Case {
        let (kernel, stride, padding) = ([3, 3], [1, 1], [1, 1]);
        Case { batch_size, channels, input, kernel, stride, padding }
    }

    #[test]
    fn residual_networks_match_sums_written_out() {
        check(&case(3, [3, 16], [32, 32]));
        check(&case(2, [40, 24], [16, 16]));
        check(&case(9, [35, 70], [8, 8]));
        check(&Case { stride: [2, 2], ..case(2, [16, 32], [16, 16]) });
        let pointwise = Case { kernel: [1, 1], padding: [0, 0], ..case(2, [160, 33], [8, 8]) };
        check(&pointwise);
        check(&Case { stride: [2, 2], ..pointwise });
    }

    /// Including widths that are not multiples of vectors and tiles, images that are cut, and more
    /// threads than blocks.
    #[test]
    fn winograd_matches_sums_written_out() {
        for case in [
            case(1, [32, 49], [16, 16]),
            case(5, [33, 32], [8, 8]),
            case(2, [40, 32], [15, 31]),
            case(1, [32, 32], [24, 64]),
            case(4, [160, 32], [8, 8]),
            Case { padding: [0, 0], ..case(2, [32, 33], [18, 17]) },
            Case { padding: [2, 1], ..case(2, [32, 40], [16, 32]) },
            Case { padding: [3, 4], ..case(1, [32, 32], [12, 26]) },
        ] {
            assert!(winograd::is_faster(&case.sizes().unwrap()), "{case:?}");
            check(&case);
        }
        for padding in [[0, 0], [1, 2], [3, 3]] {
            let case = Case { padding, ..case(1, [32, 32], [16, 16]) };
            let transposed = case.sizes().unwrap().transposed();
            assert!(winograd::is_faster(&transposed), "{case:?}");
            check(&case);
        }
        for case in [case(64, [31, 64], [8, 8]), case(64, [64, 64], [6, 6])] {
            assert!(!winograd::is_faster(&case.sizes().unwrap()), "{case:?}");
        }
    }

    #[test]
    fn smallest_and_strangest_match_sums_written_out() {
        check(&case(1, [1, 1], [1, 1]));
        check(&Case { kernel: [1, 1], padding: [0, 0], ..case(1, [1, 1], [1, 1]) });
        check(&Case { stride: [3, 2], ..case(2, [2, 3], [7, 5]) });
        // Strides larger than the kernel, padding larger than the kernel, a kernel wider than the
        // input.
        check(&Case { kernel: [2, 1], stride: [3, 4], ..case(2, [2, 3], [9, 11]) });
        check(&Case { kernel: [1, 2], padding: [3, 3], ..case(1, [2, 2], [4, 5]) });
        check(&Case { kernel: [2, 5], padding: [1, 2], ..case(1, [2, 2], [6, 2]) });
        assert_eq!(Case { padding: [0, 0], ..case(1, [1, 1], [2, 3]) }.sizes(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 64,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// With enough channels for tiles of bfloat16.
        #[test]
        fn any_shape_with_many_channels_matches_sums_written_out(
            batch_size in 1..4_usize,
            channels in prop::array::uniform2(16..70_usize),
            input in prop::array::uniform2(1..9_usize),
            kernel in prop::array::uniform2(1..4_usize),
            padding in prop::array::uniform2(0..4_usize),
        ) {
            let case = Case { kernel, padding, ..case(batch_size, channels, input) };
            prop_assume!(case.sizes().is_some());
            check_with(&case, MatmulPrecision::Bf16);
        }

        #[test]
        fn any_shape_matches_sums_written_out(
            batch_size in 1..5_usize,
            channels in prop::array::uniform2(1..20_usize),
            input in prop::array::uniform2(1..12_usize),
            kernel in prop::array::uniform2(1..5_usize),
            stride in prop::array::uniform2(1..4_usize),
            padding in prop::array::uniform2(0..4_usize),
        ) {
            let case = Case { kernel, stride, padding, ..case(batch_size, channels, input) };
            prop_assume!(case.sizes().is_some());
            check(&case);
        }
    }
}
