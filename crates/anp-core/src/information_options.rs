//! The readings of the information bound.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which terms of the divergence count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InformationTerms {
    /// The trace alone, as in the paper's equation 11: the activation norm penalty.
    Trace,
    /// The whole divergence.
    TraceAndLogDeterminant,
}

impl fmt::Display for InformationTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Trace => "trace",
            Self::TraceAndLogDeterminant => "trace_and_log_determinant",
        })
    }
}

/// Factor of the sum of squares in the trace, for a group of N examples with K features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceFactor {
    /// 1/K: the trace of ΦΦᵀ/K.
    Corrected,
    /// N/K, as printed in the paper's equation 10. The N is an error: with it the sum of the terms
    /// is no divergence, and smallest where the eigenvalues of K̂ are 1/N.
    Printed,
}

impl TraceFactor {
    /// The factor without 1/K.
    pub(crate) fn multiple(self, num_examples: usize) -> f64 {
        match self {
            Self::Corrected => 1.0,
            Self::Printed => num_examples as f64,
        }
    }
}

impl fmt::Display for TraceFactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Corrected => "corrected",
            Self::Printed => "printed",
        })
    }
}

/// The examples that have one Gaussian together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExampleGroup {
    /// The batch at one time step, N = B; the bounds of the T steps add up.
    TimeStep,
    /// All tokens of the minibatch, N = B·T.
    Minibatch,
}

impl fmt::Display for ExampleGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::TimeStep => "time_step",
            Self::Minibatch => "minibatch",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_serde_and_display() {
        let json = |value: serde_json::Value| value.as_str().expect("a name").to_owned();
        for terms in [InformationTerms::Trace, InformationTerms::TraceAndLogDeterminant] {
            assert_eq!(json(serde_json::to_value(terms).unwrap()), terms.to_string());
        }
        for factor in [TraceFactor::Corrected, TraceFactor::Printed] {
            assert_eq!(json(serde_json::to_value(factor).unwrap()), factor.to_string());
        }
        for group in [ExampleGroup::TimeStep, ExampleGroup::Minibatch] {
            assert_eq!(json(serde_json::to_value(group).unwrap()), group.to_string());
        }
    }
}
