use serde::{Deserialize, Serialize};

use super::recipe::{ScheduleConfig, TrainingConfig};

/// What to do after an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The epoch's parameters are the best so far.
    pub improved: bool,
    /// Continue from the best parameters instead of the current ones.
    pub restore_best: bool,
    /// Why training ends, if it does.
    pub end: Option<End>,
}

/// Why training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All epochs of the recipe are complete.
    MaxEpochs,
    /// Another decay is due, but the recipe allows no more.
    MaxDecays,
    /// Too many epochs in a row without a better validation loss.
    Patience,
}

/// The learning rate of each epoch. It holds everything that it depends on, so that it can be
/// saved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    config: ScheduleConfig,
    max_epochs: usize,
    patience: Option<usize>,
    first_learning_rate: f64,
    learning_rate: f64,
    epochs: usize,
    decays: usize,
    best: Option<Best>,
    epochs_since_best: usize,
    /// Validation losses until averaging begins, for the schedule that compares with earlier ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    valid_nlls: Vec<f64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_averaging: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Best {
    epoch: usize,
    valid_nll: f64,
}

impl Schedule {
    /// The schedule before the first epoch.
    pub fn new(config: &TrainingConfig) -> Self {
        Self {
            config: config.schedule.clone(),
            max_epochs: config.max_epochs,
            patience: config.patience,
            first_learning_rate: config.learning_rate,
            learning_rate: config.learning_rate,
            epochs: 0,
            decays: 0,
            best: None,
            epochs_since_best: 0,
            valid_nlls: Vec::new(),
            is_averaging: false,
        }
    }

    /// The learning rate of the next epoch.
    pub fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    /// Whether parameters are averaged from the next epoch on.
    pub fn is_averaging(&self) -> bool {
        self.is_averaging
    }

    /// Number of completed epochs.
    pub fn epochs(&self) -> usize {
        self.epochs
    }

    /// The epoch with the lowest validation loss, from 1.
    pub fn best_epoch(&self) -> Option<usize> {
        self.best.map(|best| best.epoch)
    }

    /// Record an epoch's validation loss and set the learning rate of the next epoch.
    ///
    /// The rule on a plateau follows the public code of Xie et al., 2017 (GitHub
    /// `stanfordmlgroup/nlm-noising`), whose LSTM rows the paper copies: decay unless the epoch is
    /// at least as good as the best, restore the best parameters, and end when more decays would be
    /// needed than allowed.
    pub fn end_epoch(&mut self, valid_nll: f64) -> Verdict {
        self.epochs += 1;
        let as_good = self.best.is_none_or(|best| valid_nll <= best.valid_nll);
        let improved = self.best.is_none_or(|best| valid_nll < best.valid_nll);
        if improved {
            self.best = Some(Best { epoch: self.epochs, valid_nll });
            self.epochs_since_best = 0;
        } else {
            self.epochs_since_best += 1;
        }

        let mut end = None;
        let mut restore_best = false;
        match self.config {
            ScheduleConfig::OnPlateau { factor, max_decays } => {
                if !as_good {
                    restore_best = true;
                    if self.decays == max_decays {
                        end = Some(End::MaxDecays);
                    } else {
                        self.decays += 1;
                        self.learning_rate *= factor;
                    }
                }
            }
            ScheduleConfig::Fixed { hold_epochs, divide_by } => {
                // Computed from the first rate each time, so that interruptions do not change it.
                let divisions = (self.epochs + 1).saturating_sub(hold_epochs);
                let divisions = i32::try_from(divisions).expect("fewer than 2³¹ epochs");
                self.learning_rate = self.first_learning_rate / divide_by.powi(divisions);
            }
            // `len(logs) > n and v > min(logs[:-n])` before v is logged, as in the public code of
            // Merity et al., 2017 (GitHub `salesforce/awd-lstm-lm`); their paper's algorithm 1 says
            // the same.
            ScheduleConfig::NonMonotoneAveraging { interval } => {
                if !self.is_averaging {
                    let compared = self.valid_nlls.len().saturating_sub(interval);
                    let is_worse = |&earlier: &f64| valid_nll > earlier;
                    self.is_averaging = self.valid_nlls[..compared].iter().any(is_worse);
                    self.valid_nlls.push(valid_nll);
                }
            }
        }
        if self.patience.is_some_and(|patience| self.epochs_since_best >= patience) {
            end = end.or(Some(End::Patience));
        }
        if self.epochs >= self.max_epochs {
            end = end.or(Some(End::MaxEpochs));
        }
        Verdict { improved, restore_best, end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn training(schedule: ScheduleConfig) -> TrainingConfig {
        TrainingConfig {
            max_epochs: 100,
            learning_rate: 1.0,
            grad_clip_norm: 5.0,
            loss: None,
            weight_decay: None,
            mixed_precision: None,
            schedule,
            patience: None,
        }
    }

    /// Zaremba's small model: 5 epochs at 1, then halved each epoch; the 13th runs at 2⁻⁸.
    #[test]
    fn the_fixed_schedule_is_zarembas() {
        let mut config = training(ScheduleConfig::Fixed { hold_epochs: 5, divide_by: 2.0 });
        config.max_epochs = 13;
        let mut schedule = Schedule::new(&config);
        let mut rates = Vec::new();
        loop {
            rates.push(schedule.learning_rate());
            let verdict = schedule.end_epoch(7.0 - rates.len() as f64);
            assert!(!verdict.restore_best);
            if let Some(end) = verdict.end {
                assert_eq!(end, End::MaxEpochs);
                break;
            }
        }
        assert_eq!(rates.len(), 13);
        assert_eq!(rates[..7], [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.25]);
        assert_eq!(rates[12], 0.5_f64.powi(8));
    }

    #[test]
    fn a_plateau_restores_decays_and_ends_with_the_decay_too_many() {
        let config = training(ScheduleConfig::OnPlateau { factor: 0.5, max_decays: 2 });
        let mut schedule = Schedule::new(&config);
        let mut step = |nll: f64| {
            let verdict = schedule.end_epoch(nll);
            (verdict.improved, verdict.restore_best, verdict.end, schedule.learning_rate())
        };
        assert_eq!(step(5.0), (true, false, None, 1.0));
        assert_eq!(step(5.5), (false, true, None, 0.5));
        assert_eq!(step(4.0), (true, false, None, 0.5));
        // As good as the best is no decay: log(best) − log(current) < 0 is false.
        assert_eq!(step(4.0), (false, false, None, 0.5));
        assert_eq!(step(f64::INFINITY), (false, true, None, 0.25));
        assert_eq!(step(4.1), (false, true, Some(End::MaxDecays), 0.25));
        assert_eq!(schedule.best_epoch(), Some(3));
    }

    /// The losses of epochs, and the epoch after which the published condition holds.
    #[test]
    fn averaging_begins_when_an_epoch_is_worse_than_an_early_one() {
        let begins = |interval, losses: &[f64]| {
            let config = training(ScheduleConfig::NonMonotoneAveraging { interval });
            let mut schedule = Schedule::new(&config);
            let begins = losses.iter().position(|&loss| {
                let verdict = schedule.end_epoch(loss);
                assert!(!verdict.restore_best && verdict.end.is_none());
                schedule.is_averaging()
            });
            schedule.end_epoch(0.0);
            assert_eq!(schedule.is_averaging(), begins.is_some(), "averaging does not end");
            assert_eq!(schedule.learning_rate(), 1.0);
            begins
        };
        // The third and the fourth are worse than the second, but only the fifth is compared with
        // it.
        assert_eq!(begins(2, &[5.0, 4.0, 4.5, 4.1, 4.2]), Some(4));
        assert_eq!(begins(1, &[5.0, 4.0, 4.5, 4.1]), Some(3));
        assert_eq!(begins(2, &[5.0, 4.0, 3.9, 4.0, 3.8, 3.95]), Some(5));
        // As good as is not worse.
        assert_eq!(begins(1, &[5.0, 4.0, 4.0, 4.0]), None);
        assert_eq!(begins(5, &[4.0, 5.0, 5.0, 5.0, 5.0, 5.0]), None);
        assert_eq!(begins(5, &[4.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0]), Some(6));
    }

    #[test]
    fn patience_counts_epochs_since_the_best() {
        let mut config = training(ScheduleConfig::Fixed { hold_epochs: 100, divide_by: 1.0 });
        config.patience = Some(2);
        let mut schedule = Schedule::new(&config);
        let ends: Vec<_> = [5.0, 5.1, 4.9, 5.0, 5.0].map(|nll| schedule.end_epoch(nll).end).into();
        assert_eq!(ends, [None, None, None, None, Some(End::Patience)]);
    }

    #[test]
    fn a_saved_schedule_goes_on_where_it_stopped() {
        let config = training(ScheduleConfig::OnPlateau { factor: 0.7, max_decays: 15 });
        let mut schedule = Schedule::new(&config);
        schedule.end_epoch(5.0);
        schedule.end_epoch(5.2);
        let text = serde_json::to_string(&schedule).unwrap();
        let mut continued: Schedule = serde_json::from_str(&text).unwrap();
        assert_eq!(continued, schedule);
        assert_eq!(continued.end_epoch(4.8), schedule.end_epoch(4.8));
    }
}
