//! Training a critic, and estimating with it.

use burn::config::Config;
use burn::tensor::{Device, Distribution, Int, Tensor};

use super::critic::Critic;
use super::critic_bound::CriticBound;
use super::estimate::Estimate;
use crate::error::{HyperParamError, validate_range, validate_size};

/// Configuration of [`NeuralEstimator`].
#[derive(Config, Debug, PartialEq)]
pub struct NeuralEstimatorConfig {
    /// What to make of the scores.
    pub bound: CriticBound,
    /// Samples N of a batch, in training and in evaluation: InfoNCE stays below ln N.
    #[config(default = 64)]
    pub batch_size: usize,
    /// Training steps.
    #[config(default = 1000)]
    pub num_steps: usize,
}

impl NeuralEstimatorConfig {
    /// Check the values, as a recipe does before any data is read.
    ///
    /// # Errors
    ///
    /// [`HyperParamError::OutOfRange`] if `batch_size` is below 2 or `num_steps` is 0, and as
    /// [`CriticBound::validate`].
    pub fn validate(&self) -> Result<(), HyperParamError> {
        self.bound.validate()?;
        let batch_size = self.batch_size as f64;
        validate_range("batch_size", batch_size, "[2, ∞)", self.batch_size >= 2)?;
        validate_size("num_steps", self.num_steps)
    }

    /// Build the estimator.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self) -> NeuralEstimator {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        NeuralEstimator { config: self.clone() }
    }
}

/// Mutual information of samples by a trained critic.
///
/// Train it on one part of the samples and estimate with the others. On its own training samples a
/// critic finds information that is not there.
///
/// The optimizer is the caller's, so that a model that only uses this crate's penalties need not
/// compile Burn's optimizers:
///
/// ```
/// use anp_core::estimators::{CriticBound, CriticConfig, NeuralEstimatorConfig};
/// use burn::optim::{AdamConfig, GradientsParams};
/// use burn::prelude::*;
/// use burn::tensor::Distribution;
///
/// let device = Device::default().autodiff();
/// let x = Tensor::<2>::random([96, 3], Distribution::Normal(0.0, 1.0), &device);
/// let t = x.clone() + x.random_like(Distribution::Normal(0.0, 0.1));
/// let held_out = [x.clone().narrow(0, 64, 32), t.clone().narrow(0, 64, 32)];
///
/// let estimator = NeuralEstimatorConfig::new(CriticBound::InfoNce)
///     .with_batch_size(16)
///     .with_num_steps(20)
///     .init();
/// let critic = CriticConfig::new(3, 3).with_d_hidden(32).init_separable(&device);
/// let mut optimizer = AdamConfig::new().init();
/// let critic = estimator.train(critic, x.narrow(0, 0, 64), t.narrow(0, 0, 64), |critic, loss| {
///     let gradients = GradientsParams::from_grads(loss.backward(), &critic);
///     optimizer.step(1e-3, critic, gradients)
/// });
/// let [x, t] = held_out;
/// let estimate = estimator.estimate(&critic, x, t);
/// assert!(estimate.nats <= 16_f64.ln());
/// ```
#[derive(Debug, Clone)]
pub struct NeuralEstimator {
    config: NeuralEstimatorConfig,
}

impl NeuralEstimator {
    /// Train a critic on paired samples.
    ///
    /// Batches are drawn without replacement, in a new order for each pass, by the generator of
    /// the samples' device: [`Device::seed`] repeats them. `step` updates the critic for a loss,
    /// see the example.
    ///
    /// # Shapes
    ///
    /// - `x`: `[num_examples, d_x]`
    /// - `t`: `[num_examples, d_t]`
    ///
    /// # Panics
    ///
    /// If there are fewer examples than `batch_size`, or different numbers of them.
    pub fn train<C: Critic>(
        &self,
        mut critic: C,
        x: Tensor<2>,
        t: Tensor<2>,
        mut step: impl FnMut(C, Tensor<1>) -> C,
    ) -> C {
        let num_batches = self.num_batches(&x, &t);
        let batch_size = self.config.batch_size;
        let mut order = shuffled(x.dims()[0], &x.device());
        for index in 0..self.config.num_steps {
            let batch = index % num_batches;
            if index > 0 && batch == 0 {
                order = shuffled(x.dims()[0], &x.device());
            }
            let rows = order.clone().narrow(0, batch * batch_size, batch_size);
            let [x, t] = [&x, &t].map(|all| all.clone().select(0, rows.clone()));
            let loss = self.config.bound.loss(critic.forward(x, t));
            critic = step(critic, loss);
        }
        critic
    }

    /// Estimate I(X; T) with a trained critic, in batches of rows as they come.
    ///
    /// Rows that do not fill a batch are left out. The standard error is over batches, see
    /// [`CriticBound::estimate`]; it does not cover how the critic was trained.
    ///
    /// # Shapes
    ///
    /// - `x`: `[num_examples, d_x]`
    /// - `t`: `[num_examples, d_t]`
    ///
    /// # Panics
    ///
    /// If there are fewer examples than `batch_size`, or different numbers of them.
    pub fn estimate<C: Critic>(&self, critic: &C, x: Tensor<2>, t: Tensor<2>) -> Estimate {
        let num_batches = self.num_batches(&x, &t);
        let critic = critic.valid();
        let [x, t] = [x.inner(), t.inner()];
        let batch_size = self.config.batch_size;
        let batch =
            |samples: &Tensor<2>, index| samples.clone().narrow(0, index * batch_size, batch_size);
        let scores = (0..num_batches).map(|i| critic.forward(batch(&x, i), batch(&t, i)));
        self.config.bound.estimate(scores)
    }

    fn num_batches(&self, x: &Tensor<2>, t: &Tensor<2>) -> usize {
        let [num_examples, num_t] = [x.dims()[0], t.dims()[0]];
        let batch_size = self.config.batch_size;
        assert_eq!(num_examples, num_t, "`x` and `t` must be pairs");
        assert!(
            num_examples >= batch_size,
            "{num_examples} examples do not fill a batch of {batch_size}"
        );
        num_examples / batch_size
    }
}

/// The numbers below `count` in random order.
fn shuffled(count: usize, device: &Device) -> Tensor<1, Int> {
    Tensor::<1>::random([count], Distribution::Default, device).argsort(0)
}
