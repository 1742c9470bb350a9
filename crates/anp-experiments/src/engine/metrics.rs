//! What a run shows while it goes on, as metrics of burn-train.

use std::sync::Arc;

use burn::tensor::{ExecutionError, TensorReadError};
use burn::train::ItemLazy;
use burn::train::metric::{
    Adaptor, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes,
    NumericEntry, SerializedEntry,
};

use crate::text::learner::WindowOutput;

/// What the training loop and the metrics exchange: a window as the model gives it, or several windows
/// whose values the loop has read.
#[derive(Debug, Clone)]
pub enum StepReport {
    /// One window, still on the device.
    Window(Box<WindowOutput>),
    /// Several windows.
    Summary(Summary),
}

impl StepReport {
    /// The window that a step gave.
    ///
    /// # Panics
    ///
    /// If it is a summary: steps give windows, only the loop makes summaries.
    pub fn into_window(self) -> WindowOutput {
        match self {
            Self::Window(window) => *window,
            Self::Summary(_) => panic!("a step gives a window"),
        }
    }
}

/// The values of several windows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    /// Mean loss without penalties, nats a token.
    pub nll: f64,
    /// Mean over the windows of all penalties together, as added to the summed loss.
    pub penalty: f64,
    /// Mean over the windows of the norm of all gradients, before the clip.
    pub grad_norm: f64,
    /// Share of the images that are classified rightly, in percent; 0 for texts.
    pub accuracy: f64,
    /// Tokens predicted, or images.
    pub tokens: usize,
    /// Seconds that the windows took.
    pub seconds: f64,
}

impl ItemLazy for StepReport {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(self)
    }
}

impl Adaptor<Summary> for StepReport {
    /// A window's values are waited for, and the norm of its gradients, which only the loop computes, is missing: the
    /// loop of this crate hands on summaries, but burn-train's own would hand on what a step gives.
    fn adapt(&self) -> Summary {
        match self {
            Self::Summary(summary) => *summary,
            Self::Window(window) => Summary {
                nll: window.nll_sum.clone().into_scalar::<f64>() / window.tokens as f64,
                penalty: window.penalties.iter().map(|p| p.clone().into_scalar::<f64>()).sum(),
                tokens: window.tokens,
                ..Summary::default()
            },
        }
    }
}

/// A quantity of [`Summary`], averaged over an epoch.
#[derive(Debug, Clone)]
pub struct SummaryMetric {
    name: Arc<String>,
    quantity: Quantity,
    sum: f64,
    weight: f64,
    current: f64,
}

/// Which quantity a [`SummaryMetric`] shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Loss, nats a token.
    Loss,
    /// Perplexity: the exponential of the mean loss, not a mean of exponentials.
    Perplexity,
    /// All penalties together.
    Penalty,
    /// Norm of all gradients before the clip.
    GradNorm,
    /// Tokens a second.
    TokensPerSecond,
    /// Share of the images that are classified rightly, in percent.
    Accuracy,
    /// Images a second.
    ImagesPerSecond,
}

impl Quantity {
    /// Name of the metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "Loss",
            Self::Perplexity => "Perplexity",
            Self::Penalty => "Penalty",
            Self::GradNorm => "Gradient norm",
            Self::TokensPerSecond => "Tokens per second",
            Self::Accuracy => "Accuracy",
            Self::ImagesPerSecond => "Images per second",
        }
    }
}

impl SummaryMetric {
    /// A metric of `quantity`.
    pub fn new(quantity: Quantity) -> Self {
        Self {
            name: Arc::new(quantity.name().to_owned()),
            quantity,
            sum: 0.0,
            weight: 0.0,
            current: f64::NAN,
        }
    }

    /// From what is averaged to what is shown.
    fn shown(&self, mean: f64) -> f64 {
        match self.quantity {
            Quantity::Perplexity => mean.exp(),
            _ => mean,
        }
    }

    fn mean(&self) -> f64 {
        self.shown(self.sum / self.weight)
    }

    fn entry(&self) -> SerializedEntry {
        let formatted = format!("epoch {:.4} - batch {:.4}", self.mean(), self.shown(self.current));
        SerializedEntry::new(formatted, NumericEntry::Value(self.mean()).serialize())
    }
}

impl Metric for SummaryMetric {
    type Input = Summary;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes {
            unit: None,
            higher_is_better: matches!(
                self.quantity,
                Quantity::TokensPerSecond | Quantity::ImagesPerSecond | Quantity::Accuracy
            ),
        }
        .into()
    }

    fn update(
        &mut self,
        summary: &Summary,
        _metadata: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        let tokens = summary.tokens as f64;
        let (value, weight) = match self.quantity {
            Quantity::Loss | Quantity::Perplexity => (summary.nll, tokens),
            Quantity::Penalty => (summary.penalty, tokens),
            Quantity::GradNorm => (summary.grad_norm, tokens),
            Quantity::Accuracy => (summary.accuracy, tokens),
            Quantity::TokensPerSecond | Quantity::ImagesPerSecond => {
                (tokens / summary.seconds, summary.seconds)
            }
        };
        self.current = value;
        self.sum += value * weight;
        self.weight += weight;
        Ok(self.entry())
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.entry())
    }

    fn clear(&mut self) {
        *self = Self::new(self.quantity);
    }
}

impl Numeric for SummaryMetric {
    fn value(&self) -> Option<NumericEntry> {
        Some(NumericEntry::Value(self.shown(self.current)))
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(NumericEntry::Value(self.mean()))
    }

    fn final_value(&self) -> NumericEntry {
        NumericEntry::Final(self.mean())
    }
}

#[cfg(test)]
mod tests {
    use anp_models::LmState;
    use burn::data::dataloader::Progress;
    use burn::tensor::{Device, Tensor};

    use super::*;

    #[test]
    fn a_window_that_is_read_is_a_summary_of_one() {
        let device = Device::default();
        let scalar = |value: f32| Tensor::<1>::from_data([value], &device);
        let report = StepReport::Window(Box::new(WindowOutput {
            nll_sum: scalar(6.0),
            tokens: 4,
            penalties: vec![scalar(0.5), scalar(0.25)],
            state: LmState { layers: Vec::new(), pointer: None },
            rows: None,
        }));
        let summary: Summary = report.adapt();
        let expected = Summary { nll: 1.5, penalty: 0.75, tokens: 4, ..Summary::default() };
        assert_eq!(summary, expected);
    }

    #[test]
    fn perplexity_is_the_exponential_of_the_mean_loss_over_tokens() {
        let mut metric = SummaryMetric::new(Quantity::Perplexity);
        let metadata =
            MetricMetadata { progress: Progress::new(1, 1, None), iteration: None, lr: None };
        for (nll, tokens) in [(2.0, 30), (6.0, 10)] {
            let summary = Summary { nll, tokens, ..Summary::default() };
            metric.update(&summary, &metadata).unwrap();
        }
        assert!((metric.running_value().unwrap().current() - 3.0_f64.exp()).abs() < 1e-12);
        assert!((metric.value().unwrap().current() - 6.0_f64.exp()).abs() < 1e-12);
    }
}
