//! How a run shows itself: burn-train's dashboard in a terminal, plain lines elsewhere, or nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::MetricDefinition;
use burn::train::renderer::tui::TuiMetricsRendererWrapper;
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining,
};
use burn::train::{Interrupter, LearnerSummary};
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::output::note;
use super::terminal;
use crate::engine::{OnEvaluation, Quantity};
use crate::image::{ACCURACY, IMAGES_PER_SECOND};
use crate::record::VibScore;
use crate::text::{PERPLEXITY, TOKENS_PER_SECOND};

/// Time between two lines within an epoch.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// What a line shows of a metric.
type Show = fn(f64) -> String;

/// What a line shows, in this order, as far as it is known.
const SHOWN: [(Quantity, Show); 6] = [
    (Quantity::LOSS, |loss| format!("  loss {loss:.4}")),
    (PERPLEXITY, |perplexity| format!("  perplexity {perplexity:.2}")),
    (ACCURACY, |accuracy| format!("  accuracy {accuracy:.2} %")),
    (Quantity::PENALTY, |penalty| match penalty {
        0.0 => String::new(),
        _ => format!("  penalty {penalty:.4}"),
    }),
    (TOKENS_PER_SECOND, |rate| format!("  {rate:.0} tokens/s")),
    (IMAGES_PER_SECOND, |rate| format!("  {rate:.0} images/s")),
];

/// How many of these are of interest where nothing is trained.
const SHOWN_IN_VALIDATION: usize = 3;

/// The renderer for this terminal.
pub(super) fn renderer(quiet: bool, interrupter: &Interrupter) -> Box<dyn MetricsRenderer> {
    if quiet {
        Box::new(Lines::new(|_| ()))
    } else if terminal::takes_a_dashboard() {
        terminal::remember();
        let dashboard = TuiMetricsRendererWrapper::new(interrupter.clone(), None);
        terminal::keep_ctrl_c();
        Box::new(dashboard)
    } else {
        Box::new(Lines::new(note))
    }
}

/// What shows how an evaluation goes on: a bar on stderr with rate and time left, where there is a
/// terminal.
pub(super) fn evaluation(quiet: bool) -> OnEvaluation {
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let style =
        ProgressStyle::with_template("{msg:24} {bar:30} {pos}/{len}  {per_sec}  {eta} left")
            .expect("the template is valid")
            .with_key("per_sec", |state: &ProgressState, text: &mut dyn std::fmt::Write| {
                write!(text, "{:.0}/s", state.per_sec()).expect("text can be written to");
            });
    let bar = ProgressBar::with_draw_target(None, target).with_style(style);
    Box::new(move |part, progress| {
        if bar.message() != part {
            bar.reset();
            bar.set_message(part);
        }
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        if progress.done == progress.total {
            bar.finish_and_clear();
        }
    })
}

/// What a code tells of image and label, in a few words.
pub(super) fn information(score: &VibScore) -> String {
    let of_image = match score.information_x {
        Some(information) => format!("I(X; Z) ≤ {information:.2} nats"),
        None => "I(X; Z) without bound".to_owned(),
    };
    format!("{of_image}, I(Z; Y) ≥ {:.3} nats", score.information_y)
}

/// What shows how many recipes have been measured: a bar on stderr, where there is a terminal.
pub(super) fn measurements(quiet: bool) -> ProgressBar {
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let style = ProgressStyle::with_template("measuring recipes {bar:30} {pos}/{len}  {eta} left")
        .expect("the template is valid");
    ProgressBar::with_draw_target(Some(0), target).with_style(style)
}

/// A line now and then, and one at the end of each part of an epoch.
struct Lines<W> {
    write: W,
    names: HashMap<String, String>,
    /// Newest mean over the epoch of each metric, by its name.
    values: HashMap<String, f64>,
    epoch: usize,
    epochs: usize,
    split: Split,
    written: Instant,
}

/// A part of an epoch.
#[derive(Default)]
struct Split {
    name: String,
    done: usize,
    total: usize,
    /// What was done at the first step, and when; a continued epoch starts in the middle.
    first: Option<(usize, Instant)>,
}

impl<W: FnMut(String) + Send + Sync> Lines<W> {
    fn new(write: W) -> Self {
        Self {
            write,
            names: HashMap::new(),
            values: HashMap::new(),
            epoch: 1,
            epochs: 0,
            split: Split::default(),
            written: Instant::now(),
        }
    }

    fn update(&mut self, state: MetricState) {
        if let MetricState::Numeric(entry, Some(value)) = state
            && let Some(name) = self.names.get(&format!("{:?}", entry.metric_id))
        {
            self.values.insert(name.clone(), value.current());
        }
    }

    fn line(&mut self, time_left: Option<Duration>) {
        let Self { epoch, epochs, split: Split { name, done, total, .. }, .. } = self;
        let mut line = format!("epoch {epoch}/{epochs}  {name} {done}/{total}");
        let shown = if name == "train" { SHOWN.len() } else { SHOWN_IN_VALIDATION };
        for (quantity, show) in &SHOWN[..shown] {
            if let Some(&value) = self.values.get(quantity.name) {
                line += &show(value);
            }
        }
        if let Some(left) = time_left {
            line += &format!("  epoch done in {:#}", HumanDuration(left));
        }
        (self.write)(line);
        self.written = Instant::now();
    }
}

impl Split {
    /// Time until the end, at the rate so far.
    fn time_left(&self) -> Option<Duration> {
        let (first, since) = self.first?;
        let done = self.done.checked_sub(first).filter(|&done| done > 0)?;
        Some(since.elapsed().mul_f64((self.total - self.done) as f64 / done as f64))
    }
}

impl<W: FnMut(String) + Send + Sync> MetricsRendererTraining for Lines<W> {
    fn update_train(&mut self, state: MetricState) {
        self.update(state);
    }

    fn update_valid(&mut self, state: MetricState) {
        self.update(state);
    }

    fn on_train_end(
        &mut self,
        _: Option<LearnerSummary>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        Ok(())
    }
}

impl<W: FnMut(String) + Send + Sync> TrainingProgressLogger for Lines<W> {
    fn start(&mut self, epochs: usize, first_epoch: usize, _: Option<usize>, label: Option<&str>) {
        (self.epoch, self.epochs) = (first_epoch, epochs);
        if let Some(label) = label {
            (self.write)(format!("training {label}: at most {epochs} epochs"));
        }
    }

    fn update_epoch(&mut self, epoch: usize) {
        self.epoch = epoch + 1;
    }

    fn start_split(&mut self, split: &str, total: usize) {
        self.split = Split { name: split.to_lowercase(), total, ..Split::default() };
        self.values.clear();
        self.written = Instant::now();
    }

    fn update_split(&mut self, done: usize) {
        self.split.done = done;
        self.split.first.get_or_insert_with(|| (done, Instant::now()));
        if self.written.elapsed() >= LINE_EVERY && done < self.split.total {
            self.line(self.split.time_left());
        }
    }

    fn end_split(&mut self) {
        self.line(None);
    }

    fn end(&mut self) {}

    fn log_event_training(&mut self, _: String) {}
}

/// A run is not evaluated through burn-train's evaluator.
impl<W: FnMut(String) + Send + Sync> MetricsRendererEvaluation for Lines<W> {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
}

impl<W: FnMut(String) + Send + Sync> EvaluationProgressLogger for Lines<W> {
    fn start_global_progress(&mut self, _: usize) {}
    fn start_test(&mut self, _: &str, _: usize) {}
    fn update_test_progress(&mut self, _: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _: String) {}
}

impl<W: FnMut(String) + Send + Sync> MetricsRenderer for Lines<W> {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.names.insert(format!("{:?}", definition.metric_id), definition.name.to_string());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use burn::train::metric::{Metric, MetricEntry, MetricId, NumericEntry, SerializedEntry};

    use super::*;
    use crate::engine::SummaryMetric;

    #[test]
    fn lines_show_where_the_run_is_and_the_live_penalty() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&lines);
        let mut renderer = Lines::new(move |line| written.lock().unwrap().push(line));
        renderer.start(13, 2, None, Some("table2 lstm_anp, seed 1"));
        renderer.start_split("Train", 100);
        for (quantity, value) in [(Quantity::LOSS, 4.5), (Quantity::PENALTY, 0.125)] {
            let metric = SummaryMetric::new(quantity);
            let id = MetricId::new(metric.name());
            renderer.register_metric(MetricDefinition::new(id.clone(), &metric));
            let entry = MetricEntry::new(id, SerializedEntry::new(String::new(), String::new()));
            renderer.update_train(MetricState::Numeric(entry, Some(NumericEntry::Value(value))));
        }
        renderer.update_split(100);
        renderer.end_split();
        let lines = lines.lock().unwrap();
        assert_eq!(lines[0], "training table2 lstm_anp, seed 1: at most 13 epochs");
        assert_eq!(lines[1], "epoch 2/13  train 100/100  loss 4.5000  penalty 0.1250");
    }
}
