//! Estimators where the information is known, where they hold and where they fail.
//!
//! Pairs of d-dimensional normal variables, correlated coordinate by coordinate, have
//! I = −(d/2) ln(1 − ρ²). Song & Ermon (2020) ask of an estimator that independent variables have
//! none, that copies and functions of a variable add none, and that independent pairs add up.

use std::f64::consts::{LN_2, PI};

use anp_core::estimators::{
    BinningConfig, Bound, Critic, CriticBound, CriticConfig, Estimate, GaussianMixture, KsgConfig,
    NeuralEstimatorConfig,
};
use anp_testing::{lock_generator, noise};
use burn::module::Module;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Tensor, TensorData};

/// ρ of 20-dimensional normal pairs with I = 2, 4, 6, 8 and 10 nats.
const TWENTY_DIMENSIONS: [(f64, f64); 5] =
    [(2.0, 0.4258), (4.0, 0.5742), (6.0, 0.6717), (8.0, 0.7421), (10.0, 0.7951)];

/// Task `1v1-normal-0.75` of the BMI benchmark.
const ONE_DIMENSION: (f64, f64) = (0.4133, 0.75);

fn normal_information(dims: usize, rho: f64) -> f64 {
    -0.5 * dims as f64 * (1.0 - rho * rho).ln()
}

/// Standard normal numbers (Box & Muller).
fn normals(seed: u64, count: usize) -> Vec<f64> {
    let mut uniform = noise(seed);
    let mut draw = || 0.5 * (uniform(1)[0] + 1.0);
    (0..count).map(|_| (-2.0 * (1.0 - draw()).ln()).sqrt() * (2.0 * PI * draw()).cos()).collect()
}

/// Samples of a pair, row by row.
#[derive(Clone)]
struct Pair {
    x: Vec<f64>,
    t: Vec<f64>,
    count: usize,
}

impl Pair {
    /// Normal, with the correlation `rho` in every coordinate.
    fn normal(seed: u64, count: usize, dims: usize, rho: f64) -> Self {
        let x = normals(seed, count * dims);
        let other = normals(seed + 1_000_000, count * dims);
        let scale = (1.0 - rho * rho).sqrt();
        let t = x.iter().zip(other).map(|(x, other)| rho * x + scale * other).collect();
        Self { x, t, count }
    }

    fn matrix(&self, data: &[f64], device: &Device) -> Tensor<2> {
        let shape = [self.count, data.len() / self.count];
        Tensor::from_data(TensorData::new(data.to_vec(), shape), device)
    }

    fn on(&self, device: &Device) -> [Tensor<2>; 2] {
        [self.matrix(&self.x, device), self.matrix(&self.t, device)]
    }

    fn tensors(&self) -> [Tensor<2>; 2] {
        self.on(&Device::default())
    }

    /// ln p(t|x)/p(t) of all pairs: what an optimal critic scores.
    fn optimal_scores(&self, rho: f64) -> Tensor<2> {
        let dims = self.x.len() / self.count;
        let rest = 1.0 - rho * rho;
        let rows =
            |data: &'_ [f64]| -> Vec<Vec<f64>> { data.chunks(dims).map(<[f64]>::to_vec).collect() };
        let [xs, ts] = [rows(&self.x), rows(&self.t)];
        let mut scores = Vec::with_capacity(self.count * self.count);
        for x in &xs {
            for t in &ts {
                let exponent = x
                    .iter()
                    .zip(t)
                    .map(|(x, t)| (rho * rho * (x * x + t * t) - 2.0 * rho * x * t) / (2.0 * rest));
                scores.push(normal_information(dims, rho) - exponent.sum::<f64>());
            }
        }
        let data = TensorData::new(scores, [self.count, self.count]);
        Tensor::from_data(data, &Device::default())
    }
}

/// One batch of optimal scores each.
fn optimal_batches(seed: u64, batches: u64, size: usize, dims: usize, rho: f64) -> Vec<Tensor<2>> {
    let batch = |index| Pair::normal(seed + index, size, dims, rho).optimal_scores(rho);
    (0..batches).map(batch).collect()
}

fn show(what: &str, estimate: &Estimate) {
    eprintln!("{what}: {:.4} ± {:.4}", estimate.nats, estimate.standard_error.unwrap_or(f64::NAN));
}

#[test]
fn probe_critic_bounds() {
    for (information, rho) in TWENTY_DIMENSIONS {
        let scores = optimal_batches(10, 200, 64, 20, rho);
        for bound in [
            CriticBound::InfoNce,
            CriticBound::DonskerVaradhan,
            CriticBound::Smile { clip: 1.0 },
            CriticBound::Smile { clip: 5.0 },
        ] {
            show(&format!("{information} {bound:?}"), &bound.estimate(scores.clone()));
        }
        let shifted = scores.iter().map(|s| s.clone().add_scalar(1.0));
        show(&format!("{information} NWJ"), &CriticBound::Nwj.estimate(shifted));
        let mut v: Vec<f64> = scores
            .iter()
            .map(|s| CriticBound::Nwj.value(s.clone().add_scalar(1.0)).into_scalar::<f64>())
            .collect();
        v.sort_by(f64::total_cmp);
        eprintln!("  NWJ quartiles {} {} {} {} {}", v[0], v[50], v[100], v[150], v[199]);
    }
}

#[test]
fn probe_ksg() {
    let (i, rho) = ONE_DIMENSION;
    for seed in 0..5 {
        let [x, t] = Pair::normal(100 + seed, 2000, 1, rho).tensors();
        let now = std::time::Instant::now();
        show(&format!("ksg 1d {i}"), &KsgConfig::new().init().estimate(x, t));
        eprintln!("{:?}", now.elapsed());
    }
    for (information, rho) in TWENTY_DIMENSIONS {
        let [x, t] = Pair::normal(300, 2000, 20, rho).tensors();
        let now = std::time::Instant::now();
        show(&format!("ksg 20d {information}"), &KsgConfig::new().init().estimate(x, t));
        eprintln!("{:?}", now.elapsed());
    }
}

#[test]
fn probe_pairwise() {
    for (information, rho) in TWENTY_DIMENSIONS {
        let [x, _] = Pair::normal(300, 1000, 20, rho).tensors();
        let now = std::time::Instant::now();
        let b = GaussianMixture::isotropic(x, (1.0 - rho * rho).sqrt() / rho)
            .unwrap()
            .input_information();
        show(&format!("pairwise 20d {information} lower"), &b.lower);
        show(&format!("pairwise 20d {information} upper"), &b.upper);
        eprintln!("{:?}", now.elapsed());
    }
    for d in [1, 2, 5] {
        let [x, _] = Pair::normal(300, 1000, d, 0.5).tensors();
        let b = GaussianMixture::isotropic(x, 1.0).unwrap().input_information();
        show(&format!("pairwise {d} {} lower", 0.5 * d as f64 * LN_2), &b.lower);
        show(&format!("pairwise {d} upper"), &b.upper);
    }
}

fn trained<C: Critic>(
    bound: CriticBound,
    critic: C,
    steps: usize,
    rate: f64,
    training: &Pair,
) -> C {
    let estimator = NeuralEstimatorConfig::new(bound).with_num_steps(steps).init();
    let device = Device::default().autodiff();
    let [x, t] = training.on(&device);
    let mut optimizer = AdamConfig::new().init();
    estimator.train(critic, x, t, |critic, loss| {
        let gradients = GradientsParams::from_grads(loss.backward(), &critic);
        optimizer.step(rate, critic, gradients)
    })
}

#[test]
fn probe_training() {
    let _turn = lock_generator();
    let device = Device::default().autodiff();
    device.seed(1);
    for (information, rho) in [TWENTY_DIMENSIONS[0], TWENTY_DIMENSIONS[4]] {
        let training = Pair::normal(1, 20_000, 20, rho);
        let held_out = Pair::normal(2, 64 * 40, 20, rho);
        for bound in [
            CriticBound::InfoNce,
            CriticBound::Nwj,
            CriticBound::DonskerVaradhan,
            CriticBound::Smile { clip: 5.0 },
        ] {
            let now = std::time::Instant::now();
            let critic = CriticConfig::new(20, 20).init_separable(&device);
            let critic = trained(bound, critic, 800, 1e-3, &training);
            let [x, t] = held_out.tensors();
            let estimator = NeuralEstimatorConfig::new(bound).init();
            show(&format!("{information} {bound:?}"), &estimator.estimate(&critic, x, t));
            eprintln!("{:?}", now.elapsed());
        }
    }
    let (information, rho) = ONE_DIMENSION;
    let training = Pair::normal(1, 20_000, 1, rho);
    let held_out = Pair::normal(2, 64 * 80, 1, rho);
    for bound in [
        CriticBound::InfoNce,
        CriticBound::Nwj,
        CriticBound::DonskerVaradhan,
        CriticBound::Smile { clip: 5.0 },
    ] {
        let now = std::time::Instant::now();
        let critic = CriticConfig::new(1, 1).with_d_hidden(32).init_concat(&device);
        let critic = trained(bound, critic, 500, 3e-3, &training);
        let [x, t] = held_out.tensors();
        let estimator = NeuralEstimatorConfig::new(bound).init();
        show(&format!("{information} {bound:?}"), &estimator.estimate(&critic, x, t));
        eprintln!("{:?}", now.elapsed());
    }
}
