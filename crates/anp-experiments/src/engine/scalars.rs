//! Scalars of training steps: named, read from the device a few steps at a time, and summed.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::metrics::Summary;

/// The scalars of one step: each `[1]` on the device, then `f64` once read.
#[derive(Debug, Clone)]
pub struct StepScalars<V = Tensor<1>> {
    /// Tokens or images.
    pub items: usize,
    /// Loss without penalties, summed over the items.
    pub loss: V,
    /// Norm of all gradients together, before a clip.
    pub grad_norm: V,
    /// Norm above which the gradients were scaled down, if they are clipped.
    pub max_norm: Option<f64>,
    /// Number of items classified correctly, if the task counts them.
    pub correct: Option<V>,
    /// Other quantities that the task sums, each with its name in messages.
    pub extras: Vec<(&'static str, V)>,
    /// Each penalty, as added to the loss.
    pub penalties: Vec<V>,
}

/// A number that is infinite or NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NotFinite {
    /// Its name in messages.
    pub quantity: &'static str,
    /// The number.
    pub value: f64,
    /// Epoch whose parameters gave it, from 1, if not the current one.
    pub epoch: Option<usize>,
}

/// Check that a number is finite.
///
/// # Errors
///
/// [`NotFinite`] with the name of the quantity.
pub fn finite(quantity: &'static str, value: f64) -> Result<(), NotFinite> {
    if value.is_finite() { Ok(()) } else { Err(NotFinite { quantity, value, epoch: None }) }
}

impl<V> StepScalars<V> {
    /// Each scalar with its name in messages.
    fn named(&self) -> impl Iterator<Item = (&'static str, &V)> {
        let both = [("the loss", &self.loss), ("the norm of the gradients", &self.grad_norm)];
        let correct = self.correct.iter().map(|value| ("a count", value));
        let extras = self.extras.iter().map(|(name, value)| (*name, value));
        let penalties = self.penalties.iter().map(|value| ("a penalty", value));
        both.into_iter().chain(correct).chain(extras).chain(penalties)
    }

    /// Replace each scalar, in the order of [`named`](Self::named).
    fn map<W>(self, mut with: impl FnMut(V) -> W) -> StepScalars<W> {
        StepScalars {
            items: self.items,
            loss: with(self.loss),
            grad_norm: with(self.grad_norm),
            max_norm: self.max_norm,
            correct: self.correct.map(&mut with),
            extras: self.extras.into_iter().map(|(name, value)| (name, with(value))).collect(),
            penalties: self.penalties.into_iter().map(with).collect(),
        }
    }
}

impl StepScalars {
    /// Read the scalars of several steps at once. This is the only place that waits for the device.
    pub(super) fn read(steps: Vec<Self>) -> Vec<StepScalars<f64>> {
        let all = steps.iter().flat_map(|step| step.named().map(|(_, value)| value.clone()));
        let all = Tensor::cat(all.collect(), 0).into_data();
        let mut values = all.iter::<f64>();
        let mut read = |_| values.next().expect("there is a value for each scalar");
        steps.into_iter().map(|step| step.map(&mut read)).collect()
    }
}

impl StepScalars<f64> {
    pub(super) fn check_finite(&self) -> Result<(), NotFinite> {
        self.named().try_for_each(|(quantity, &value)| finite(quantity, value))
    }
}

/// Sums over the steps of an epoch, in double precision, in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochSums {
    /// Steps in the sums.
    pub steps: usize,
    /// Tokens or images.
    pub items: usize,
    /// Loss without penalties.
    pub loss: f64,
    /// Norms of the gradients, before a clip.
    pub grad_norm: f64,
    /// Steps whose gradients were clipped.
    pub clipped: usize,
    /// Number of items classified correctly.
    pub correct: f64,
    /// Other quantities, by name.
    pub extras: BTreeMap<String, f64>,
    /// Each penalty.
    pub penalties: Vec<f64>,
    /// Seconds of training.
    pub seconds: f64,
}

impl EpochSums {
    pub(super) fn add(&mut self, step: &StepScalars<f64>) {
        self.steps += 1;
        self.items += step.items;
        self.loss += step.loss;
        self.grad_norm += step.grad_norm;
        self.clipped += usize::from(step.max_norm.is_some_and(|most| step.grad_norm > most));
        self.correct += step.correct.unwrap_or(0.0);
        for &(name, value) in &step.extras {
            *self.extras.entry(name.to_owned()).or_default() += value;
        }
        self.penalties.resize(step.penalties.len(), 0.0);
        for (sum, value) in self.penalties.iter_mut().zip(&step.penalties) {
            *sum += value;
        }
    }

    /// Loss per item, without penalties.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.items as f64
    }

    /// Share of the items that are classified correctly, in percent.
    pub fn accuracy(&self) -> f64 {
        100.0 * self.correct / self.items as f64
    }

    /// Mean norm of the gradients of a step.
    pub fn mean_grad_norm(&self) -> f64 {
        self.grad_norm / self.steps as f64
    }

    /// Share of the steps whose gradients were clipped.
    pub fn share_clipped(&self) -> f64 {
        self.clipped as f64 / self.steps as f64
    }

    /// Mean of each penalty over the steps.
    pub fn mean_penalties(&self) -> Vec<f64> {
        self.penalties.iter().map(|sum| sum / self.steps as f64).collect()
    }

    pub(super) fn summary(&self) -> Summary {
        Summary {
            loss: self.mean_loss(),
            penalty: self.mean_penalties().iter().sum(),
            grad_norm: self.mean_grad_norm(),
            accuracy: self.accuracy(),
            items: self.items,
            seconds: self.seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn step(loss: f32, penalty: f32) -> StepScalars {
        let scalar = |value: f32| Tensor::from_data([value], &Device::default());
        StepScalars {
            items: 4,
            loss: scalar(loss),
            grad_norm: scalar(3.0),
            max_norm: Some(2.0),
            correct: Some(scalar(1.0)),
            extras: vec![("a feature", scalar(0.5))],
            penalties: vec![scalar(penalty), scalar(7.0)],
        }
    }

    #[test]
    fn scalars_are_read_and_added_up_by_name() {
        let mut sums = EpochSums::default();
        for read in StepScalars::read(vec![step(2.0, 0.25), step(6.0, 0.75)]) {
            read.check_finite().unwrap();
            sums.add(&read);
        }
        assert_eq!((sums.steps, sums.items, sums.clipped), (2, 8, 2));
        assert_eq!((sums.mean_loss(), sums.mean_grad_norm(), sums.accuracy()), (1.0, 3.0, 25.0));
        assert_eq!(sums.mean_penalties(), [0.5, 7.0]);
        assert_eq!(sums.extras["a feature"], 1.0);
        assert_eq!(sums.summary().penalty, 7.5);
    }

    #[test]
    fn a_scalar_that_is_not_finite_is_named() {
        let read = StepScalars::read(vec![step(2.0, f32::INFINITY)]);
        let err = NotFinite { quantity: "a penalty", value: f64::INFINITY, epoch: None };
        assert_eq!(read[0].check_finite(), Err(err));
    }
}
