//! The words that text and Markdown put around the numbers.

use super::fold::{
    Failure, Measured, Readings, RowReport, Statistic, TableReport, UncountedReason, Verdict,
};
use crate::experiments::Metric;
use crate::recipe::Scale;
use crate::tuning::Tuning;

/// Number of columns.
pub(super) const COLUMNS: usize = 9;

/// The columns of a table with this metric, in this order.
pub(super) fn header(metric: Metric) -> [&'static str; COLUMNS] {
    let [paper, ours, first, second] = match metric {
        Metric::Perplexity => ["paper valid", "ours valid", "penalty", "norm"],
        // There is no validation split; the paper's number is that of the best epoch.
        Metric::Accuracy => ["paper valid", "ours best epoch", "penalty", "norm"],
        Metric::Error => ["paper valid", "ours one sample", "I(X; Z)", "I(Z; Y)"],
    };
    ["row", paper, "paper test", ours, "ours test", "n", "difference on test", first, second]
}

/// The notes under a table: one per source, then what the columns are.
pub(super) struct Notes<'a> {
    report: &'a TableReport,
    sources: Vec<&'a str>,
}

impl<'a> Notes<'a> {
    pub(super) fn new(report: &'a TableReport) -> Self {
        let mut sources = Vec::new();
        for published in report.rows.iter().filter_map(|row| row.published.as_ref()) {
            if !sources.contains(&published.source.as_str()) {
                sources.push(published.source.as_str());
            }
        }
        Self { report, sources }
    }

    /// The row's cells, as [`header`] names them.
    pub(super) fn cells(&self, row: &RowReport) -> [String; COLUMNS] {
        let published = row.published.as_ref();
        let decimals = match self.report.metric {
            Metric::Perplexity => 1,
            Metric::Accuracy | Metric::Error => 2,
        };
        let number =
            |value: Option<f64>| value.map_or_else(dash, |value| format!("{value:.decimals$}"));
        let [valid, test] =
            [number(published.and_then(|it| it.valid)), number(published.and_then(|it| it.test))];
        let name = self.name(row);
        let Some(ours) = row.measured() else {
            let absence = row.absence().unwrap_or_default();
            let norm = published.and_then(|it| it.norm);
            let norm = norm.map_or_else(dash, |norm| format!("(paper {norm:.1})"));
            return [name, valid, test, dash(), absence, dash(), dash(), dash(), norm];
        };
        let spread = |it: &Statistic| match it.sd {
            Some(sd) => format!("{:.2} ± {sd:.2}", it.mean),
            None => format!("{:.2}", it.mean),
        };
        let [_, difference] = row.differences();
        let difference = difference.map_or_else(dash, |difference| {
            let mark = match self.report.verdict(row) {
                Some(Verdict::Match) => " ok",
                Some(Verdict::Miss) => " MISS",
                None => "",
            };
            format!("{difference:+.2}{mark}")
        });
        let [first, second] = match self.report.metric {
            Metric::Error => [ours.information_x, ours.information_y]
                .map(|it| it.as_ref().map_or_else(dash, spread)),
            Metric::Perplexity | Metric::Accuracy => [
                significant(ours.penalty.mean),
                match published.and_then(|it| it.norm) {
                    Some(norm) => format!("{:.2} (paper {norm:.1})", ours.activation_norm.mean),
                    None => format!("{:.2}", ours.activation_norm.mean),
                },
            ],
        };
        [
            name,
            valid,
            test,
            ours.valid.or(ours.best_epoch).or(ours.one_sample).as_ref().map_or_else(dash, spread),
            spread(&ours.test),
            ours.test.n.to_string(),
            difference,
            first,
            second,
        ]
    }

    /// The row's name with the marks of its notes.
    fn name(&self, row: &RowReport) -> String {
        let mut name = row.name.clone();
        if row.ours {
            name.push_str(" [+]");
        }
        if let Some(precision) = row.mixed_precision {
            name.push_str(&format!(" [{precision}]"));
        }
        let source = row.published.as_ref().map(|published| published.source.as_str());
        if let Some(index) = self.sources.iter().position(|&other| Some(other) == source) {
            name.push_str(&format!(" [{}]", index + 1));
        }
        name
    }

    /// Title and metric.
    pub(super) fn title(&self) -> String {
        let better = match self.report.metric {
            Metric::Perplexity => "lower is better",
            Metric::Accuracy => "in percent, higher is better",
            Metric::Error => "in percent, lower is better",
        };
        format!("{} ({}, {better})", self.report.title, self.report.metric)
    }

    /// Which scale the numbers are of, and what that means for them.
    pub(super) fn scale(&self) -> String {
        let text = match self.report.scale {
            Scale::Demo | Scale::Small if self.report.metric == Metric::Error => {
                "Scales demo and small: the images that come with anp, a network smaller than the \
                 published one. NOT comparable with published numbers; compare our rows with each \
                 other."
            }
            Scale::Demo => {
                "Scale demo: the small data that comes with anp, small models. NOT comparable with \
                 the paper, the difference means nothing; compare our rows with each other."
            }
            Scale::Small => {
                "Scale small: the real data, models far smaller than the paper's. NOT comparable \
                 with the paper, the difference means nothing; compare our rows with each other."
            }
            Scale::Paper => {
                "Scale paper: as published. `ok`: our mean on test is within the row's tolerance \
                 of the paper's number; `MISS`: it is not."
            }
        };
        if self.report.overrides.is_empty() {
            return text.to_owned();
        }
        let overrides = self.report.overrides.join(", ");
        format!("{text} Changed by --set {overrides}: not the paper's recipes, nothing is judged.")
    }

    /// The readings of the norm in rows whose norm the paper gives, and their ratio to those of the
    /// first row: the paper does not say what it measured, but the ratio hardly depends on it.
    fn readings(&self) -> Vec<(String, String)> {
        let rows = self.report.rows.iter().filter_map(|row| {
            let measured = row.measured()?;
            Some((row, row.published.as_ref()?.norm?, measured, measured.readings?))
        });
        let rows: Vec<_> = rows.collect();
        let Some((first_row, first_paper, first, first_readings)) = rows.first() else {
            return Vec::new();
        };
        let line = |(row, paper, ours, readings): &(&RowReport, f64, &Measured, Readings)| {
            let mut text = format!(
                "paper {paper:.1}; ‖h‖₂ {:.2}, ½‖h‖₂² {:.2}, block/T {:.2} ({:.2} dropped), \
                 RMS {:.3}",
                ours.activation_norm.mean,
                readings.half_squared_norm,
                readings.frobenius_per_step,
                readings.frobenius_per_step_dropped,
                readings.rms,
            );
            if row.row != first_row.row {
                text.push_str(&format!(
                    "; of {}: paper {:.2}, ‖h‖₂ {:.2}, ½‖h‖₂² {:.2}",
                    first_row.name,
                    paper / first_paper,
                    ours.activation_norm.mean / first.activation_norm.mean,
                    readings.half_squared_norm / first_readings.half_squared_norm,
                ));
            }
            (format!("{}:", row.name), text)
        };
        rows.iter().map(line).collect()
    }

    /// What the last columns are, each with its mark.
    fn columns(&self) -> Vec<(String, String)> {
        let note = |mark: &str, text: &str| (mark.to_owned(), text.to_owned());
        let (epoch, item, norm, test) = match self.report.metric {
            Metric::Perplexity => (
                "best",
                "token",
                "last hidden activation over validation tokens, dropout off",
                None,
            ),
            Metric::Accuracy => (
                "last",
                "image",
                "pooled features over test images after the last epoch",
                Some(LAST_EPOCH),
            ),
            Metric::Error => return INFORMATION.map(|(mark, text)| note(mark, text)).into(),
        };
        let added = "what the penalties added to the training loss";
        let penalty = format!("{added} in the {epoch} epoch, nats per {item}");
        let norm = format!("mean ‖h‖₂ of the {norm}");
        let mut columns = vec![note("penalty:", &penalty), note("norm:", &norm)];
        columns.extend(test.map(|text| note("ours test:", text)));
        columns
    }

    /// The notes, each with its mark.
    pub(super) fn lines(&self) -> Vec<(String, String)> {
        let note = |mark: &str, text: &str| (mark.to_owned(), text.to_owned());
        let sources = self.sources.iter().enumerate();
        let mut lines: Vec<_> =
            sources.map(|(index, source)| note(&format!("[{}]", index + 1), source)).collect();
        if self.report.rows.iter().any(|row| row.ours) {
            lines.push(note("[+]", "added by this project, no row of the paper"));
        }
        if self.report.rows.iter().any(|row| row.mixed_precision.is_some()) {
            lines.push(note("[bf16]", "matrix products of numbers that are rounded to bfloat16"));
        }
        if self.report.rows.iter().any(|row| row.measured().is_some()) {
            let ours = "mean ± standard deviation over n seeds; difference is ours minus paper";
            lines.push(note("ours:", ours));
            lines.extend(self.columns());
        }
        lines.extend(self.readings());
        for row in &self.report.rows {
            let tuning = row.tuning.as_ref().filter(|it| it.has_choice() && it.num_done() > 0);
            lines.extend(tuning.map(|tuning| note("tuned:", &tuned(row, tuning))));
        }
        for row in &self.report.rows {
            for Failure { seed, reason } in &row.failures {
                lines.push(note("failed:", &format!("{}, seed {seed}: {reason}", row.name)));
            }
        }
        for (reason, words) in [
            (UncountedReason::OtherRecipe, "are of other recipes of these rows"),
            (UncountedReason::SameSeed, "repeat a seed of a later record"),
        ] {
            let records = self.report.uncounted.iter().filter(|record| record.reason == reason);
            let files: Vec<_> =
                records.filter_map(|it| Some(it.path.file_name()?.to_string_lossy())).collect();
            if !files.is_empty() {
                let text = format!("records that {words}: {}", files.join(", "));
                lines.push(note("not counted:", &text));
            }
        }
        lines
    }
}

/// What a sweep tried, each value with its validation perplexity.
fn tuned(row: &RowReport, tuning: &Tuning) -> String {
    let tried = tuning.tried.iter().enumerate().map(|(index, it)| {
        let valid = it.valid.map_or_else(dash, |valid| format!("{valid:.1}"));
        let best = if tuning.best == Some(index) { " (best)" } else { "" };
        let value = match it.value {
            value if value != 0.0 && value.abs() < 1e-2 => format!("{value:e}"),
            value => value.to_string(),
        };
        format!("{value}: {valid}{best}")
    });
    let tried: Vec<_> = tried.collect();
    let end = match tuning.is_at_an_end() {
        true => "; the best is at an end, a better one may lie outside",
        false => "",
    };
    format!("{}, {} on validation: {}{end}", row.name, tuning.key, tried.join(", "))
}

const LAST_EPOCH: &str = "after the last epoch; `best epoch` is chosen by the test set, as the \
                          paper's code does";

const INFORMATION: [(&str, &str); 3] = [
    (
        "ours test:",
        "after the last epoch, averaged parameters; probabilities averaged over the samples of the \
         recipe",
    ),
    ("I(X; Z):", "upper bound on test images: the mean divergence of the code, nats"),
    (
        "I(Z; Y):",
        "lower bound on test images: entropy of the labels minus loss from one sample, nats",
    ),
];

/// Two significant digits, because a penalty may be anything from 0.0003 to 3 nats.
fn significant(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 1e-4 => format!("{value:.1e}"),
        size => {
            let decimals = (1.0 - size.log10().floor()).max(0.0) as usize;
            format!("{value:.decimals$}")
        }
    }
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn penalties_keep_two_significant_digits() {
        for (value, expected) in [
            (0.0, "0"),
            (0.000_012, "1.2e-5"),
            (0.000_34, "0.00034"),
            (0.012_34, "0.012"),
            (0.5, "0.50"),
            (1.26, "1.3"),
            (12.6, "13"),
        ] {
            assert_eq!(significant(value), expected);
        }
    }
}
