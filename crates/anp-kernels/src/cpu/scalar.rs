use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

use super::simd::Vectors;

/// `f32` and `f64`, the types that the kernels compute in.
///
/// The functions of `f32` are free of branches, so that the compiler can vectorise loops over them;
/// those of `f64` are the standard library's. All propagate NaN.
pub(crate) trait Scalar:
    Vectors
    + Copy
    + Debug
    + Default
    + PartialEq
    + PartialOrd
    + Send
    + Sync
    + Sum
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + 'static
{
    const ZERO: Self;
    const ONE: Self;

    fn from_f64(value: f64) -> Self;
    fn from_u32(value: u32) -> Self;
    fn to_f64(self) -> f64;
    /// `e^self`. In `f32`, the argument is clamped to `[-87.3, 88]`, so the result is never zero or
    /// infinite.
    fn exp(self) -> Self;
    fn tanh(self) -> Self;
    /// Natural logarithm; in `f32`, only of normal positive numbers.
    fn ln(self) -> Self;
    /// `ln(1 + self)` for non-negative numbers, accurate for small ones, too.
    fn ln_1p(self) -> Self;
    fn sqrt(self) -> Self;
    /// Cosine and sine of `turn / 2³²` of a full turn.
    fn cos_sin(turn: u32) -> [Self; 2];
    /// The nearest number of bfloat16, ties to even. NaN stays NaN; what is too large becomes
    /// infinite.
    fn to_bf16(self) -> Self;
    /// The bits of [`to_bf16`](Self::to_bf16) in that type.
    fn to_bf16_bits(self) -> u16;

    /// `1 / (1 + e^−self)`.
    #[inline(always)]
    fn sigmoid(self) -> Self {
        Self::ONE / (Self::ONE + (-self).exp())
    }

    /// The larger of two numbers; NaN if either is NaN (unlike `f32::max`).
    #[inline(always)]
    #[allow(clippy::eq_op)]
    fn maximum(self, other: Self) -> Self {
        // Two comparisons, each of which is false if its operand is NaN.
        if self >= other || self.partial_cmp(&self).is_none() { self } else { other }
    }
}

impl Scalar for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value as Self
    }

    #[inline(always)]
    fn from_u32(value: u32) -> Self {
        value as Self
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }

    /// Cephes' `expf`: `2^n · e^r` with `|r| ≤ ln 2 / 2`.
    #[inline(always)]
    fn exp(self) -> Self {
        /// `1.5 · 2²³`: adding it rounds to an integer, which then lies in the lowest bits.
        const ROUND: f32 = 12_582_912.0;
        // `ln 2` in two parts; the first has few bits, so that its product with `n` is exact.
        const LN_2_HIGH: f32 = 0.693_359_4;
        const LN_2_LOW: f32 = -2.121_944_4e-4;

        // Not `clamp`, `min` or `max`: these would lose a NaN.
        let x = if self < -87.3 { -87.3 } else { self };
        let x = if x > 88.0 { 88.0 } else { x };
        let shifted = x * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = x - n * LN_2_HIGH - n * LN_2_LOW;
        let mut p = 1.987_569_1e-4;
        p = p * r + 1.398_199_9e-3;
        p = p * r + 8.333_452e-3;
        p = p * r + 4.166_579_6e-2;
        p = p * r + 1.666_666_6e-1;
        p = p * r + 5e-1;
        let mantissa = p * (r * r) + r + 1.0;
        let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
        mantissa * Self::from_bits(exponent)
    }

    /// A rational approximation, as in Eigen and XLA; outside its range, the result rounds to ±1.
    #[inline(always)]
    fn tanh(self) -> Self {
        let x = if self < -7.905_311 { -7.905_311 } else { self };
        let x = if x > 7.905_311 { 7.905_311 } else { x };
        let z = x * x;
        let mut p = -2.760_768_4e-16;
        p = p * z + 2.000_188e-13;
        p = p * z - 8.604_672e-11;
        p = p * z + 5.122_297_3e-8;
        p = p * z + 1.485_722_35e-5;
        p = p * z + 6.372_619_5e-4;
        p = p * z + 4.893_524_6e-3;
        let mut q = 1.198_258_4e-6;
        q = q * z + 1.185_347_1e-4;
        q = q * z + 2.268_434_7e-3;
        q = q * z + 4.893_525e-3;
        p * x / q
    }

    /// Cephes' `logf`: a polynomial of the mantissa, taken between `√½` and `√2`.
    #[inline(always)]
    fn ln(self) -> Self {
        const LN_2_HIGH: f32 = 0.693_359_4;
        const LN_2_LOW: f32 = -2.121_944_4e-4;

        let bits = self.to_bits();
        let half_to_one = Self::from_bits((bits & 0x007F_FFFF) | 0x3F00_0000);
        let exponent = (bits >> 23) as i32 - 126;
        let is_low = half_to_one < std::f32::consts::FRAC_1_SQRT_2;
        let exponent = (if is_low { exponent - 1 } else { exponent }) as Self;
        let x = (if is_low { half_to_one + half_to_one } else { half_to_one }) - 1.0;
        let z = x * x;
        let mut p = 7.037_683_6e-2;
        p = p * x - 1.151_461e-1;
        p = p * x + 1.167_699_84e-1;
        p = p * x - 1.242_014_1e-1;
        p = p * x + 1.424_932_3e-1;
        p = p * x - 1.666_805_7e-1;
        p = p * x + 2.000_071_4e-1;
        p = p * x - 2.499_999_4e-1;
        p = p * x + 3.333_333e-1;
        (p * x * z + exponent * LN_2_LOW - 0.5 * z) + x + exponent * LN_2_HIGH
    }

    /// Kahan's method, from Hewlett-Packard's calculators: the quotient corrects the rounding of
    /// `1 + self`.
    #[inline(always)]
    fn ln_1p(self) -> Self {
        let rounded = 1.0 + self;
        let ratio = if rounded == 1.0 { 1.0 } else { self / (rounded - 1.0) };
        let ln = if rounded == 1.0 { self } else { Scalar::ln(rounded) };
        ln * ratio
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    /// Cephes' `sinf` and `cosf` up to an eighth of a turn on each side of the nearest quarter.
    #[inline(always)]
    fn cos_sin(turn: u32) -> [Self; 2] {
        const QUARTER: u32 = 1 << 30;
        const UNIT: f32 = std::f32::consts::FRAC_PI_2 / QUARTER as f32;

        let quarters = turn.wrapping_add(QUARTER / 2) / QUARTER;
        let x = turn.wrapping_sub(quarters.wrapping_mul(QUARTER)) as i32 as Self * UNIT;
        let z = x * x;
        let sin = ((-1.951_529_6e-4 * z + 8.332_161e-3) * z - 1.666_665_5e-1) * z * x + x;
        let cos = ((2.443_315_7e-5 * z - 1.388_731_6e-3) * z + 4.166_664_6e-2) * (z * z) - 0.5 * z;
        let cos = cos + 1.0;
        let is_odd = quarters % 2 == 1;
        let (cos, sin) = if is_odd { (sin, cos) } else { (cos, sin) };
        // The cosine is negative in the second and the third quarter, the sine in the last two.
        let negated = |value: Self, quarters: u32| {
            Self::from_bits(value.to_bits() ^ ((quarters << 30) & (1 << 31)))
        };
        [negated(cos, quarters.wrapping_add(1)), negated(sin, quarters)]
    }

    #[inline(always)]
    fn to_bf16(self) -> Self {
        let bits = self.to_bits();
        let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) & 0xFFFF_0000;
        // A NaN could become infinite, or overflow to zero.
        Self::from_bits(if self.is_nan() { (bits | 0x0040_0000) & 0xFFFF_0000 } else { rounded })
    }

    #[inline(always)]
    fn to_bf16_bits(self) -> u16 {
        (self.to_bf16().to_bits() >> 16) as u16
    }
}

impl Scalar for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn from_u32(value: u32) -> Self {
        Self::from(value)
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn exp(self) -> Self {
        self.exp()
    }

    #[inline(always)]
    fn tanh(self) -> Self {
        self.tanh()
    }

    #[inline(always)]
    fn ln(self) -> Self {
        self.ln()
    }

    #[inline(always)]
    fn ln_1p(self) -> Self {
        self.ln_1p()
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn cos_sin(turn: u32) -> [Self; 2] {
        let angle = Self::from(turn) * (std::f64::consts::TAU / 2_f64.powi(32));
        [angle.cos(), angle.sin()]
    }

    /// By way of single precision, as in PyTorch.
    #[inline(always)]
    fn to_bf16(self) -> Self {
        Self::from(Scalar::to_bf16(self as f32))
    }

    #[inline(always)]
    fn to_bf16_bits(self) -> u16 {
        (self as f32).to_bf16_bits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest relative error of `f` in units of `f32`'s precision over a fine grid.
    fn worst(f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64, range: (f64, f64)) -> f64 {
        let (low, high) = range;
        (0..=200_000)
            .map(|i| (low + (high - low) * f64::from(i) / 200_000.0) as f32)
            .map(|x| {
                let exact = exact(f64::from(x));
                (f64::from(f(x)) - exact).abs() / (exact.abs() * f64::from(f32::EPSILON))
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn elementary_functions_are_off_by_a_few_ulps_at_most() {
        assert!(worst(Scalar::exp, f64::exp, (-87.0, 87.9)) < 2.0);
        assert!(worst(Scalar::tanh, f64::tanh, (1e-6, 12.0)) < 4.0);
        assert!(worst(Scalar::tanh, f64::tanh, (-12.0, -1e-6)) < 4.0);
        assert!(worst(Scalar::sigmoid, |x| 1.0 / (1.0 + (-x).exp()), (-80.0, 80.0)) < 4.0);
        assert!(worst(Scalar::ln, f64::ln, (1e-30, 0.9)) < 2.0);
        assert!(worst(Scalar::ln, f64::ln, (0.9, 1.1)) < 2.0);
        assert!(worst(Scalar::ln, f64::ln, (1.1, 1e30)) < 2.0);
        for largest in [1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e30] {
            assert!(worst(Scalar::ln_1p, f64::ln_1p, (1e-3 * largest, largest)) < 4.0);
        }
    }

    #[test]
    fn cosine_and_sine_agree_with_double_precision() {
        assert_eq!(f32::cos_sin(0), [1.0, 0.0]);
        for turn in (0..=u32::MAX).step_by(10_007).chain([1 << 29, 1 << 30, 1 << 31, u32::MAX]) {
            let [cos, sin] = f32::cos_sin(turn).map(f64::from);
            let [exact_cos, exact_sin] = f64::cos_sin(turn);
            let error = (cos - exact_cos).abs().max((sin - exact_sin).abs());
            assert!(error < 1.2e-7, "{cos}, {sin} instead of {exact_cos}, {exact_sin} at {turn}");
        }
    }

    #[test]
    fn extremes_saturate_and_nan_propagates() {
        assert_eq!(Scalar::tanh(f32::INFINITY), 1.0);
        assert_eq!(Scalar::tanh(f32::NEG_INFINITY), -1.0);
        assert_eq!(Scalar::tanh(0.0_f32), 0.0);
        assert_eq!(Scalar::sigmoid(f32::INFINITY), 1.0);
        assert!(Scalar::sigmoid(f32::NEG_INFINITY) < 1e-37);
        for f in [Scalar::exp, Scalar::tanh, Scalar::sigmoid] {
            let f: fn(f32) -> f32 = f;
            assert!(f(f32::NAN).is_nan());
        }
        assert!(Scalar::maximum(f32::NAN, 1.0).is_nan());
        assert!(Scalar::maximum(1.0, f32::NAN).is_nan());
        assert_eq!(Scalar::maximum(1.0, 2.0_f32), 2.0);
    }
}
