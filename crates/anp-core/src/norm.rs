//! What is penalised of an activation, and how a minibatch of it becomes one number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::HyperParamError;

/// Norm of one token's activation `h`, a row of K features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// ‖h‖₂² = Σₖ hₖ², the paper's penalty.
    L2sq,
    /// ‖h‖₂ = (Σₖ hₖ²)^½, not squared.
    L2,
    /// ‖h‖₁ = Σₖ |hₖ|.
    L1,
    /// ‖h‖∞ = maxₖ |hₖ|.
    Linf,
}

/// Factor of the sum of the [`Norm`]s of a minibatch's N tokens with K features, without η.
///
/// | reduction | squared L2 | L2, L1, L∞ |
/// | --- | --- | --- |
/// | [`HalfSum`](Self::HalfSum) | ½ | 1 |
/// | [`MeanElements`](Self::MeanElements) | 1/(N·K) | 1/(N·K) |
/// | [`PerToken`](Self::PerToken) | 1/N | 1/N |
/// | [`Eq11Literal`](Self::Eq11Literal) | N/K | N/K |
///
/// The half belongs to the square: it makes the gradient η·h. A norm without a square has no such
/// factor to cancel and takes the plain sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// Half the sum over the whole minibatch, as the paper's authors' code has it.
    HalfSum,
    /// Mean over all elements, the activation regularisation (AR) of AWD-LSTM; η is its α. For L2
    /// and L∞, which are no sum over elements, it is [`PerToken`](Self::PerToken) divided by K.
    MeanElements,
    /// Mean over tokens of the token's norm.
    PerToken,
    /// The factor N/K of the paper's equation 11 as printed, with N all tokens of the minibatch.
    Eq11Literal,
}

/// The variants of an enum and their names, which are those that serde reads and writes.
macro_rules! names {
    (
        $enum:ident, $key:literal:
        $first:ident = $known:literal $(, $variant:ident = $name:literal)*
    ) => {
        impl $enum {
            /// All of them.
            pub const ALL: [Self; 4] = [Self::$first $(, Self::$variant)*];

            /// Name in recipes and records.
            pub const fn name(self) -> &'static str {
                match self {
                    Self::$first => $known,
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl fmt::Display for $enum {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $enum {
            type Err = HyperParamError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.into_iter().find(|it| it.name() == text).ok_or_else(|| {
                    let known = concat!($known $(, ", ", $name)*);
                    HyperParamError::UnknownName { name: $key, known, value: text.to_owned() }
                })
            }
        }
    };
}

names!(Norm, "norm": L2sq = "l2sq", L2 = "l2", L1 = "l1", Linf = "linf");
names!(
    Reduction, "reduction": HalfSum = "half_sum", MeanElements = "mean_elements",
    PerToken = "per_token", Eq11Literal = "eq11_literal"
);

impl Reduction {
    /// The factor of the sum over tokens of `norm`, for `num_tokens` rows (N) of `num_features`
    /// (K).
    pub fn weight(self, norm: Norm, num_tokens: usize, num_features: usize) -> f64 {
        let [tokens, features] = [num_tokens as f64, num_features as f64];
        match (self, norm) {
            (Self::HalfSum, Norm::L2sq) => 0.5,
            (Self::HalfSum, Norm::L2 | Norm::L1 | Norm::Linf) => 1.0,
            (Self::MeanElements, _) => 1.0 / (tokens * features),
            (Self::PerToken, _) => 1.0 / tokens,
            (Self::Eq11Literal, _) => tokens / features,
        }
    }

    /// [`weight`](Self::weight) for an activation of this shape, whose last dimension is features.
    ///
    /// # Panics
    ///
    /// If it has no element.
    pub(crate) fn weight_of_shape<const D: usize>(self, norm: Norm, dims: [usize; D]) -> f64 {
        let [num_tokens, num_features] = tokens_and_features(dims);
        self.weight(norm, num_tokens, num_features)
    }
}

/// Tokens (all dimensions but the last) and features of an activation of this shape.
///
/// # Panics
///
/// If it has no element.
pub(crate) fn tokens_and_features<const D: usize>(dims: [usize; D]) -> [usize; 2] {
    let num_elements: usize = dims.iter().product();
    assert!(num_elements > 0, "the penalty needs an activation, got the shape {dims:?}");
    [num_elements / dims[D - 1], dims[D - 1]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_serde_display_and_from_str() {
        for norm in Norm::ALL {
            let json = serde_json::to_string(&norm).unwrap();
            assert_eq!(json, format!("\"{norm}\""));
            assert_eq!(serde_json::from_str::<Norm>(&json).unwrap(), norm);
            assert_eq!(norm.name().parse(), Ok(norm));
        }
        for reduction in Reduction::ALL {
            let json = serde_json::to_string(&reduction).unwrap();
            assert_eq!(json, format!("\"{reduction}\""));
            assert_eq!(serde_json::from_str::<Reduction>(&json).unwrap(), reduction);
            assert_eq!(reduction.name().parse(), Ok(reduction));
        }
    }

    #[test]
    fn an_unknown_name_is_told_with_every_known_one() {
        let message = "frobenius".parse::<Norm>().unwrap_err().to_string();
        for norm in Norm::ALL {
            assert!(message.contains(norm.name()), "{message}");
        }
        let message = "sum".parse::<Reduction>().unwrap_err().to_string();
        for reduction in Reduction::ALL {
            assert!(message.contains(reduction.name()), "{message}");
        }
        assert!(message.ends_with("but is `sum`"), "{message}");
    }

    #[test]
    fn only_the_square_is_halved() {
        assert_eq!(Reduction::HalfSum.weight(Norm::L2sq, 700, 512), 0.5);
        for norm in [Norm::L2, Norm::L1, Norm::Linf] {
            assert_eq!(Reduction::HalfSum.weight(norm, 700, 512), 1.0);
        }
    }
}
