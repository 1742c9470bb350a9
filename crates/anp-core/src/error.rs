//! Errors of a wrong value. A wrong shape is a panic of the function that gets it.

/// A hyper-parameter that nothing can be built from.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HyperParamError {
    /// A number outside of its range.
    #[error("`{name}` must be in {range}, but is {value}")]
    OutOfRange {
        /// The hyper-parameter, as a recipe or a configuration spells it.
        name: &'static str,
        /// The numbers it may be, in interval notation.
        range: &'static str,
        /// The number it is.
        value: f64,
    },
    /// A name that is not among the known ones.
    #[error("`{name}` must be one of {known}, but is `{value}`")]
    UnknownName {
        /// The hyper-parameter, as a recipe or a configuration spells it.
        name: &'static str,
        /// The names it may have, separated by commas.
        known: &'static str,
        /// The name it has.
        value: String,
    },
}

/// Check a number, as a recipe does before any data is read.
///
/// # Errors
///
/// [`HyperParamError::OutOfRange`] with these values unless `is_in_range`. `range` says in interval
/// notation what `is_in_range` stands for.
pub fn validate_range(
    name: &'static str,
    value: f64,
    range: &'static str,
    is_in_range: bool,
) -> Result<(), HyperParamError> {
    if is_in_range { Ok(()) } else { Err(HyperParamError::OutOfRange { name, range, value }) }
}

/// Check the strength of a penalty, of which 0 turns it off.
///
/// # Errors
///
/// [`HyperParamError::OutOfRange`] under `name` if `strength` is negative, infinite or NaN.
pub fn validate_strength(name: &'static str, strength: f64) -> Result<(), HyperParamError> {
    validate_range(name, strength, "[0, ∞)", strength.is_finite() && strength >= 0.0)
}

/// Check a width or a count.
///
/// # Errors
///
/// [`HyperParamError::OutOfRange`] under `name` if `size` is 0.
pub fn validate_size(name: &'static str, size: usize) -> Result<(), HyperParamError> {
    validate_range(name, size as f64, "[1, ∞)", size > 0)
}

/// Check a dropout probability.
///
/// # Errors
///
/// [`HyperParamError::OutOfRange`] under `name` if `prob` is not in [0, 1) or is NaN. At 1 nothing
/// is kept and the scale 1/(1−p) is infinite.
pub fn validate_dropout(name: &'static str, prob: f64) -> Result<(), HyperParamError> {
    validate_range(name, prob, "[0, 1)", (0.0..1.0).contains(&prob))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropout_is_a_probability_below_one() {
        for prob in [0.0, 0.5, 1.0 - f64::EPSILON] {
            assert_eq!(validate_dropout("output_dropout", prob), Ok(()));
        }
        for prob in [-0.1, 1.0, 1.5, f64::INFINITY, f64::NAN] {
            let message = validate_dropout("output_dropout", prob).unwrap_err().to_string();
            assert_eq!(message, format!("`output_dropout` must be in [0, 1), but is {prob}"));
        }
    }
}
