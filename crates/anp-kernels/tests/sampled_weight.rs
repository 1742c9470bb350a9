//! Weights drawn from their posterior, fused and as a composition.

mod support;

use anp_kernels::Kernels;
use anp_kernels::sampled_weight::{MIN_SIGMA, MixtureOver, SampledWeightInputs, ScaleMixture};
use burn::tensor::Tensor;
use proptest::prelude::*;
use support::{Place, Values, assert_close, assert_gradient, values};

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

fn run(case: Case, place: &Place, kernels: Kernels) -> Values {
    let place = &place.autodiff();
    let Case { shape, prior, used } = case;
    let len = shape.iter().product();
    let mean = place.leaf(1, shape, 0.3);
    let rho = place.leaf(2, [len], 2.0);
    let noise = place.random(3, [len], 2.0);
    let inputs = SampledWeightInputs { mean: mean.clone(), rho: rho.clone(), noise, prior };
    let (weights, divergence) = kernels.sampled_weight(inputs);
    let of_weights = (weights.clone() * place.random(4, shape, 1.0)).sum();
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
        ("mean's gradient", values(mean.grad(&gradients).unwrap())),
        ("rho's gradient", values(rho.grad(&gradients).unwrap())),
    ]
}

#[track_caller]
fn agree(case: Case, place: &Place) {
    let [fused, plain] = [Kernels::Fused, Kernels::Plain].map(|kernels| run(case, place, kernels));
    assert_close(&format!("{case:?} on {place:?}"), &fused, &plain, place.tolerance());
}

fn priors() -> impl Strategy<Value = ScaleMixture> {
    let over = prop_oneof![Just(MixtureOver::Weight), Just(MixtureOver::Row)];
    (0.1..0.9, -2.0..0.0, -2.0..0.0, over).prop_map(|(pi, log_sigma1, log_sigma2, over)| {
        ScaleMixture { pi, log_sigma1, log_sigma2, over }
    })
}

#[test]
fn agrees_with_its_composition_on_every_device() {
    for place in Place::all() {
        for over in [MixtureOver::Weight, MixtureOver::Row] {
            for used in [Used::Both, Used::Weights, Used::Divergence] {
                agree(
                    Case { shape: [2, 3, 5], prior: ScaleMixture { over, ..PRIOR }, used },
                    place,
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_its_composition_on_any_shape(
        shape in prop::array::uniform3(1_usize..20),
        prior in priors(),
        used in prop_oneof![Just(Used::Both), Just(Used::Weights), Just(Used::Divergence)],
    ) {
        for place in Place::host() {
            agree(Case { shape, prior, used }, place);
        }
    }
}

#[cfg(feature = "flex")]
#[test]
fn gradients_are_those_of_differences() {
    let place = Place::host().next().unwrap();
    let noise = [0.4, -1.2, 2.0, 0.1, -0.3, 0.7];
    for over in [MixtureOver::Weight, MixtureOver::Row] {
        let prior = ScaleMixture { over, ..PRIOR };
        let loss = |mean: Tensor<2>, rho: Tensor<1>| {
            let noise = place.tensor(noise.to_vec(), [6]);
            let (weights, divergence) =
                Kernels::Fused.sampled_weight(SampledWeightInputs { mean, rho, noise, prior });
            (weights.square().sum() * 0.5 + divergence * 0.3).sum()
        };
        let (mean, rho) = ([0.1, -0.02, 0.3, 0.0, 0.5, -0.2], [-3.0, -1.0, 0.0, 0.5, -2.0, 1.0]);
        let training = place.autodiff();
        let [m, r] = [mean, rho].map(|values| training.tensor(values.to_vec(), [6]).require_grad());
        let gradients = {
            let noise = training.tensor(noise.to_vec(), [6]);
            let inputs = SampledWeightInputs {
                mean: m.clone().reshape([2, 3]),
                rho: r.clone(),
                noise,
                prior,
            };
            let (weights, divergence) = Kernels::Fused.sampled_weight(inputs);
            (weights.square().sum() * 0.5 + divergence * 0.3).sum().backward()
        };
        let gradient = |leaf: &Tensor<1>| values(leaf.grad(&gradients).unwrap());
        let number = |loss: Tensor<1>| values(loss)[0];
        assert_gradient("mean", &mean, &gradient(&m), |point| {
            number(loss(place.tensor(point, [2, 3]), place.tensor(rho.to_vec(), [6])))
        });
        assert_gradient("rho", &rho, &gradient(&r), |point| {
            number(loss(place.tensor(mean.to_vec(), [2, 3]), place.tensor(point, [6])))
        });
    }
}

/// Far from zero the narrow component's density underflows, in a long row the ratio of both overflows; whichever is first.
#[test]
fn the_prior_is_right_for_small_and_large_weights() {
    let (low, high) = (-7.0, -1.0);
    for place in Place::all() {
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
                        mean: place.tensor(vec![size; len], [2, width]),
                        rho: place.tensor(vec![0.0; len], [len]),
                        noise: place.tensor(vec![0.0; len], [len]),
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
                    assert!(error < 1e-4, "{prior:?} {size}: {value} and {expected} on {place:?}");
                }
            }
        }
    }
}

#[cfg(feature = "flex")]
#[test]
#[should_panic(expected = "sampled_weight: `noise` has the shape [5], but [6] is needed")]
fn noise_of_another_size_is_named() {
    let place = Place::host().next().unwrap();
    anp_kernels::sampled_weight::sampled_weight(SampledWeightInputs {
        mean: place.random(1, [2, 3], 1.0),
        rho: place.random(2, [6], 1.0),
        noise: place.random(3, [5], 1.0),
        prior: PRIOR,
    });
}
