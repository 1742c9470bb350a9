use anp_kernels::Kernels;
use anp_kernels::sampled_weight::{MIN_SIGMA, MixtureOver, SampledWeightInputs, ScaleMixture};
use burn::tensor::Tensor;
use proptest::prelude::*;

use crate::{agree_on_cpus, agree_on_every_device, proptest_config};
use anp_testing::{TestDevice, Values, assert_gradient, gradient, values};

const PRIOR: ScaleMixture =
    ScaleMixture { pi: 0.25, log_sigma1: -1.0, log_sigma2: -3.0, over: MixtureOver::Weight };

/// Which of the two outputs has a gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Used {
    Both,
    Weights,
    Divergence,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    shape: [usize; 3],
    prior: ScaleMixture,
    used: Used,
}

fn run(case: Case, device: &TestDevice, kernels: Kernels) -> Values {
    let device = &device.autodiff();
    let Case { shape, prior, used } = case;
    let len = shape.iter().product();
    let mean = device.leaf(1, shape, 0.3);
    let rho = device.leaf(2, [len], 2.0);
    let noise = device.random(3, [len], 2.0);
    let inputs = SampledWeightInputs { mean: mean.clone(), rho: rho.clone(), noise, prior };
    let (weights, divergence) = kernels.sampled_weight(inputs);
    let of_weights = (weights.clone() * device.random(4, shape, 1.0)).sum();
    let of_divergence = divergence.clone() * 0.3;
    let loss = match used {
        Used::Both => of_weights + of_divergence,
        Used::Weights => of_weights,
        Used::Divergence => of_divergence,
    };
    let gradients = loss.backward();
    vec![
        ("weights", values(weights)),
        ("divergence", values(divergence)),
        ("mean's gradient", gradient(&mean, &gradients)),
        ("rho's gradient", gradient(&rho, &gradients)),
    ]
}

fn priors() -> impl Strategy<Value = ScaleMixture> {
    let over = prop_oneof![Just(MixtureOver::Weight), Just(MixtureOver::Row)];
    (0.1..0.9, -2.0..0.0, -2.0..0.0, over).prop_map(|(pi, log_sigma1, log_sigma2, over)| {
        ScaleMixture { pi, log_sigma1, log_sigma2, over }
    })
}

#[test]
fn agrees_with_the_reference_on_every_device() {
    for over in [MixtureOver::Weight, MixtureOver::Row] {
        for used in [Used::Both, Used::Weights, Used::Divergence] {
            let prior = ScaleMixture { over, ..PRIOR };
            agree_on_every_device(Case { shape: [2, 3, 5], prior, used }, run);
        }
    }
}

proptest! {
    #![proptest_config(proptest_config(32))]

    #[test]
    fn agrees_with_the_reference_on_any_shape(
        shape in prop::array::uniform3(1_usize..20),
        prior in priors(),
        used in prop_oneof![Just(Used::Both), Just(Used::Weights), Just(Used::Divergence)],
    ) {
        agree_on_cpus(Case { shape, prior, used }, run);
    }
}

#[cfg(feature = "flex")]
#[test]
fn gradients_match_finite_differences() {
    let device = TestDevice::cpus().next().unwrap();
    let (mean, rho) = ([0.1, -0.02, 0.3, 0.0, 0.5, -0.2], [-3.0, -1.0, 0.0, 0.5, -2.0, 1.0]);
    for over in [MixtureOver::Weight, MixtureOver::Row] {
        let prior = ScaleMixture { over, ..PRIOR };
        let loss = |device: &TestDevice, mean: Tensor<1>, rho: Tensor<1>| {
            let noise = device.tensor(vec![0.4, -1.2, 2.0, 0.1, -0.3, 0.7], [6]);
            let mean = mean.reshape([2, 3]);
            let inputs = SampledWeightInputs { mean, rho, noise, prior };
            let (weights, divergence) = Kernels::Fused.sampled_weight(inputs);
            (weights.square().sum() * 0.5 + divergence * 0.3).sum()
        };
        let training = device.autodiff();
        let [m, r] = [mean, rho].map(|it| training.tensor(it.to_vec(), [6]).require_grad());
        let gradients = loss(&training, m.clone(), r.clone()).backward();
        let number = |mean: &[f64], rho: &[f64]| {
            let [mean, rho] = [mean, rho].map(|it| device.tensor(it.to_vec(), [6]));
            values(loss(device, mean, rho))[0]
        };
        assert_gradient("mean", &mean, &gradient(&m, &gradients), |point| number(&point, &rho));
        assert_gradient("rho", &rho, &gradient(&r, &gradients), |point| number(&mean, &point));
    }
}

/// Far from zero the narrow component's density underflows, and in a long row the ratio of both
/// overflows, whichever component is first.
#[test]
fn the_prior_is_right_for_small_and_large_weights() {
    let (low, high) = (-7.0, -1.0);
    for device in TestDevice::all() {
        for ((log_sigma1, log_sigma2), kernels) in [(low, high), (high, low)]
            .into_iter()
            .flat_map(|it| Kernels::ALL.map(|kernels| (it, kernels)))
        {
            for (over, width, together) in [
                (MixtureOver::Weight, 650, 1.0),
                (MixtureOver::Row, 3, 3.0),
                (MixtureOver::Row, 650, 650.0),
            ] {
                let prior = ScaleMixture { log_sigma1, log_sigma2, over, ..PRIOR };
                for size in [0.0, 1e-3, 4e-3, 0.5, 10.0_f64] {
                    let len = 2 * width;
                    let (_, divergence) = kernels.sampled_weight(SampledWeightInputs {
                        mean: device.tensor(vec![size; len], [2, width]),
                        rho: device.tensor(vec![0.0; len], [len]),
                        noise: device.tensor(vec![0.0; len], [len]),
                        prior,
                    });
                    let log_q = -(2_f64.ln() + MIN_SIGMA).ln() * len as f64;
                    let value = log_q - values(divergence)[0];
                    let component = |share: f64, log_sigma: f64| {
                        let z = size / log_sigma.exp();
                        share.ln() - together * (log_sigma + 0.5 * z * z)
                    };
                    let first = component(PRIOR.pi, log_sigma1);
                    let second = component(1.0 - PRIOR.pi, log_sigma2);
                    let largest = first.max(second);
                    let log_sum =
                        ((first - largest).exp() + (second - largest).exp()).ln() + largest;
                    let expected = log_sum * len as f64 / together;
                    let error = (value - expected).abs() / expected.abs().max(log_q.abs());
                    assert!(error < 1e-4, "{prior:?} {size}: {value} and {expected} on {device:?}");
                }
            }
        }
    }
}

#[cfg(feature = "flex")]
#[test]
#[should_panic(expected = "sampled_weight: `noise` has the shape [5], but [6] is needed")]
fn noise_of_a_wrong_size_is_named() {
    let device = TestDevice::cpus().next().unwrap();
    anp_kernels::sampled_weight::sampled_weight(SampledWeightInputs {
        mean: device.random(1, [2, 3], 1.0),
        rho: device.random(2, [6], 1.0),
        noise: device.random(3, [5], 1.0),
        prior: PRIOR,
    });
}
