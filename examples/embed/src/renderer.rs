//! A renderer of burn-train that prints a line per epoch.
//!
//! Leave it out of `train.rs`, and add Burn's feature `tui`, to see burn-train's dashboard instead.

use std::collections::HashMap;

use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::{MetricDefinition, MetricId, MetricName};
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining,
};

/// Prints the means of each epoch.
#[derive(Default)]
pub struct EpochLines {
    names: HashMap<MetricId, MetricName>,
    /// In the order in which the metrics were registered.
    order: Vec<MetricId>,
    train: HashMap<MetricId, f64>,
    valid: HashMap<MetricId, f64>,
}

impl EpochLines {
    fn means(&self, values: &HashMap<MetricId, f64>) -> String {
        let mean = |id| Some(format!("  {} {:.3}", self.names[id].to_lowercase(), values.get(id)?));
        self.order.iter().filter_map(mean).collect()
    }
}

/// Keep the newest mean of the epoch.
fn keep(values: &mut HashMap<MetricId, f64>, state: MetricState) {
    if let MetricState::Numeric(entry, Some(mean)) = state {
        values.insert(entry.metric_id, mean.current());
    }
}

impl MetricsRendererTraining for EpochLines {
    fn update_train(&mut self, state: MetricState) {
        keep(&mut self.train, state);
    }

    fn update_valid(&mut self, state: MetricState) {
        keep(&mut self.valid, state);
    }
}

impl TrainingProgressLogger for EpochLines {
    fn update_epoch(&mut self, epoch: usize) {
        println!(
            "epoch {epoch:2}  train{}  |  test{}",
            self.means(&self.train),
            self.means(&self.valid)
        );
    }

    fn start(&mut self, _: usize, _: usize, _: Option<usize>, label: Option<&str>) {
        println!("{}", label.unwrap_or("training"));
    }

    fn start_split(&mut self, _: &str, _: usize) {}
    fn update_split(&mut self, _: usize) {}
    fn end_split(&mut self) {}
    fn end(&mut self) {}
    fn log_event_training(&mut self, _: String) {}
}

impl MetricsRenderer for EpochLines {
    fn register_metric(&mut self, definition: MetricDefinition) {
        if self.names.insert(definition.metric_id.clone(), definition.name).is_none() {
            self.order.push(definition.metric_id);
        }
    }

    fn manual_close(&mut self) {}
}

impl MetricsRendererEvaluation for EpochLines {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
}

impl EvaluationProgressLogger for EpochLines {
    fn start_global_progress(&mut self, _: usize) {}
    fn start_test(&mut self, _: &str, _: usize) {}
    fn update_test_progress(&mut self, _: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _: String) {}
}
