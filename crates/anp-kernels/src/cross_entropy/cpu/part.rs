use super::LOWEST;
use crate::cpu::reduce::{BLOCK, maximum, sum_block, sum_of_squares};
use crate::cpu::scalar::Scalar;

/// Sums over some of a token's classes, with the largest logit `m` among them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) maximum: f64,
    /// `Σ e^(z − m)`
    pub(super) sum: f64,
    /// `Σ e^(z − m) (z − m)`
    weighted: f64,
    /// `Σ z²`
    pub(super) square: f64,
}

impl Part {
    /// Sums over no classes.
    pub(super) const EMPTY: Self =
        Self { maximum: f64::NEG_INFINITY, sum: 0.0, weighted: 0.0, square: 0.0 };

    /// The sums of logits to which the bias has not been added yet; it is added here.
    #[inline(always)]
    pub(super) fn of<E: Scalar>(row: &mut [E], bias: &[E]) -> Self {
        let maximum = add_bias(row, bias);
        // If all classes are excluded, the difference from the largest logit would be NaN.
        let shift = if maximum.to_f64() == f64::NEG_INFINITY { E::ZERO } else { maximum };
        let mut part = Self { maximum: maximum.to_f64(), ..Self::EMPTY };
        let (mut exps, mut products) = ([E::ZERO; BLOCK], [E::ZERO; BLOCK]);
        for block in row.chunks(BLOCK) {
            let (exps, products) = (&mut exps[..block.len()], &mut products[..block.len()]);
            for ((value, exp), product) in block.iter().zip(&mut *exps).zip(&mut *products) {
                let difference = *value - shift;
                *exp = difference.exp();
                *product = *exp * difference.maximum(E::from_f64(LOWEST));
            }
            part.sum += sum_block(exps);
            part.weighted += sum_block(products);
            part.square += sum_of_squares(block);
        }
        part
    }

    pub(super) fn joined(self, other: Self) -> Self {
        let maximum = self.maximum.max(other.maximum);
        let [mut sum, mut weighted] = [0.0; 2];
        for part in [self, other] {
            let shift = (part.maximum - maximum).max(LOWEST);
            sum += shift.exp() * part.sum;
            weighted += shift.exp() * (part.weighted + shift * part.sum);
        }
        Self { maximum, sum, weighted, square: self.square + other.square }
    }

    pub(super) fn nll(&self, logit: f64) -> f64 {
        self.sum.ln() + (self.maximum - logit)
    }

    pub(super) fn log_partition(&self) -> f64 {
        self.maximum + self.sum.ln()
    }

    /// `−Σ p ln p` with `ln p = (z − m) − ln Σ e^(z − m)`. Nothing cancels: no term is negative.
    pub(super) fn entropy(&self) -> f64 {
        self.sum.ln() - self.weighted / self.sum
    }
}

/// Add the bias to the logits of a token, and return the largest.
///
/// This ignores NaN; the sum of exponentials does not.
#[inline(always)]
pub(super) fn add_bias<E: Scalar>(row: &mut [E], bias: &[E]) -> E {
    let mut largest = E::from_f64(f64::NEG_INFINITY);
    for (block, bias) in row.chunks_mut(BLOCK).zip(bias.chunks(BLOCK)) {
        for (value, bias) in block.iter_mut().zip(bias) {
            *value += *bias;
        }
        let candidate = maximum(block);
        largest = if candidate > largest { candidate } else { largest };
    }
    largest
}
