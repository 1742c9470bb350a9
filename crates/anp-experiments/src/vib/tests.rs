//! A training step against PyTorch, and whole runs: stopped, measured again, with and without a
//! bottleneck.

use std::path::Path;
use std::time::Duration;

use anp_models::{Kernels, VibClassifierConfig};
use anp_testing::{
    Array, Arrays, SilentRenderer, TestDevice, assert_arrays_close, assert_close, fixture,
    gradients, lock_generator, optimizer_gradients, parameters, values, with_parameters,
};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device};
use burn::train::Interrupter;
use serde::Deserialize;

use super::evaluate::{Draws, evaluate};
use super::learner::VibLearner;
use super::recipe::{VibRecipe, test_vib_recipe};
use super::record::{VibRecord, VibScore};
use super::task::{VibTask, optimizer};
use super::{VibData, evaluate_checkpoint};
use crate::data::Store;
use crate::device::{DeviceName, Devices};
use crate::engine::{Checkpoint, Control, Outcome, Place, RunId, RunRequest, run};
use crate::gradient_norm::gradient_norm;
use crate::moving_mean::move_towards;
use crate::recipe::Scale;
use crate::record::Record;

#[derive(Deserialize)]
struct Fixture {
    sizes: [usize; 4],
    learning_rate: f64,
    betas: [f64; 2],
    epsilon: f64,
    decay: f64,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    beta: Option<f64>,
    images: Array,
    labels: Array<i64>,
    noises: Vec<Array>,
    parameters: Arrays,
    steps: Vec<Step>,
    updated: Arrays,
    average: Arrays,
}

#[derive(Deserialize)]
struct Step {
    nll_sum: f64,
    penalty: f64,
    kl: Array,
    sigma: Array,
    gradients: Arrays,
    grad_norm: f64,
}

/// Loss, divergence, σ, every gradient and their norm at three steps of Adam; then the parameters
/// and their average.
#[test]
fn training_agrees_with_pytorch() {
    let _turn = lock_generator();
    let fixture: Fixture = fixture("vib.json");
    assert_eq!(fixture.cases.len(), 4, "a case is missing");
    let [d_input, d_hidden, d_latent, num_classes] = fixture.sizes;
    let mut training = test_vib_recipe().training;
    [training.beta_1, training.beta_2] = fixture.betas;
    (training.epsilon, training.average_decay) = (fixture.epsilon, fixture.decay);
    let device = Device::default().autodiff();
    for (case, dtype) in fixture.cases.iter().flat_map(|it| [(it, DType::F32), (it, DType::F64)]) {
        let device = TestDevice { device: device.clone(), dtype };
        let what = |part: &str| format!("{}, {dtype:?}: {part}", case.name);
        let mut tolerance = device.roundings(512.0);
        let beta = case.beta;
        let config = VibClassifierConfig { d_input, d_hidden, d_latent, num_classes, beta };
        let net = with_parameters(config.init(&device.device), &case.parameters, &device);
        let mut learner = VibLearner { net, shape: [1, 1, d_input] };
        let mut optimizer = optimizer(&training);
        let mut average = None;
        for (index, (step, noise)) in case.steps.iter().zip(&case.noises).enumerate() {
            let encoding = learner.net.encode(case.images.tensor(&device));
            let codes = match case.beta {
                Some(_) => encoding.sample_with_noise(noise.tensor(&device)),
                None => learner.net.code(&encoding),
            };
            step.kl.assert_close(&what("KL"), encoding.kl().squeeze_dim::<1>(1), tolerance);
            step.sigma.assert_close(&what("σ"), encoding.sigma(), tolerance);
            let (loss, output) = learner.loss(&encoding, codes, case.labels.tensor(&device));
            let scalars = [
                values(output.nll_sum)[0],
                output.penalties.into_iter().map(|it| values(it)[0]).sum(),
            ];
            assert_close(&what("loss"), &scalars, &[step.nll_sum, step.penalty], tolerance);
            let raw = loss.backward();
            assert_arrays_close(
                &what("gradients"),
                &gradients(&learner.net, &raw),
                &step.gradients,
                tolerance,
            );
            let grads = GradientsParams::from_grads(raw, &learner);
            assert_eq!(optimizer_gradients(&learner.net, &grads, None).len(), 8);
            let norm = values(gradient_norm(&learner, &grads));
            assert_close(&what("norm"), &norm, &[step.grad_norm], tolerance);
            learner = optimizer.step(fixture.learning_rate, learner, grads);
            // Burn's Adam has its factors in single precision, whatever the tensors have.
            tolerance = 512.0 * f64::from(f32::EPSILON);
            let weight = training.average_weight(index as u64 + 1);
            average = Some(match average.take() {
                Some(average) => move_towards(average, &learner.net, weight),
                None => learner.net.clone(),
            });
        }
        let average = average.expect("there is a step");
        assert_arrays_close(&what("updated"), &parameters(&learner.net), &case.updated, tolerance);
        assert_arrays_close(&what("average"), &parameters(&average), &case.average, tolerance);
    }
}

fn place() -> Place {
    let name: DeviceName = "flex".parse().expect("a name");
    let device = name.open().expect("flex is compiled in");
    Place {
        devices: Devices::new(vec![(name, device)]),
        kernels: Kernels::Fused,
        store: Store::locate(None),
    }
}

/// A run that saves after each step, stopped after `updates` reports.
fn start(recipe: &VibRecipe, run_dir: &Path, updates: usize) -> Outcome<VibRecord> {
    let interrupter = Interrupter::new();
    let (to_stop, mut left) = (interrupter.clone(), updates);
    let renderer = SilentRenderer::default().on_progress(move |_| match left {
        0 => to_stop.stop(None),
        _ => left -= 1,
    });
    let (table, row) = ("tests".to_owned(), "tiny".to_owned());
    let outcome = run::<VibTask>(RunRequest {
        recipe: recipe.clone(),
        id: RunId { table, row, scale: Scale::Demo, seed: 3 },
        place: place(),
        control: Control {
            checkpoint_interval: Duration::ZERO,
            ..Control::new(run_dir.to_owned(), Box::new(renderer), interrupter)
        },
    });
    outcome.unwrap()
}

fn finished(recipe: &VibRecipe, run_dir: &Path) -> VibRecord {
    match start(recipe, run_dir, usize::MAX) {
        Outcome::Finished(record) => *record,
        Outcome::Interrupted { .. } => panic!("nobody asked it to stop"),
    }
}

/// Three batches an epoch, of 8, 8 and 4 images, and crops and flips.
fn recipe() -> VibRecipe {
    let mut recipe = test_vib_recipe();
    recipe.data.augment = true;
    recipe
}

/// What two runs that are the same must agree in, to the bit.
fn numbers(mut record: VibRecord) -> String {
    record.curve.iter_mut().for_each(|epoch| epoch.seconds = 0.0);
    serde_json::to_string(&(record.result, record.curve)).unwrap()
}

/// With moments of Adam, an average of the parameters and sums that must all come back.
#[test]
fn a_run_stopped_in_mid_epoch_ends_with_the_same_bits() {
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    for (name, beta) in [("with", Some(1e-2)), ("without", None)] {
        let mut recipe = recipe();
        recipe.vib_mut().beta = beta;
        let whole = finished(&recipe, &folder.path().join(name));
        assert_eq!((whole.provenance.resumed, whole.curve.len()), (0, 2));
        let run_dir = folder.path().join(format!("{name}, stopped"));
        let (mut in_the_middle, mut stops) = (0, 0);
        let record = loop {
            match start(&recipe, &run_dir, stops % 3) {
                Outcome::Finished(record) => break record,
                Outcome::Interrupted { checkpoint } => {
                    stops += 1;
                    assert!(stops < 100, "the run makes no progress");
                    let name = checkpoint.unwrap().file_name().unwrap().to_os_string();
                    in_the_middle += usize::from(!name.to_string_lossy().ends_with("w000000000"));
                }
            }
        };
        assert!(in_the_middle > 0, "it was stopped between epochs only");
        assert_eq!(record.provenance.resumed, stops);
        assert_eq!(numbers(*record), numbers(whole));
    }
}

/// The same codes are drawn again, and the record reads back what it writes.
#[test]
fn a_checkpoint_is_measured_as_in_its_record() {
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let record = finished(&recipe(), &folder.path().join("run"));
    let last = record.curve.last().unwrap();
    assert_eq!(record.result.test, last.test);
    assert_eq!((record.result.test.images, record.result.train.images), (10, 20));
    let checkpoint = Checkpoint::open(&folder.path().join("run")).unwrap();
    let stored = checkpoint.of().unwrap();
    let score = evaluate_checkpoint(stored, &place(), &mut |_, _| true).unwrap().unwrap();
    assert_eq!((score.test, score.epochs, score.samples), (record.result.test, 2, 4));

    let record = Record::from(record);
    let path = record.save(folder.path()).unwrap();
    assert_eq!(Record::load(&path).unwrap(), record);
}

/// The term is logged, and a higher price buys less information.
#[test]
fn the_price_is_part_of_the_loss_and_lowers_the_information() {
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, beta| {
        let mut recipe = recipe();
        recipe.training.learning_rate = 0.01;
        recipe.vib_mut().beta = beta;
        finished(&recipe, &folder.path().join(name))
    };
    let [free, cheap, dear] =
        [("free", 0.0), ("cheap", 1e-3), ("dear", 1.0)].map(|(name, beta)| run(name, Some(beta)));
    let none = run("none", None);
    let information = |record: &VibRecord| record.result.test.information_x.unwrap();
    assert!(information(&dear) < 0.9 * information(&cheap), "{}", information(&dear));
    assert!(information(&cheap) < information(&free));
    assert_eq!(free.curve[1].penalties, [0.0]);
    // β times about the divergence that is measured: the noise is small at first.
    let price = cheap.curve[1].penalties[0] / 1e-3;
    assert!((price / information(&cheap) - 1.0).abs() < 0.2, "{price}, {}", information(&cheap));
    assert_eq!((cheap.penalties[0].eta, cheap.penalties.len()), (1e-3, 1));

    assert!(none.penalties.is_empty() && none.curve.iter().all(|it| it.penalties.is_empty()));
    let VibScore { mean_code, one_sample, averaged, .. } = none.result.test;
    assert_eq!((mean_code, mean_code), (one_sample, averaged));
    assert_eq!((none.result.test.information_x, none.result.test.sigma), (None, None));
    assert_eq!(none.num_params, free.num_params);
}

/// By the definition, image by image: the mean over samples of the loss is that of one sample, the
/// loss of the mean probability is below it, and the draws depend on their seed alone.
#[test]
fn predictions_are_from_the_samples_that_the_seed_gives() {
    let _alone = lock_generator();
    let device = Device::default();
    let recipe = recipe();
    let set = Store::locate(None).load_images(&recipe.data.images).unwrap();
    let data = VibData::new(set, &recipe.data);
    device.seed(5);
    let config = VibClassifierConfig {
        d_input: 784,
        d_hidden: 16,
        d_latent: 8,
        num_classes: 10,
        beta: Some(1.0),
    };
    let mut learner =
        VibLearner { net: config.init(&device.clone().autodiff()), shape: data.shape };
    // σ = softplus(7 − 5): the noise decides.
    let head = &mut learner.net.bottleneck.linear;
    let bias = Array { shape: vec![16], data: [[0.0; 8], [7.0; 8]].concat() };
    let f32 = TestDevice { device: device.clone().autodiff(), dtype: DType::F32 };
    head.bias = Some(bias.param(&f32));
    let learner = learner.valid();
    let source = &data.images.test;
    let score = |samples, seed| {
        let draws = Draws { samples, seed };
        evaluate(&learner, source, 10, draws, &device, &mut |_| true).unwrap()
    };
    let one = score(1, 7);
    assert!((one.one_sample.nll / one.averaged.nll - 1.0).abs() < 1e-6);
    assert_eq!(one.one_sample.accuracy, one.averaged.accuracy);
    let (many, again, other) = (score(50, 7), score(50, 7), score(50, 8));
    assert_eq!(many, again);
    assert_ne!(many, other);
    assert!(many.averaged.nll < many.one_sample.nll - 0.01);
    assert_eq!(many.mean_code, other.mean_code);
    assert_eq!(many.images, 10);
    // σ is between softplus(1) and softplus(3) but for weights that are small.
    assert!((1.3..3.1).contains(&many.sigma.unwrap()), "{:?}", many.sigma);
    // The labels of ten images: their entropy less the loss.
    let entropy = many.information_y + many.one_sample.nll;
    assert!((1.0..10.0_f64.ln() + 1e-12).contains(&entropy), "{entropy}");
    assert!(
        evaluate(&learner, source, 10, Draws { samples: 1, seed: 1 }, &device, &mut |_| false)
            .is_none()
    );
}
