//! What a run shows while it goes on, as metrics of burn-train.

use std::sync::Arc;

use burn::tensor::{ExecutionError, TensorReadError};
use burn::train::ItemLazy;
use burn::train::metric::{
    Adaptor, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes,
    NumericEntry, SerializedEntry,
};

/// What the training loop and the metrics exchange: what a step gives, or several steps whose
/// scalars the loop has read.
#[derive(Debug, Clone)]
pub enum Report<O> {
    /// One step, still on the device.
    Step(Box<O>),
    /// Several steps.
    Summary(Summary),
}

/// What a step gives, as a summary of itself.
pub trait StepOutput: Send + 'static {
    /// Waits for the device.
    fn summary(&self) -> Summary;
}

impl<O> Report<O> {
    /// What a step gave.
    pub fn step(output: O) -> Self {
        Self::Step(Box::new(output))
    }

    /// What a step gave.
    ///
    /// # Panics
    ///
    /// If it is a summary: only the loop makes summaries.
    pub fn into_step(self) -> O {
        match self {
            Self::Step(output) => *output,
            Self::Summary(_) => panic!("a step gives no summary"),
        }
    }
}

/// The values of several steps.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    /// Mean loss per item, without penalties: nats per token or image.
    pub loss: f64,
    /// Mean over the steps of all penalties together, as added to the loss.
    pub penalty: f64,
    /// Mean over the steps of the norm of all gradients, before a clip.
    pub grad_norm: f64,
    /// Share of the items that are classified correctly, in percent; 0 where nothing is classified.
    pub accuracy: f64,
    /// Tokens or images.
    pub items: usize,
    /// Seconds that the steps took.
    pub seconds: f64,
}

impl<O: StepOutput> ItemLazy for Report<O> {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(self)
    }
}

impl<O: StepOutput> Adaptor<Summary> for Report<O> {
    /// The norm of a step's gradients, which only the loop computes, is missing from a step: the loop
    /// of this crate hands on summaries, but burn-train's own would hand on what a step gives.
    fn adapt(&self) -> Summary {
        match self {
            Self::Step(output) => output.summary(),
            Self::Summary(summary) => *summary,
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
        let items = summary.items as f64;
        let (value, weight) = match self.quantity {
            Quantity::Loss | Quantity::Perplexity => (summary.loss, items),
            Quantity::Penalty => (summary.penalty, items),
            Quantity::GradNorm => (summary.grad_norm, items),
            Quantity::Accuracy => (summary.accuracy, items),
            Quantity::TokensPerSecond | Quantity::ImagesPerSecond => {
                (items / summary.seconds, summary.seconds)
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
    use burn::data::dataloader::Progress;

    use super::*;

    #[test]
    fn perplexity_is_the_exponential_of_the_mean_loss_over_tokens() {
        let mut metric = SummaryMetric::new(Quantity::Perplexity);
        let metadata =
            MetricMetadata { progress: Progress::new(1, 1, None), iteration: None, lr: None };
        for (loss, items) in [(2.0, 30), (6.0, 10)] {
            let summary = Summary { loss, items, ..Summary::default() };
            metric.update(&summary, &metadata).unwrap();
        }
        assert!((metric.running_value().unwrap().current() - 3.0_f64.exp()).abs() < 1e-12);
        assert!((metric.value().unwrap().current() - 6.0_f64.exp()).abs() < 1e-12);
    }
}
