//! How long runs will take, measured before they are made.

use std::collections::{HashMap, HashSet};

use anp_models::Kernels;

use super::plan::PlannedRun;
use crate::data::{self, Split};
use crate::engine::{Pilot, Place, TrainError};
use crate::recipe::{Recipe, ScheduleConfig, TrainingConfig, content_hash};
use crate::record::StoredRecord;
use crate::runs;
use crate::text::network;

/// An estimate of a run's cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Cost {
    /// Epochs that it is expected to take.
    pub epochs: usize,
    /// Training tokens, or images, of these epochs.
    pub items: u64,
    /// Floating-point operations of training.
    pub flops: f64,
    /// How long its parts take.
    pub pilot: Pilot,
    /// Seconds of the whole run.
    pub seconds: f64,
}

impl Cost {
    /// The cost of `run`, whose parts take as long as `pilot` says. `records` tell how many epochs
    /// runs of the same recipe took.
    ///
    /// # Panics
    ///
    /// If the run's recipe is not valid.
    pub fn new(run: &PlannedRun, pilot: Pilot, records: &[StoredRecord]) -> Self {
        let work = Work::of(&run.recipe);
        let of_recipe = records.iter().filter(|it| it.record.head().recipe_hash == run.recipe_hash);
        let lengths: Vec<usize> = of_recipe.map(|it| it.record.head().num_epochs).collect();
        let epochs = match lengths.len() {
            0 => work.epochs,
            seeds => lengths.iter().sum::<usize>().div_ceil(seeds),
        };
        let items = (epochs * work.items) as u64;
        let flops = items as f64 * work.flops_per_item;
        Self { epochs, items, flops, pilot, seconds: pilot.seconds(epochs) }
    }

    /// Floating-point operations per second of training.
    pub fn rate(&self) -> f64 {
        self.flops / (self.epochs * self.pilot.steps) as f64 / self.pilot.step
    }
}

/// The costs of `runs` at `place`. Runs of recipes that differ in strengths alone are measured
/// once; `progress` is called before each measurement with the number of those before it and of
/// all, and says whether to go on.
///
/// Returns `None` if it is not to go on. A recipe that cannot run at `place` has the reason in
/// place of its cost.
pub fn costs(
    runs: &[PlannedRun],
    place: &Place,
    records: &[StoredRecord],
    mut progress: impl FnMut(usize, usize) -> bool,
) -> Option<Vec<Result<Cost, TrainError>>> {
    let keys: Vec<String> = runs.iter().map(|run| content_hash(&run.recipe.alike())).collect();
    let all = keys.iter().collect::<HashSet<_>>().len();
    let mut pilots: HashMap<&str, Pilot> = HashMap::new();
    let mut costs = Vec::new();
    for (run, key) in runs.iter().zip(&keys) {
        if !pilots.contains_key(key.as_str()) {
            if !progress(pilots.len(), all) {
                return None;
            }
            match runs::pilot(&run.recipe, place) {
                Ok(pilot) => pilots.insert(key, pilot),
                Err(err) => {
                    costs.push(Err(err));
                    continue;
                }
            };
        }
        costs.push(Ok(Cost::new(run, pilots[key.as_str()], records)));
    }
    Some(costs)
}

/// What a recipe asks for.
struct Work {
    /// Epochs that the schedule suggests.
    epochs: usize,
    /// Training tokens, or images, per epoch.
    items: usize,
    /// Floating-point operations of training on one of them.
    flops_per_item: f64,
}

impl Work {
    fn of(recipe: &Recipe) -> Self {
        let manifest = data::manifest(recipe.data_set()).expect("a valid recipe");
        let (epochs, items, multiply_adds) = match recipe {
            Recipe::Text(recipe) => (
                expected_epochs(&recipe.training),
                recipe.data.train_tokens.unwrap_or(manifest.file(Split::Train).tokens),
                network(recipe, manifest.vocabulary, Kernels::Fused).multiply_adds(),
            ),
            Recipe::Image(recipe) => (
                recipe.training.max_epochs,
                recipe.data.train_images.unwrap_or(manifest.images(Split::Train)),
                recipe.network(manifest.classes, Kernels::Fused).multiply_adds(),
            ),
            Recipe::Vib(recipe) => (
                recipe.training.max_epochs,
                recipe.data.train_images.unwrap_or(manifest.images(Split::Train)),
                recipe.network(&manifest).multiply_adds(),
            ),
        };
        // Two operations per multiply-add; once forward and twice backward.
        Self { epochs, items, flops_per_item: 6.0 * multiply_adds as f64 }
    }
}

fn expected_epochs(training: &TrainingConfig) -> usize {
    match training.schedule {
        ScheduleConfig::Fixed { .. } | ScheduleConfig::NonMonotoneAveraging { .. } => {
            training.max_epochs
        }
        // Progress for about fifteen epochs, then one good and one bad epoch per decay.
        ScheduleConfig::OnPlateau { max_decays, .. } => {
            training.max_epochs.min(15 + 2 * max_decays)
        }
    }
}

#[cfg(test)]
mod tests {
    use anp_testing::lock_generator;
    use std::path::PathBuf;

    use super::*;
    use crate::data::Store;
    use crate::device::Devices;
    use crate::engine::RunId;
    use crate::recipe::{ModelConfig, Scale, content_hash, test_recipe};
    use crate::record::test_record;
    use crate::text::bptt::VariableBptt;

    fn run() -> PlannedRun {
        let recipe = test_recipe();
        PlannedRun {
            id: RunId {
                table: "table2".to_owned(),
                row: "lstm".to_owned(),
                scale: Scale::Demo,
                seed: 1,
            },
            recipe_hash: content_hash(&recipe),
            recipe: recipe.into(),
        }
    }

    const PILOT: Pilot = Pilot { steps: 10, step: 0.5, validation: 3.0, last_evaluation: 4.0 };

    /// Strengths do not decide how long a step takes; the lengths of windows do.
    #[cfg(feature = "flex")]
    #[test]
    fn runs_that_differ_in_strengths_alone_are_measured_once() {
        let _turn = lock_generator();
        let place = Place {
            devices: Devices::open(&["flex".parse().unwrap()]).unwrap(),
            kernels: Kernels::Fused,
            store: Store::locate(None),
        };
        let mut recipes = [test_recipe(), test_recipe(), test_recipe()];
        recipes[1].penalties[0].eta *= 4.0;
        recipes[1].training.learning_rate *= 0.5;
        recipes[2].data.variable_bptt =
            Some(VariableBptt { half_probability: 0.5, deviation: 1.0, shortest: 2 });
        let runs = recipes.map(|mut recipe| {
            recipe.data.train_tokens = Some(4 * (100 * 5 + 1));
            PlannedRun { recipe: recipe.into(), ..run() }
        });
        let mut measured = Vec::new();
        let costs = costs(&runs, &place, &[], |done, all| {
            measured.push((done, all));
            true
        });
        assert_eq!(measured, [(0, 2), (1, 2)]);
        let costs: Vec<_> = costs.unwrap().into_iter().map(Result::unwrap).collect();
        assert_eq!(costs[0], costs[1]);
        assert_eq!(costs[0].pilot.steps, 100);
        // Windows of 3.75 steps on average.
        assert!((110..160).contains(&costs[2].pilot.steps), "{}", costs[2].pilot.steps);
        for Cost { pilot, .. } in &costs {
            assert!(pilot.step > 0.0 && pilot.validation > 0.0 && pilot.last_evaluation > 0.0);
        }
    }

    /// The medium model on Penn Treebank: 4.2 M multiply-adds in the layers, 5.1 M in the softmax.
    #[test]
    fn the_medium_model_costs_56_megaflop_a_token() {
        let mut recipe = test_recipe();
        recipe.data.corpus = "penn_treebank".to_owned();
        let ModelConfig::Lstm(lstm) = &mut recipe.model else { unreachable!("it is") };
        (lstm.d_embed, lstm.d_hidden) = (512, 512);
        let flops = Work::of(&recipe.into()).flops_per_item;
        assert_eq!(flops, 6.0 * (4_194_304.0 + 5_120_000.0));
    }

    #[test]
    fn records_of_the_recipe_tell_how_many_epochs_it_takes() {
        let cost = Cost::new(&run(), PILOT, &[]);
        assert_eq!(cost.epochs, 2);
        assert_eq!(cost.seconds, 2.0 * (10.0 * 0.5 + 3.0) + 4.0);
        assert_eq!(cost.rate(), cost.flops / 10.0);
        let mut record = test_record("table2", "lstm", Scale::Demo, 9, &test_recipe());
        record.curve.truncate(1);
        let stored = StoredRecord { path: PathBuf::from("a.json"), record: record.into() };
        let cost = Cost::new(&run(), PILOT, &[stored]);
        assert_eq!((cost.epochs, cost.seconds), (1, 12.0));
    }

    /// Multiply-adds forward once and backward twice; all epochs are made.
    #[test]
    fn an_image_costs_six_operations_a_multiply_add() {
        let recipe = crate::recipe::test_image_recipe();
        let multiply_adds = recipe.network(10, Kernels::Fused).multiply_adds() as f64;
        let run = PlannedRun { recipe: recipe.into(), ..run() };
        let cost = Cost::new(&run, PILOT, &[]);
        assert_eq!((cost.epochs, cost.items), (2, 40));
        assert_eq!(cost.flops, 40.0 * 6.0 * multiply_adds);
    }

    #[test]
    fn the_paper_s_schedule_is_expected_to_end_before_its_cap() {
        let mut run = run();
        let Recipe::Text(mut recipe) = run.recipe.clone() else { unreachable!("it is") };
        recipe.training.max_epochs = 400;
        run.recipe = recipe.clone().into();
        assert_eq!(Cost::new(&run, PILOT, &[]).epochs, 45);
        recipe.training.schedule = ScheduleConfig::Fixed { hold_epochs: 4, divide_by: 2.0 };
        run.recipe = recipe.into();
        assert_eq!(Cost::new(&run, PILOT, &[]).epochs, 400);
    }
}
