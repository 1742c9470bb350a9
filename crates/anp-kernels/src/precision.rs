use std::fmt;

use burn::tensor::{FloatDType, Tensor};
use serde::{Deserialize, Serialize};

/// How the operands of a matrix product are rounded before they are multiplied.
///
/// Products are summed, and results stored, in the tensors' own type. Gradients are products, too:
/// their operands are rounded in the same way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MatmulPrecision {
    /// Not at all.
    #[default]
    Full,
    /// To bfloat16, to the nearest number, ties to even.
    Bf16,
}

impl MatmulPrecision {
    /// Name in commands and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Bf16 => "bf16",
        }
    }

    /// `lhs · rhs` in Burn's operations.
    ///
    /// # Panics
    ///
    /// If the sizes do not fit, or the device does not support the type that operands are rounded
    /// to.
    pub fn matmul(self, lhs: Tensor<2>, rhs: Tensor<2>) -> Tensor<2> {
        self.matmul_prepared(lhs, self.prepare(rhs))
    }

    /// The right operand of several products ([`matmul_prepared`](Self::matmul_prepared)), rounded
    /// once for all of them.
    ///
    /// # Panics
    ///
    /// If the device does not support the type.
    pub fn prepare<const D: usize>(self, rhs: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Full => rhs,
            Self::Bf16 => round_value(rhs),
        }
    }

    /// [`matmul`](Self::matmul) with a right operand from [`prepare`](Self::prepare).
    ///
    /// # Panics
    ///
    /// As [`matmul`](Self::matmul).
    pub fn matmul_prepared(self, lhs: Tensor<2>, rhs: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Full => lhs.matmul(rhs),
            Self::Bf16 => self.round_gradient(round_value(lhs).matmul(rhs)),
        }
    }

    /// Pass the values on as they are, and round the gradient, which is an operand of products.
    pub(crate) fn round_gradient<const D: usize>(self, tensor: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Full => tensor,
            Self::Bf16 => round_gradient(tensor),
        }
    }
}

impl fmt::Display for MatmulPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// By way of single precision, there and back (which is the way of a gradient): a cast from double
/// precision would ignore the lowest 32 bits.
fn round<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    let dtype = tensor.dtype();
    tensor.cast(FloatDType::F32).cast(FloatDType::BF16).cast(FloatDType::F32).cast(dtype)
}

/// `a − b`, which is exact for a number and its rounding.
fn difference<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    (a - b).detach()
}

/// Round the values, and pass the gradient on as it is.
fn round_value<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    let rounded = round(tensor.clone().detach());
    // Also where the number is infinite, or becomes it.
    let is_infinite = rounded.clone().is_inf();
    let change = difference(rounded.clone(), tensor.clone());
    (tensor + change).mask_where(is_infinite, rounded)
}

/// Pass the values on as they are, and round the gradient: that of a cast is a cast.
fn round_gradient<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    let rounded = round(tensor.clone());
    let is_infinite = rounded.clone().is_inf();
    let rest = difference(tensor.clone(), rounded.clone());
    (rounded + rest).mask_where(is_infinite, tensor)
}
