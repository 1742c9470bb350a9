use std::ops::Range;

use crate::cpu::matmul::{Matrix, matmul};
use crate::cpu::scalar::Scalar;
use crate::precision::MatmulPrecision;

/// A linear layer over classes, its input and the targets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer<'a, E> {
    weight: &'a [E],
    /// `[num_classes]`.
    pub(super) bias: &'a [E],
    pub(super) tied: bool,
    /// `[tokens, d_hidden]`.
    pub(super) hidden: &'a [E],
    /// `[tokens]`.
    pub(super) targets: &'a [usize],
    pub(super) d_hidden: usize,
    pub(super) num_classes: usize,
    pub(super) precision: MatmulPrecision,
}

impl<'a, E: Scalar> Layer<'a, E> {
    /// `weight`: `[d_hidden, num_classes]` or, if `tied` to an embedding, `[num_classes,
    /// d_hidden]`, row-major.
    ///
    /// # Panics
    ///
    /// If a size is 0, a slice has the wrong length or a target is not one of the classes.
    pub(super) fn new(
        weight: &'a [E],
        bias: &'a [E],
        tied: bool,
        hidden: &'a [E],
        targets: &'a [usize],
    ) -> Self {
        let num_classes = bias.len();
        let d_hidden = weight.len().checked_div(num_classes).unwrap_or(0);
        assert!(d_hidden > 0, "a layer of {d_hidden} by {num_classes}");
        assert_eq!(weight.len(), d_hidden * num_classes, "length of the weight");
        assert_eq!(hidden.len(), targets.len() * d_hidden, "length of the hidden states");
        for (token, &target) in targets.iter().enumerate() {
            assert!(
                target < num_classes,
                "the target {target} of token {token} is none of the {num_classes} classes"
            );
        }
        let precision = MatmulPrecision::Full;
        Self { weight, bias, tied, hidden, targets, d_hidden, num_classes, precision }
    }

    /// The same with products of another precision.
    pub(super) fn with_precision(self, precision: MatmulPrecision) -> Self {
        Self { precision, ..self }
    }

    /// The weights of some classes: `[d_hidden, classes.len()]`.
    pub(super) fn weight(&self, classes: Range<usize>) -> Matrix<'a, E> {
        let Range { start, end } = classes;
        let (h, v) = (self.d_hidden, self.num_classes);
        if self.tied {
            Matrix::new(&self.weight[start * h..end * h], end - start, h).t()
        } else {
            Matrix::strided(&self.weight[start..], [h, end - start], [v, 1])
        }
    }

    /// The hidden states as a matrix: `[tokens, d_hidden]`.
    pub(super) fn tokens<'h>(&self, hidden: &'h [E]) -> Matrix<'h, E> {
        Matrix::new(hidden, self.targets.len(), self.d_hidden)
    }

    /// `hidden · weight`. The bias is added where the logits are read next.
    pub(super) fn logits(&self, threads: usize) -> Vec<E> {
        let (tokens, weight) = (self.tokens(self.hidden), self.weight(0..self.num_classes));
        matmul(E::ONE, tokens, weight, self.precision, threads)
    }
}

/// Rows of logits per task.
pub(super) fn rows_per_task(num_classes: usize) -> usize {
    /// Fewer are not worth another thread.
    const ELEMENTS: usize = 1 << 16;
    (ELEMENTS / num_classes).max(1)
}
