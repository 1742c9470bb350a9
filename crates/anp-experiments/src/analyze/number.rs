use serde::Serialize;

/// A measured number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Number {
    /// The value.
    pub value: f64,
    /// Standard error of the value, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standard_error: Option<f64>,
    /// Its unit; `1` for pure numbers.
    pub unit: &'static str,
}

impl Number {
    /// A number without a standard error.
    pub fn new(value: f64, unit: &'static str) -> Self {
        Self { value, standard_error: None, unit }
    }

    /// Mean of `values`, with the standard error of independent ones; NaN if there are none.
    pub fn mean(values: &[f64], unit: &'static str) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let square: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let standard_error = (values.len() > 1).then(|| (square / (count * (count - 1.0))).sqrt());
        Self { value: mean, standard_error, unit }
    }
}

/// What numbers were measured on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct On {
    /// Part of the data: `train`, `valid` or `test`.
    pub split: &'static str,
    /// How many items.
    pub items: usize,
    /// What an item is.
    pub item: &'static str,
    /// `evaluation`, or `training` with dropout and the statistics of the batch.
    pub mode: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_has_the_standard_error_of_the_textbook() {
        let Number { value, standard_error, .. } = Number::mean(&[1.0, 2.0, 6.0], "nats");
        // Deviations −2, −1, 3: 14 / (3 · 2).
        assert_eq!(value, 3.0);
        assert!((standard_error.unwrap() - (14.0_f64 / 6.0).sqrt()).abs() < 1e-15);
        assert_eq!(Number::mean(&[2.5], "1").standard_error, None);
        assert!(Number::mean(&[], "1").value.is_nan());
    }
}
