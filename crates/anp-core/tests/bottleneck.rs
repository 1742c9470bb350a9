//! The variational information bottleneck. Values and gradients against PyTorch in float64:
//! `reference/bottleneck.py` wrote `fixtures/bottleneck.json`. Then closed forms, draws, layouts.

use std::collections::BTreeMap;

use anp_core::{GaussianEncoding, VariationalBottleneck, VariationalBottleneckConfig, gaussian_kl};
use anp_testing::{Array, TestDevice, assert_close, fixture, gradient, lock_generator, values};
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    divergences: Vec<DivergenceCase>,
    heads: Vec<HeadCase>,
}

#[derive(Deserialize)]
struct DivergenceCase {
    name: String,
    inputs: BTreeMap<String, Array>,
    upstream: Array,
    kl: Array,
    gradients: BTreeMap<String, Array>,
}

#[derive(Deserialize)]
struct HeadCase {
    name: String,
    beta: f64,
    inputs: BTreeMap<String, Array>,
    noise: Array,
    upstream: Array,
    mean: Array,
    sigma: Array,
    kl: Array,
    latent: Array,
    penalty: f64,
    gradients: BTreeMap<String, Array>,
}

/// The default device in both precisions.
fn devices() -> [TestDevice; 2] {
    let device = Device::default().autodiff();
    [DType::F32, DType::F64].map(|dtype| TestDevice { device: device.clone(), dtype })
}

fn check_divergence<const D: usize>(case: &DivergenceCase, device: &TestDevice) {
    // Near the prior, 1 + 2 ln σ is taken from σ²: what is left, of the order of 0.05, has the
    // rounding of 1.
    let tolerance = device.roundings(64.0);
    let leaf = |name| case.inputs[name].tensor::<D>(device).require_grad();
    let (mean, log_sigma) = (leaf("mean"), leaf("log_sigma"));
    let kl = gaussian_kl(mean.clone(), log_sigma.clone());
    case.kl.assert_close(&case.name, kl.clone(), tolerance);
    let gradients = (kl * case.upstream.tensor(device)).sum().backward();
    for (name, leaf) in [("mean", mean), ("log_sigma", log_sigma)] {
        let what = format!("{}, {name}, {device:?}", case.name);
        assert_close(&what, &gradient(&leaf, &gradients), &case.gradients[name].data, tolerance);
    }
}

#[test]
fn divergences_agree_with_pytorch_in_value_and_gradient() {
    let cases = fixture::<Fixture>("bottleneck.json").divergences;
    assert!(cases.len() >= 4, "a case is missing");
    for case in &cases {
        for device in &devices() {
            match case.kl.shape.len() {
                2 => check_divergence::<2>(case, device),
                3 => check_divergence::<3>(case, device),
                rank => panic!("{}: no test for rank {rank}", case.name),
            }
        }
    }
}

fn check_head<const D: usize>(case: &HeadCase, device: &TestDevice) {
    // Sums of up to 18 products, and σ = exp(ln σ), which has the error of ln σ times |ln σ| < 10.
    // A smaller σ is compared with the other magnitudes, or with 1e-30.
    let tolerance = device.roundings(64.0);
    let [d_input, twice] = case.inputs["weight"].shape[..] else { panic!("a matrix") };
    let config = VariationalBottleneckConfig::new(d_input, twice / 2, case.beta);
    let mut head = config.init(&device.device);
    head.linear.weight = case.inputs["weight"].param(device);
    head.linear.bias = Some(case.inputs["bias"].param(device));
    let features = case.inputs["features"].tensor::<D>(device).require_grad();

    let what = format!("{}, {device:?}", case.name);
    let encoding = head.encode(features.clone());
    case.mean.assert_close(&what, encoding.mean.clone(), tolerance);
    case.sigma.assert_close(&what, encoding.sigma(), tolerance);
    case.kl.assert_close(&what, encoding.kl(), tolerance);
    let latent = encoding.sample_with_noise(case.noise.tensor(device));
    case.latent.assert_close(&what, latent.clone(), tolerance);
    let penalty = head.penalty(&encoding);
    assert_close(&what, &values(penalty.clone()), &[case.penalty], tolerance);

    let gradients = (penalty + (latent * case.upstream.tensor(device)).sum()).backward();
    let bias = head.linear.bias.as_ref().expect("it was set").val();
    for (name, gradient) in [
        ("features", gradient(&features, &gradients)),
        ("weight", gradient(&head.linear.weight.val(), &gradients)),
        ("bias", gradient(&bias, &gradients)),
    ] {
        let what = format!("{what}, {name}");
        assert_close(&what, &gradient, &case.gradients[name].data, tolerance);
    }
}

#[test]
fn heads_agree_with_pytorch_in_value_and_gradient() {
    let cases = fixture::<Fixture>("bottleneck.json").heads;
    assert!(cases.len() >= 5, "a case is missing");
    for case in &cases {
        for device in &devices() {
            match case.mean.shape.len() {
                2 => check_head::<2>(case, device),
                3 => check_head::<3>(case, device),
                rank => panic!("{}: no test for rank {rank}", case.name),
            }
        }
    }
}

fn encoding(mean: f64, log_sigma: f64, shape: [usize; 2]) -> GaussianEncoding<2> {
    let options = (&Device::default(), DType::F64);
    GaussianEncoding {
        mean: Tensor::full(shape, mean, options),
        log_sigma: Tensor::full(shape, log_sigma, options),
    }
}

/// ½(μ² + σ² − 1) − ln σ, by hand.
#[test]
fn the_divergence_is_the_closed_form() {
    for (mean, sigma, expected) in [
        (0.0, 1.0, 0.0),
        (2.0, 1.0, 2.0),
        (0.0, 2.0, 1.5 - 2.0_f64.ln()),
        (1.0, 0.5, 0.125 + 2.0_f64.ln()),
        (0.0, 1e-30, -0.5 + 30.0 * 10.0_f64.ln()),
    ] {
        let kl = encoding(mean, f64::ln(sigma), [1, 3]).kl();
        assert_eq!(kl.dims(), [1, 1]);
        assert_close("kl", &values(kl), &[3.0 * expected], 1e-13);
    }
}

/// The mean over draws of ln N(z; μ, σ²) − ln N(z; 0, 1), by the head's own sampling.
#[test]
fn the_divergence_is_what_draws_say() {
    let _turn = lock_generator();
    Device::default().seed(3);
    let draws = 200_000;
    for (mean, sigma) in [(0.8, 0.6), (-1.5, 0.1), (0.3, 1.7)] {
        let encoding = encoding(mean, f64::ln(sigma), [draws, 1]);
        let exact = values(encoding.kl())[0];
        let ratios: Vec<f64> = values(encoding.sample())
            .into_iter()
            .map(|z| 0.5 * z * z - 0.5 * ((z - mean) / sigma).powi(2) - sigma.ln())
            .collect();
        let average = ratios.iter().sum::<f64>() / draws as f64;
        let variance = ratios.iter().map(|ratio| (ratio - average).powi(2)).sum::<f64>();
        // One false alarm in 15 000.
        let four_errors = 4.0 * variance.sqrt() / draws as f64;
        assert!(four_errors < 0.05 * exact, "the test is too weak: {four_errors} of {exact}");
        assert!((average - exact).abs() < four_errors, "{average} and {exact} ± {four_errors}");
    }
}

#[test]
fn samples_have_the_mean_and_deviation_of_the_encoding() {
    let _turn = lock_generator();
    Device::default().seed(4);
    let [count, mean, sigma] = [100_000.0, -0.7, 0.3];
    let draws = values(encoding(mean, f64::ln(sigma), [count as usize, 1]).sample());
    let average = draws.iter().sum::<f64>() / count;
    let square = draws.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / count;
    // 6 standard deviations of either.
    assert!((average - mean).abs() < 6.0 * sigma / count.sqrt(), "{average}");
    assert!((square / sigma.powi(2) - 1.0).abs() < 6.0 * (2.0 / count).sqrt(), "{square}");
}

fn head(beta: f64, device: &Device) -> VariationalBottleneck {
    VariationalBottleneckConfig::new(6, 4, beta).init(device)
}

#[test]
fn noise_is_drawn_in_training_only() {
    let _turn = lock_generator();
    let [training, evaluation] = [Device::default().autodiff(), Device::default()];
    let head = head(1.0, &training);
    let latent = |head: &VariationalBottleneck, device: &Device| {
        let encoding = head.encode(Tensor::<2>::ones([5, 6], device));
        (values(head.latent(&encoding)), values(encoding.mean))
    };
    let (first, mean) = latent(&head, &training);
    let (second, _) = latent(&head, &training);
    assert!(first.iter().zip(&second).all(|(a, b)| a != b));
    assert!(first.iter().zip(&mean).all(|(a, b)| a != b));
    for (head, device) in [(head.valid(), &evaluation), (head.clone().freeze(), &training)] {
        let (latent, mean) = latent(&head, device);
        assert_eq!(latent, mean);
    }
    // Evaluation may draw, too: what an average over predictions needs.
    let encoding = head.valid().encode(Tensor::<2>::ones([5, 6], &evaluation));
    assert_ne!(values(encoding.sample()), values(encoding.sample()));
}

/// σ = softplus(−5) at first, but for the layer's own small weights: little noise.
#[test]
fn noise_is_small_at_first() {
    let device = Device::default();
    let encoding = head(1.0, &device).encode(Tensor::<2>::zeros([1, 6], &device));
    let deviation = |rho: f64| (rho - 5.0).exp().ln_1p();
    // Kaiming's bias is below 1/√6.
    let bound = 6.0_f64.sqrt().recip();
    let range = deviation(-bound)..deviation(bound);
    assert!(values(encoding.sigma()).iter().all(|sigma| range.contains(sigma)));
}

#[test]
fn every_layout_of_tokens_is_the_same_mean() {
    let device = TestDevice { device: Device::default(), dtype: DType::F32 };
    let head = head(0.3, &device.device);
    let features = device.random::<3>(1, [4, 3, 6], 2.0);
    let time_first = head.encode(features.clone());
    let batch_first = head.encode(features.clone().swap_dims(0, 1));
    let flat = head.encode(features.reshape([12, 6]));
    assert_eq!(time_first.kl().dims(), [4, 3, 1]);
    let kl = values(time_first.kl());
    assert_close("transposed", &values(batch_first.kl().swap_dims(0, 1)), &kl, 1e-6);
    assert_close("flat", &values(flat.kl()), &kl, 1e-6);
    // β times the mean over tokens of nats; a sum of 12 numbers.
    let expected = [0.3 * kl.iter().sum::<f64>() / 12.0];
    assert_close("time first", &values(head.penalty(&time_first)), &expected, 1e-6);
    assert_close("batch first", &values(head.penalty(&batch_first)), &expected, 1e-6);
    assert_close("flat", &values(head.penalty(&flat)), &expected, 1e-6);
}

#[test]
fn strength_zero_costs_nothing_and_keeps_the_noise() {
    let _turn = lock_generator();
    let device = Device::default().autodiff();
    let head = head(0.0, &device);
    let encoding = head.encode(Tensor::<2>::ones([5, 6], &device));
    assert_eq!(values(head.penalty(&encoding)), [0.0]);
    assert_ne!(values(head.latent(&encoding)), values(encoding.mean));
}

/// The mean of σ has no limit in half precision, and its logarithm none that matters.
#[test]
fn half_precision_is_only_that_of_the_layer() {
    let _turn = lock_generator();
    let device = Device::default().autodiff();
    for dtype in [DType::F16, DType::BF16] {
        let half = TestDevice { device: device.clone(), dtype };
        let mut head = head(1e-3, &device);
        head.linear.weight = head.linear.weight.map(|_| half.random(1, [6, 8], 8.0));
        head.linear.bias = head.linear.bias.map(|bias| bias.map(|_| half.random(2, [8], 1.0)));
        let features = half.random::<2>(3, [512, 6], 8.0).require_grad();
        let encoding = head.encode(features.clone());
        let latent = head.latent(&encoding);
        assert_eq!(latent.dtype(), dtype);
        assert!(values(latent).iter().all(|z| z.is_finite()));

        // Of the same μ and ρ, in double precision; the sum of all KL is far above 65504.
        let wide = GaussianEncoding {
            mean: encoding.mean.clone().cast(DType::F64),
            log_sigma: encoding.log_sigma.clone().cast(DType::F64),
        };
        let expected = values(wide.kl());
        assert!(expected.iter().sum::<f64>() > 1e5);
        assert_close("kl", &values(encoding.kl()), &expected, 1e-6);
        let penalty = head.penalty(&encoding);
        let mean = 1e-3 * expected.iter().sum::<f64>() / 512.0;
        assert_close("penalty", &values(penalty.clone()), &[mean], 1e-6);

        let gradients = penalty.backward();
        let gradient = gradient(&features, &gradients);
        assert!(gradient.iter().all(|g| g.is_finite()) && gradient.iter().any(|g| *g != 0.0));
    }
}

#[test]
fn impossible_values_are_told() {
    let message = |d_input, d_latent, beta| {
        let config = VariationalBottleneckConfig::new(d_input, d_latent, beta);
        config.validate().unwrap_err().to_string()
    };
    assert_eq!(message(0, 4, 1.0), "`d_input` must be in [1, ∞), but is 0");
    assert_eq!(message(4, 0, 1.0), "`d_latent` must be in [1, ∞), but is 0");
    assert_eq!(message(4, 4, -1.0), "`beta` must be in [0, ∞), but is -1");
    assert_eq!(VariationalBottleneckConfig::new(4, 4, 0.0).validate(), Ok(()));
}

#[test]
fn a_configuration_reads_back_as_written() {
    let config = VariationalBottleneckConfig::new(1024, 256, 1e-3);
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(json, r#"{"d_input":1024,"d_latent":256,"beta":0.001}"#);
    assert_eq!(serde_json::from_str::<VariationalBottleneckConfig>(&json).unwrap(), config);
}

#[test]
#[should_panic(expected = "needs an activation, got the shape [0, 4]")]
fn no_example_is_refused() {
    let device = Device::default();
    let head = head(1.0, &device);
    head.penalty(&GaussianEncoding {
        mean: Tensor::<2>::zeros([0, 4], &device),
        log_sigma: Tensor::zeros([0, 4], &device),
    });
}
