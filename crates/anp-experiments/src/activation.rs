//! Sums over activations, for the statistics that records and analyses have.

use burn::tensor::Tensor;

use crate::text::record::ActivationStatistics;

/// Sums for [`ActivationStatistics`].
#[derive(Debug, Default)]
pub(crate) struct ActivationSums {
    norm: ScalarSum,
    squares: ScalarSum,
    saturated: ScalarSum,
    frobenius_per_step: ScalarSum,
    windows: usize,
    tokens: usize,
    elements: usize,
}

impl ActivationSums {
    /// Magnitude above which a unit of a tanh counts as saturated.
    pub const SATURATED: f64 = 0.9;

    /// Add the activation of a window, `[seq_length, batch_size, width]`; returns whether values
    /// were read from the device.
    pub fn add(&mut self, activation: Tensor<3>) -> bool {
        let [seq_length, batch_size, width] = activation.dims();
        let squared_norms = activation.clone().square().sum_dim(2);
        self.frobenius_per_step.add(squared_norms.clone().sum().sqrt() / seq_length as f64);
        self.norm.add(squared_norms.clone().sqrt().sum());
        self.squares.add(squared_norms.sum());
        let saturated = activation.abs().greater_scalar(Self::SATURATED).int().sum().float();
        self.windows += 1;
        self.tokens += seq_length * batch_size;
        self.elements += seq_length * batch_size * width;
        self.saturated.add(saturated)
    }

    /// The statistics of what was added.
    pub fn statistics(mut self) -> ActivationStatistics {
        let (tokens, elements) = (self.tokens as f64, self.elements as f64);
        let squares = self.squares.read();
        ActivationStatistics {
            norm: self.norm.read() / tokens,
            half_squared_norm: 0.5 * squares / tokens,
            frobenius_per_step: self.frobenius_per_step.read() / self.windows as f64,
            rms: (squares / elements).sqrt(),
            saturated: self.saturated.read() / elements,
        }
    }
}

/// A sum of scalars in double precision. Scalars are read a few at a time, so as not to wait for
/// the device at each.
#[derive(Debug, Default)]
pub(crate) struct ScalarSum {
    total: f64,
    pending: Vec<Tensor<1>>,
}

impl ScalarSum {
    const READ_EVERY: usize = 32;

    /// Add a scalar; returns whether the sum was updated.
    pub fn add(&mut self, value: Tensor<1>) -> bool {
        self.pending.push(value.inner());
        let full = self.pending.len() == Self::READ_EVERY;
        if full {
            self.read();
        }
        full
    }

    /// The sum so far.
    pub fn read(&mut self) -> f64 {
        if !self.pending.is_empty() {
            let values = Tensor::cat(std::mem::take(&mut self.pending), 0).into_data();
            self.total = values.iter::<f64>().fold(self.total, |total, value| total + value);
        }
        self.total
    }
}
