//! burn-train's renderer, without anything to see.

use std::error::Error;

use burn::train::LearnerSummary;
use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::MetricDefinition;
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining,
};

/// A renderer that shows nothing and calls back, in the thread that burn-train renders in.
#[derive(Default)]
pub struct SilentRenderer {
    on_progress: Option<Box<dyn FnMut(usize) + Send + Sync>>,
    on_end: Option<Box<dyn FnMut() + Send + Sync>>,
}

impl SilentRenderer {
    /// Call `f` whenever a part of an epoch has progressed, with the steps of it that are done.
    pub fn on_progress(mut self, f: impl FnMut(usize) + Send + Sync + 'static) -> Self {
        self.on_progress = Some(Box::new(f));
        self
    }

    /// Call `f` when the training has ended.
    pub fn on_end(mut self, f: impl FnMut() + Send + Sync + 'static) -> Self {
        self.on_end = Some(Box::new(f));
        self
    }
}

impl TrainingProgressLogger for SilentRenderer {
    fn update_split(&mut self, done: usize) {
        if let Some(f) = &mut self.on_progress {
            f(done);
        }
    }

    fn start(&mut self, _: usize, _: usize, _: Option<usize>, _: Option<&str>) {}
    fn update_epoch(&mut self, _: usize) {}
    fn start_split(&mut self, _: &str, _: usize) {}
    fn end_split(&mut self) {}
    fn end(&mut self) {}
    fn log_event_training(&mut self, _: String) {}
}

impl MetricsRendererTraining for SilentRenderer {
    fn on_train_end(&mut self, _: Option<LearnerSummary>) -> Result<(), Box<dyn Error>> {
        if let Some(f) = &mut self.on_end {
            f();
        }
        Ok(())
    }

    fn update_train(&mut self, _: MetricState) {}
    fn update_valid(&mut self, _: MetricState) {}
}

impl MetricsRendererEvaluation for SilentRenderer {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
}

impl EvaluationProgressLogger for SilentRenderer {
    fn start_global_progress(&mut self, _: usize) {}
    fn start_test(&mut self, _: &str, _: usize) {}
    fn update_test_progress(&mut self, _: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _: String) {}
}

impl MetricsRenderer for SilentRenderer {
    fn manual_close(&mut self) {}
    fn register_metric(&mut self, _: MetricDefinition) {}
}
