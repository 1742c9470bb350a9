use crate::data::Split;

/// What an analysis measures, and on how much.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The part of the data; `None` is validation for texts and test for images.
    pub split: Option<Split>,
    /// Most windows or batches that are measured, from the beginning of the split.
    pub max_windows: usize,
    /// Items of the spectra and of the estimates of information, at least 2.
    pub samples: usize,
    /// Variance ε that K̂ adds to each item's own.
    pub epsilon: f64,
    /// Standard deviations of the noise, as multiples of the activation's root mean square.
    pub relative_sigmas: Vec<f64>,
    /// Standard deviations of the noise that are the same for every activation.
    pub absolute_sigmas: Vec<f64>,
    /// Training steps whose gradients are compared.
    pub gradient_steps: usize,
    /// Seed of the choice of items and of the masks in training; `None` is the run's.
    pub seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            split: None,
            max_windows: 20,
            samples: 512,
            epsilon: 1e-3,
            relative_sigmas: vec![0.5, 1.0, 2.0, 4.0, 8.0],
            absolute_sigmas: vec![1.0],
            gradient_steps: 8,
            seed: None,
        }
    }
}

/// An option without a meaning.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("`{name}` must be in {range}, but is {value}")]
pub struct OptionsError {
    name: &'static str,
    range: &'static str,
    value: f64,
}

impl Options {
    /// Check the values, before any data is read.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] for the first that is out of range.
    pub fn validate(&self) -> Result<(), OptionsError> {
        let relative = self.relative_sigmas.iter().map(|&sigma| ("sigma", sigma));
        let absolute = self.absolute_sigmas.iter().map(|&sigma| ("absolute-sigma", sigma));
        let epsilon = [("epsilon", self.epsilon)].into_iter();
        for (name, value) in epsilon.chain(relative).chain(absolute) {
            if !(value > 0.0 && value.is_finite()) {
                return Err(OptionsError { name, range: "(0, ∞)", value });
            }
        }
        let counts = [
            ("max-windows", self.max_windows, 1, "[1, ∞)"),
            ("samples", self.samples, 2, "[2, ∞)"),
        ];
        for (name, value, least, range) in counts {
            if value < least {
                return Err(OptionsError { name, range, value: value as f64 });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_without_a_meaning_are_named() {
        Options::default().validate().unwrap();
        for (options, phrase) in [
            (Options { epsilon: 0.0, ..Options::default() }, "`epsilon` must be in (0, ∞)"),
            (Options { samples: 1, ..Options::default() }, "`samples` must be in [2, ∞)"),
            (Options { max_windows: 0, ..Options::default() }, "`max-windows` must be in"),
            (
                Options { relative_sigmas: vec![1.0, f64::NAN], ..Options::default() },
                "`sigma` must be in (0, ∞), but is NaN",
            ),
            (
                Options { absolute_sigmas: vec![0.0], ..Options::default() },
                "`absolute-sigma` must be in (0, ∞), but is 0",
            ),
        ] {
            let message = options.validate().unwrap_err().to_string();
            assert!(message.contains(phrase), "{message}");
        }
    }
}
