//! What a run shows while it trains, as burn-train metrics.

use std::sync::Arc;

use burn::tensor::{ExecutionError, Tensor, TensorReadError};
use burn::train::ItemLazy;
use burn::train::metric::{
    Adaptor, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes,
    NumericEntry, SerializedEntry,
};

/// What the training loop and the metrics exchange: the output of one step, or a summary of several
/// steps whose scalars the loop has read.
#[derive(Debug, Clone)]
pub enum Report<O> {
    /// One step, still on the device.
    Step(Box<O>),
    /// Several steps.
    Summary(Summary),
}

/// The output of a step, which can summarise itself.
pub trait StepOutput: Send + 'static {
    /// The output as a summary. Waits for the device.
    fn summary(&self) -> Summary;
}

impl<O> Report<O> {
    /// The output of a step.
    pub fn step(output: O) -> Self {
        Self::Step(Box::new(output))
    }

    /// The output of a step.
    ///
    /// # Panics
    ///
    /// If it is a summary: only the training loop makes summaries.
    pub fn into_step(self) -> O {
        match self {
            Self::Step(output) => *output,
            Self::Summary(_) => panic!("a step gives no summary"),
        }
    }
}

/// Means over several steps.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    /// Mean loss per item, without penalties: nats per token or image.
    pub loss: f64,
    /// Mean over the steps of all penalties together, as added to the loss.
    pub penalty: f64,
    /// Mean over the steps of the norm of all gradients, before a clip.
    pub grad_norm: f64,
    /// Share of the items that are classified correctly, in percent; 0 if nothing is classified.
    pub accuracy: f64,
    /// Tokens or images.
    pub items: usize,
    /// Seconds that the steps took.
    pub seconds: f64,
}

impl Summary {
    /// Of one batch whose items are classified, with sums and penalties `[1]` on the device, which
    /// it waits for.
    pub fn of_batch(
        items: usize,
        nll_sum: &Tensor<1>,
        correct: &Tensor<1>,
        penalties: &[Tensor<1>],
    ) -> Self {
        let scalar = |value: &Tensor<1>| value.clone().into_scalar::<f64>();
        let count = items as f64;
        Self {
            loss: scalar(nll_sum) / count,
            accuracy: 100.0 * scalar(correct) / count,
            penalty: penalties.iter().map(scalar).sum(),
            items,
            ..Self::default()
        }
    }
}

impl<O: StepOutput> ItemLazy for Report<O> {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(self)
    }
}

impl<O: StepOutput> Adaptor<Summary> for Report<O> {
    /// The gradient norm is missing from a step's output, because only the loop computes it. The
    /// loop of this crate passes summaries; burn-train's own would pass outputs.
    fn adapt(&self) -> Summary {
        match self {
            Self::Step(output) => output.summary(),
            Self::Summary(summary) => *summary,
        }
    }
}

/// A number shown from a [`Summary`].
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    /// Name of the metric.
    pub name: &'static str,
    /// Whether more is better.
    pub higher_is_better: bool,
    /// The number, and its weight in the mean of an epoch.
    pub value: fn(&Summary) -> (f64, f64),
    /// Converts the mean to what is shown.
    pub shown: fn(f64) -> f64,
}

impl Quantity {
    /// Loss without penalties, nats per token or image.
    pub const LOSS: Self = Self::per_item("Loss", |it| (it.loss, it.items as f64));
    /// All penalties together.
    pub const PENALTY: Self = Self::per_item("Penalty", |it| (it.penalty, it.items as f64));
    /// Norm of all gradients, before a clip.
    pub const GRAD_NORM: Self =
        Self::per_item("Gradient norm", |it| (it.grad_norm, it.items as f64));
    /// Items per second of training, averaged over the seconds.
    pub const fn per_second(name: &'static str) -> Self {
        let value: fn(&Summary) -> (f64, f64) = |it| (it.items as f64 / it.seconds, it.seconds);
        Self { name, higher_is_better: true, value, shown: |mean| mean }
    }

    /// A mean over the items, of which less is better.
    pub const fn per_item(name: &'static str, value: fn(&Summary) -> (f64, f64)) -> Self {
        Self { name, higher_is_better: false, value, shown: |mean| mean }
    }
}

/// A [`Quantity`], averaged over an epoch.
#[derive(Debug, Clone)]
pub struct SummaryMetric {
    name: Arc<String>,
    quantity: Quantity,
    sum: f64,
    weight: f64,
    /// Of the last batch, if there was one.
    current: Option<f64>,
}

impl SummaryMetric {
    /// A metric of `quantity`.
    pub fn new(quantity: Quantity) -> Self {
        let name = Arc::new(quantity.name.to_owned());
        Self { name, quantity, sum: 0.0, weight: 0.0, current: None }
    }

    fn mean(&self) -> f64 {
        (self.quantity.shown)(self.sum / self.weight)
    }

    fn current(&self) -> Option<f64> {
        self.current.map(self.quantity.shown)
    }

    fn entry(&self) -> SerializedEntry {
        let batch = self.current().map(|value| format!(" - batch {value:.4}"));
        let formatted = format!("epoch {:.4}{}", self.mean(), batch.unwrap_or_default());
        SerializedEntry::new(formatted, NumericEntry::Value(self.mean()).serialize())
    }
}

impl Metric for SummaryMetric {
    type Input = Summary;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes { unit: None, higher_is_better: self.quantity.higher_is_better }.into()
    }

    fn update(
        &mut self,
        summary: &Summary,
        _metadata: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        let (value, weight) = (self.quantity.value)(summary);
        self.current = Some(value);
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
        self.current().map(NumericEntry::Value)
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
    fn a_shown_mean_is_not_a_mean_of_what_is_shown() {
        let perplexity = Quantity { name: "Perplexity", shown: f64::exp, ..Quantity::LOSS };
        let mut metric = SummaryMetric::new(perplexity);
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
