//! The first training step of every row's demo recipe.

use anp_experiments::data;
use anp_experiments::experiments::Experiments;
use anp_experiments::recipe::Scale;
use anp_experiments::text::batches::{LmBatch, Window};
use anp_experiments::text::build_learner;
use anp_experiments::text::noising::NoisingConfig;
use anp_models::Kernels;
use anp_testing::package;
use burn::tensor::{Device, Distribution, Int, Tensor};
use burn::train::TrainStep;

/// Masks and noise included, nothing is known yet: the loss is that of a uniform guess.
#[test]
fn the_loss_is_the_logarithm_of_the_vocabulary() {
    let experiments = package().join("../../experiments");
    let experiments = Experiments::locate(Some(&experiments)).unwrap();
    let device = Device::flex().autodiff();
    let mut num_rows = 0;
    for table in experiments.table_names().unwrap() {
        for row in experiments.table(&table).unwrap().rows {
            let Some(runs) = row.runs(Scale::Demo, &[]).unwrap() else { continue };
            let Some(recipe) = runs.recipe.text() else { continue };
            let noising = recipe.data.noising.as_ref().map_or(0, NoisingConfig::extra_words);
            let vocab_size = data::manifest(&recipe.data.corpus).unwrap().vocabulary + noising;
            device.seed(1);
            let learner = build_learner(&recipe, vocab_size, Kernels::Fused, &device);
            let words = || -> Tensor<2, Int> {
                let uniform = Distribution::Uniform(0.0, vocab_size as f64);
                let words = Tensor::<2>::random([10, 4], uniform, &device).int();
                words.clamp_max(vocab_size as i32 - 1)
            };
            let window = Window { inputs: words(), targets: words() };
            let output = learner.step(LmBatch { window, state: None }).item.into_step();
            let nll = output.nll_sum.into_scalar::<f64>() / output.tokens as f64;
            let mut expected = (vocab_size as f64).ln();
            if recipe.pointer_sentinel.is_some() {
                // All words so far and the sentinel get the same share, and the softmax has the
                // sentinel's: 1/2 at the first step, 1/11 at the last.
                expected += (2..=11).map(|shares| f64::from(shares).ln()).sum::<f64>() / 10.0;
            }
            // Small weights make small logits, not none: half their variance is added, 0.1 with
            // those that the NAS cell needs.
            let what = format!("{table} {}", row.id);
            assert!((nll - expected).abs() < 0.15, "{what}: {nll} and not {expected}");
            num_rows += 1;
        }
    }
    assert!(num_rows > 40, "only {num_rows} rows have a demo recipe");
}
