//! The live value of the penalty, as a metric of burn-train: a regulariser that is silently off
//! shows here.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorReadError};
use burn::train::metric::state::{FormatOptions, NumericMetricState};
use burn::train::metric::{
    Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes, NumericEntry,
    SerializedEntry,
};

/// A penalty, `[1]`.
pub struct PenaltyInput(pub Tensor<1>);

/// Mean of the penalty over the batches of an epoch.
#[derive(Clone)]
pub struct PenaltyMetric {
    name: MetricName,
    state: NumericMetricState,
}

impl PenaltyMetric {
    /// The metric before the first batch.
    pub fn new() -> Self {
        Self { name: Arc::new("Penalty".to_owned()), state: NumericMetricState::new() }
    }

    fn format(&self) -> FormatOptions {
        FormatOptions::new(self.name()).precision(4)
    }
}

impl Metric for PenaltyMetric {
    type Input = PenaltyInput;

    fn name(&self) -> MetricName {
        Arc::clone(&self.name)
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes { unit: None, higher_is_better: false }.into()
    }

    fn update(
        &mut self,
        penalty: &PenaltyInput,
        _metadata: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        self.state.update(penalty.0.clone().try_into_scalar::<f64>()?, 1);
        Ok(self.state.compute_update(self.format()))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.state.compute_final(self.format()))
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl Numeric for PenaltyMetric {
    fn value(&self) -> Option<NumericEntry> {
        Some(self.state.current_value())
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(self.state.running_value())
    }

    fn final_value(&self) -> NumericEntry {
        self.state.final_value()
    }
}
