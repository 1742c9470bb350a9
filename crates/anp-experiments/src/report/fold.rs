//! What the records say about the rows of a table.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anp_core::LossReduction;
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};
use statrs::statistics::Statistics;

use crate::experiments::{ExperimentsError, Metric, Published, Table};
use crate::recipe::{MixedPrecision, Scale, content_hash};
use crate::record::{Record, StoredRecord, TextRecord};
use crate::tuning::Tuning;

/// A table with what was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct TableReport {
    /// Name of the table, for example `table2`.
    pub table: String,
    /// What the table shows.
    pub title: String,
    /// What its numbers are.
    pub metric: Metric,
    /// The scale of the runs.
    pub scale: Scale,
    /// The `--set` overrides of the recipes.
    pub overrides: Vec<String>,
    /// All rows of the table, in the paper's order.
    pub rows: Vec<RowReport>,
    /// Records of these rows and this scale that do not count, with the reason.
    pub uncounted: Vec<Uncounted>,
}

/// One row of a [`TableReport`].
#[derive(Debug, Clone, PartialEq)]
pub struct RowReport {
    /// Name of the row, for example `lstm_anp`.
    pub row: String,
    /// What the table calls it.
    pub name: String,
    /// Whether this project adds the row to the paper's.
    pub ours: bool,
    /// The published numbers.
    pub published: Option<Published>,
    /// The smaller type that products of its recipe round their operands to, if they do.
    pub mixed_precision: Option<MixedPrecision>,
    /// What its sweep has chosen from, if it has one.
    pub tuning: Option<Tuning>,
    /// What we have.
    pub state: RowState,
    /// Runs of the row that have just failed; records know of none.
    pub failures: Vec<Failure>,
}

/// A run without a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Seed of the run.
    pub seed: u64,
    /// Why there is no result.
    pub reason: String,
}

/// What we have of a row.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there are a few of them, made once")]
pub enum RowState {
    /// There is no recipe for it.
    NotBuilt,
    /// There are recipes at these scales only.
    OtherScales(Vec<Scale>),
    /// There is a recipe, but the overrides do not fit it.
    Unfit,
    /// There is a recipe and no record of it.
    NotRun,
    /// There are records.
    Measured(Measured),
}

/// Means over the seeds of a row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Validation, cut into the training batch size, in the table's metric; image sets have none.
    pub valid: Option<Statistic>,
    /// Test in the table's metric: as one stream, or all images after the last epoch.
    pub test: Statistic,
    /// Test images after the epoch that is best on them; only for image sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_epoch: Option<Statistic>,
    /// Test images from one drawn code, where [`test`](Self::test) averages over several; only with
    /// a bottleneck.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_sample: Option<Statistic>,
    /// Loss of the test images in nats per image, averaged over the codes as `test`; only with a
    /// bottleneck.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nll: Option<Statistic>,
    /// Upper bound on I(X; Z) over test images, in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub information_x: Option<Statistic>,
    /// Lower bound on I(Z; Y) over test images, in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub information_y: Option<Statistic>,
    /// The sum of all penalties: in the best epoch in nats per token, or in the last epoch in nats
    /// per image. Zero if the recipe has none.
    pub penalty: Statistic,
    /// Mean ‖h‖₂ of the last hidden activation over validation tokens, or of the pooled features
    /// or the mean code over test images.
    pub activation_norm: Statistic,
    /// Other readings of its size, for language models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readings: Option<Readings>,
    /// The files of the records, in the order of the seeds.
    #[serde(skip)]
    pub records: Vec<PathBuf>,
}

/// Means over the seeds of what "the L2 norm of the final output" may be; see
/// [`ActivationStatistics`](crate::record::ActivationStatistics).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Readings {
    /// ½‖h‖₂² per token, on validation without dropout.
    pub half_squared_norm: f64,
    /// Frobenius norm of a window's block divided by its steps, on validation without dropout.
    pub frobenius_per_step: f64,
    /// The same on the training text with dropout.
    pub frobenius_per_step_dropped: f64,
    /// Root of the mean square of an element, on validation without dropout.
    pub rms: f64,
}

/// A mean with its spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Statistic {
    /// Mean.
    pub mean: f64,
    /// Standard deviation of a sample (divided by n − 1); `None` if there is one value.
    pub sd: Option<f64>,
    /// Number of values.
    pub n: usize,
}

/// A record that does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncounted {
    /// Its file.
    pub path: PathBuf,
    /// Why it does not count.
    pub reason: UncountedReason,
}

/// Why a record does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum UncountedReason {
    /// Its recipe is not the row's: the row or `--set` has changed since.
    OtherRecipe,
    /// A later record has the same recipe and the same seed.
    SameSeed,
}

/// Whether a row comes out as published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The distance on test is within the row's tolerance.
    Match,
    /// It is not.
    Miss,
}

impl Statistic {
    /// Mean and standard deviation of `values`; `None` if there are none.
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        (n > 0).then(|| Self { mean: values.mean(), sd: (n > 1).then(|| values.std_dev()), n })
    }

    /// The 95 % interval of the mean (Student's t), the lower end first; `None` if there is one
    /// value.
    pub fn interval(&self) -> Option<(f64, f64)> {
        let freedom = self.n as f64 - 1.0;
        let quantile = |sd: f64| {
            let t = StudentsT::new(0.0, 1.0, freedom).expect("there are two values");
            t.inverse_cdf(0.975) * sd / (self.n as f64).sqrt()
        };
        let half = quantile(self.sd?);
        Some((self.mean - half, self.mean + half))
    }
}

impl Readings {
    /// The mean of each; `None` if there are none.
    fn mean(all: &[Self]) -> Option<Self> {
        let mean = |value: fn(&Self) -> f64| {
            Some(Statistic::of(&all.iter().map(value).collect::<Vec<_>>())?.mean)
        };
        Some(Self {
            half_squared_norm: mean(|it| it.half_squared_norm)?,
            frobenius_per_step: mean(|it| it.frobenius_per_step)?,
            frobenius_per_step_dropped: mean(|it| it.frobenius_per_step_dropped)?,
            rms: mean(|it| it.rms)?,
        })
    }
}

impl TableReport {
    /// Note that a run of `row` failed at the report's scale. Rows of other tables are ignored.
    pub fn add_failure(&mut self, table: &str, row: &str, failure: Failure) {
        if self.table == table
            && let Some(found) = self.rows.iter_mut().find(|found| found.row == row)
        {
            found.failures.push(failure);
        }
    }

    /// Whether a row has been measured and misses its tolerance; never below paper scale.
    pub fn misses(&self) -> bool {
        self.rows.iter().any(|row| self.verdict(row) == Some(Verdict::Miss))
    }

    /// Whether `row` comes out as published: only at paper scale, only without overrides, and only
    /// if there are both test numbers.
    pub fn verdict(&self, row: &RowReport) -> Option<Verdict> {
        if self.scale != Scale::Paper || !self.overrides.is_empty() {
            return None;
        }
        let [_, difference] = row.differences();
        let tolerance = row.published.as_ref()?.tolerance;
        Some(if difference?.abs() <= tolerance { Verdict::Match } else { Verdict::Miss })
    }
}

impl RowReport {
    /// The means over our seeds, if there are any.
    pub fn measured(&self) -> Option<&Measured> {
        match &self.state {
            RowState::Measured(measured) => Some(measured),
            RowState::NotBuilt | RowState::OtherScales(_) | RowState::Unfit | RowState::NotRun => {
                None
            }
        }
    }

    /// The files of the records that count.
    pub(super) fn records(&self) -> Vec<String> {
        let records = self.measured().map_or(&[][..], |it| &it.records);
        records.iter().map(|path| path.display().to_string()).collect()
    }

    /// Ours minus the published number, on validation and on test.
    pub fn differences(&self) -> [Option<f64>; 2] {
        let (Some(published), Some(ours)) = (&self.published, self.measured()) else {
            return [None, None];
        };
        [
            published.valid.zip(ours.valid).map(|(valid, ours)| ours.mean - valid),
            published.test.map(|test| ours.test.mean - test),
        ]
    }

    /// What stands in place of our numbers if there are none.
    pub(super) fn absence(&self) -> Option<String> {
        match &self.state {
            RowState::NotBuilt => Some("not built yet".to_owned()),
            RowState::OtherScales(scales) => {
                let scales: Vec<_> = scales.iter().map(Scale::to_string).collect();
                Some(format!("at {} scale", scales.join(" and ")))
            }
            RowState::Unfit => Some("--set does not fit".to_owned()),
            RowState::NotRun if !self.failures.is_empty() => Some("failed".to_owned()),
            RowState::NotRun => Some(match &self.tuning {
                Some(tuning) if tuning.best.is_none() && tuning.num_done() > 0 => {
                    format!("tuning: {} of {}", tuning.num_done(), tuning.tried.len())
                }
                _ => "not run yet".to_owned(),
            }),
            RowState::Measured(_) => None,
        }
    }
}

/// Put the records of a table's rows at `scale` into the table.
///
/// A record counts if its recipe is the row's after `overrides`, whatever row it was made for; one
/// record per seed. All other records of other rows and scales are ignored.
///
/// # Errors
///
/// [`ExperimentsError`] if `overrides` fit none of the rows that have a recipe at this scale.
pub fn fold(
    table: &Table,
    scale: Scale,
    overrides: &[String],
    records: &[StoredRecord],
) -> Result<TableReport, ExperimentsError> {
    let mut uncounted = Vec::new();
    let mut misfit = None;
    let mut rows = Vec::new();
    for row in &table.rows {
        let runs = row.runs(scale, overrides).unwrap_or_else(|err| {
            misfit.get_or_insert(err);
            None
        });
        let mixed_precision = runs.as_ref().and_then(|runs| runs.recipe.mixed_precision());
        let tuning = runs.as_ref().and_then(|runs| Tuning::of(runs, scale, records));
        let state = match runs {
            Some(runs) => {
                let recipe = match &tuning {
                    Some(tuning) => tuning.chosen(),
                    None => Some(&runs.recipe),
                };
                let recipe_hash = recipe.map(content_hash).unwrap_or_default();
                let candidates: Vec<_> = runs.recipes().map(content_hash).collect();
                let of_row = |stored: &&StoredRecord| {
                    let head = stored.record.head();
                    let is_of_row = (head.table, head.row) == (&table.id, &row.id)
                        && !candidates.iter().any(|it| it == head.recipe_hash);
                    head.scale == scale && (is_of_row || head.recipe_hash == recipe_hash)
                };
                measure(records.iter().filter(of_row), &recipe_hash, &mut uncounted)
            }
            None => match row.scales().collect::<Vec<_>>() {
                scales if scales.is_empty() => RowState::NotBuilt,
                scales if scales.contains(&scale) => RowState::Unfit,
                scales => RowState::OtherScales(scales),
            },
        };
        rows.push(RowReport {
            row: row.id.clone(),
            name: row.name.clone(),
            ours: row.ours,
            published: row.published.clone(),
            mixed_precision,
            tuning,
            state,
            failures: Vec::new(),
        });
    }
    let fits_one =
        rows.iter().any(|row| matches!(row.state, RowState::NotRun | RowState::Measured(_)));
    if let Some(err) = misfit.filter(|_| !fits_one) {
        return Err(err);
    }
    Ok(TableReport {
        table: table.id.clone(),
        title: table.file.title.clone(),
        metric: table.file.metric,
        scale,
        overrides: overrides.to_vec(),
        rows,
        uncounted,
    })
}

/// Means over the records with the recipe `hash`, the latest one of each seed.
fn measure<'a>(
    records: impl Iterator<Item = &'a StoredRecord>,
    hash: &str,
    uncounted: &mut Vec<Uncounted>,
) -> RowState {
    let (mut counted, others): (Vec<_>, Vec<_>) =
        records.partition(|stored| stored.record.head().recipe_hash == hash);
    let finished = |stored: &StoredRecord| stored.record.head().provenance.finished_at.clone();
    counted.sort_by_cached_key(|stored| finished(stored));
    let mut by_seed = BTreeMap::new();
    let insert = |stored: &'a StoredRecord| by_seed.insert(stored.record.head().seed, stored);
    let earlier: Vec<_> = counted.into_iter().filter_map(insert).collect();
    let leave_out = |reason| move |it: &StoredRecord| Uncounted { path: it.path.clone(), reason };
    uncounted.extend(others.into_iter().map(leave_out(UncountedReason::OtherRecipe)));
    uncounted.extend(earlier.into_iter().map(leave_out(UncountedReason::SameSeed)));

    let numbers: Vec<_> = by_seed.values().map(|stored| Numbers::of(&stored.record)).collect();
    let statistic = |value: fn(&Numbers) -> Option<f64>| {
        Statistic::of(&numbers.iter().filter_map(value).collect::<Vec<_>>())
    };
    let readings: Vec<_> = numbers.iter().filter_map(|it| it.readings).collect();
    let measured = || {
        Some(Measured {
            valid: statistic(|it| it.valid),
            test: statistic(|it| Some(it.test))?,
            best_epoch: statistic(|it| it.best_epoch),
            one_sample: statistic(|it| it.one_sample),
            nll: statistic(|it| it.nll),
            information_x: statistic(|it| it.information_x),
            information_y: statistic(|it| it.information_y),
            penalty: statistic(|it| Some(it.penalty))?,
            activation_norm: statistic(|it| Some(it.activation_norm))?,
            readings: Readings::mean(&readings),
            records: by_seed.values().map(|stored| stored.path.clone()).collect(),
        })
    };
    measured().map_or(RowState::NotRun, RowState::Measured)
}

/// What one record tells the table; see [`Measured`].
#[derive(Default)]
struct Numbers {
    valid: Option<f64>,
    test: f64,
    best_epoch: Option<f64>,
    one_sample: Option<f64>,
    nll: Option<f64>,
    information_x: Option<f64>,
    information_y: Option<f64>,
    penalty: f64,
    activation_norm: f64,
    readings: Option<Readings>,
}

impl Numbers {
    fn of(record: &Record) -> Self {
        match record {
            Record::Text(record) => {
                let result = &record.result;
                Self {
                    valid: Some(result.valid.perplexity),
                    test: result.test.perplexity,
                    penalty: penalty_per_token(record),
                    activation_norm: result.activation_valid.norm,
                    readings: Some(Readings {
                        half_squared_norm: result.activation_valid.half_squared_norm,
                        frobenius_per_step: result.activation_valid.frobenius_per_step,
                        frobenius_per_step_dropped: result.activation_train.frobenius_per_step,
                        rms: result.activation_valid.rms,
                    }),
                    ..Self::default()
                }
            }
            Record::Image(record) => {
                let result = &record.result;
                Self {
                    test: result.test.accuracy,
                    best_epoch: Some(result.best.accuracy),
                    penalty: record.curve.last().map_or(0.0, |epoch| epoch.penalties.iter().sum()),
                    activation_norm: result.pooled.norm,
                    ..Self::default()
                }
            }
            Record::Vib(record) => {
                let test = &record.result.test;
                Self {
                    test: test.averaged.error(),
                    one_sample: Some(test.one_sample.error()),
                    nll: Some(test.averaged.nll),
                    information_x: test.information_x,
                    information_y: Some(test.information_y),
                    penalty: record.curve.last().map_or(0.0, |epoch| epoch.penalties.iter().sum()),
                    activation_norm: test.code_norm,
                    ..Self::default()
                }
            }
        }
    }
}

/// All penalties of the best epoch, in nats per token. The loss that they are part of is a sum over
/// the window, or a mean.
fn penalty_per_token(record: &TextRecord) -> f64 {
    let best = record.curve.iter().find(|epoch| epoch.epoch == record.result.best_epoch);
    let total: f64 = best.map_or(0.0, |epoch| epoch.penalties.iter().sum());
    match record.recipe.training.loss {
        Some(LossReduction::MeanOverTokens) => total,
        Some(LossReduction::SumOverTime) | None => total / record.recipe.data.bptt as f64,
    }
}
