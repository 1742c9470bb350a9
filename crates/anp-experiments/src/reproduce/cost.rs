//! What a run will cost, before it is made. These are estimates.

use std::mem::discriminant;
use std::path::PathBuf;

use anp_models::Kernels;

use super::plan::PlannedRun;
use crate::data::{self, Split};
use crate::recipe::{Recipe, ScheduleConfig, TrainingConfig};
use crate::record::StoredRecord;
use crate::text::network;

/// Floating-point operations per second and hardware thread of a CPU in training, if nothing was
/// measured: about what two threads of a server reach on the medium model.
const CPU_THREAD_FLOPS: f64 = 40e9;

/// The same for a whole GPU: small products and many launches keep it far below its peak.
const GPU_FLOPS: f64 = 4e12;

/// Where runs are to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Name of the device, as records give it.
    pub device: String,
    /// Whether the device is the CPU.
    pub is_cpu: bool,
    /// Hardware threads.
    pub threads: usize,
}

/// An estimate of a run's cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Cost {
    /// Epochs that it is expected to take.
    pub epochs: usize,
    /// Training tokens, or images, of these epochs.
    pub items: u64,
    /// Floating-point operations of training.
    pub flops: f64,
    /// Seconds of training.
    pub seconds: f64,
    /// What `seconds` rests on.
    pub basis: Basis,
}

/// What an estimated time rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Basis {
    /// The speed in this record, of the same device and a recipe of about the same size.
    Record(PathBuf),
    /// A rule of thumb; nothing was measured on this device.
    RuleOfThumb,
}

impl Cost {
    /// Estimate the cost of `run` on `machine`, with the speeds that `records` hold.
    ///
    /// # Panics
    ///
    /// If the run's recipe is not valid.
    pub fn estimate(run: &PlannedRun, machine: &Machine, records: &[StoredRecord]) -> Self {
        let work = Work::of(&run.recipe);
        let of_recipe = records.iter().filter(|it| it.record.head().recipe_hash == run.recipe_hash);
        let lengths: Vec<usize> = of_recipe.map(|it| it.record.head().num_epochs).collect();
        let epochs = match lengths.len() {
            0 => work.epochs,
            seeds => lengths.iter().sum::<usize>().div_ceil(seeds),
        };
        let items = (epochs * work.items) as u64;
        let flops = items as f64 * work.flops_per_item;
        let (speed, basis) = speed(run, machine, records);
        Self { epochs, items, flops, seconds: flops / speed, basis }
    }
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

/// Floating-point operations per second on `machine`, and where that is from.
fn speed(run: &PlannedRun, machine: &Machine, records: &[StoredRecord]) -> (f64, Basis) {
    let size = Work::of(&run.recipe).flops_per_item;
    let measured = records.iter().filter_map(|stored| {
        let (recipe, provenance) = (stored.record.recipe(), stored.record.head().provenance);
        let is_comparable = discriminant(&recipe) == discriminant(&run.recipe)
            && data::manifest(recipe.data_set()).is_ok()
            && provenance.device == machine.device
            && (!machine.is_cpu || provenance.threads == machine.threads)
            && provenance.tokens_per_second > 0.0;
        let flops_per_item = is_comparable.then(|| Work::of(&recipe).flops_per_item)?;
        let unlikeness = (flops_per_item / size).ln().abs();
        Some((unlikeness, provenance.tokens_per_second * flops_per_item, &stored.path))
    });
    match measured.min_by(|(left, ..), (right, ..)| left.total_cmp(right)) {
        Some((_, speed, path)) => (speed, Basis::Record(path.clone())),
        None if machine.is_cpu => (CPU_THREAD_FLOPS * machine.threads as f64, Basis::RuleOfThumb),
        None => (GPU_FLOPS, Basis::RuleOfThumb),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::RunId;
    use crate::recipe::{ModelConfig, Scale, content_hash, test_recipe};
    use crate::record::test_record;

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

    fn cpu() -> Machine {
        Machine { device: "flex".to_owned(), is_cpu: true, threads: 2 }
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
    fn without_records_it_is_a_rule_of_thumb() {
        let cost = Cost::estimate(&run(), &cpu(), &[]);
        assert_eq!(cost.epochs, 2);
        assert_eq!(cost.basis, Basis::RuleOfThumb);
        assert_eq!(cost.seconds, cost.flops / (2.0 * CPU_THREAD_FLOPS));
        let gpu = Machine { device: "cuda:0".to_owned(), is_cpu: false, threads: 2 };
        assert_eq!(Cost::estimate(&run(), &gpu, &[]).seconds, cost.flops / GPU_FLOPS);
    }

    #[test]
    fn a_record_of_this_device_gives_the_speed_and_the_epochs() {
        let path = PathBuf::from("a.json");
        let mut record = test_record("table2", "lstm", Scale::Demo, 9, &test_recipe());
        record.curve.truncate(1);
        let stored = StoredRecord { path: path.clone(), record: record.into() };
        let cost = Cost::estimate(&run(), &cpu(), std::slice::from_ref(&stored));
        assert_eq!(cost.epochs, 1);
        assert_eq!(cost.basis, Basis::Record(path));
        let seconds = cost.items as f64 / stored.record.head().provenance.tokens_per_second;
        assert!((cost.seconds - seconds).abs() < 1e-9 * seconds);

        let other = Machine { threads: 64, ..cpu() };
        assert_eq!(Cost::estimate(&run(), &other, &[stored]).basis, Basis::RuleOfThumb);
    }

    /// Multiply-adds forward once and backward twice; all epochs are made.
    #[test]
    fn an_image_costs_six_operations_a_multiply_add() {
        let recipe = crate::recipe::test_image_recipe();
        let multiply_adds = recipe.network(10, Kernels::Fused).multiply_adds() as f64;
        let run = PlannedRun { recipe: recipe.into(), ..run() };
        let cost = Cost::estimate(&run, &cpu(), &[]);
        assert_eq!((cost.epochs, cost.items), (2, 40));
        assert_eq!(cost.flops, 40.0 * 6.0 * multiply_adds);
    }

    #[test]
    fn the_paper_s_schedule_is_expected_to_end_before_its_cap() {
        let mut run = run();
        let Recipe::Text(mut recipe) = run.recipe.clone() else { unreachable!("it is") };
        recipe.training.max_epochs = 400;
        run.recipe = recipe.clone().into();
        assert_eq!(Cost::estimate(&run, &cpu(), &[]).epochs, 45);
        recipe.training.schedule = ScheduleConfig::Fixed { hold_epochs: 4, divide_by: 2.0 };
        run.recipe = recipe.into();
        assert_eq!(Cost::estimate(&run, &cpu(), &[]).epochs, 400);
    }
}
