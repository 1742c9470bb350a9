use anp_core::ActivationNorm;
use anp_models::{LmMasks, LmState, RecurrentLm, Site};
use burn::module::Module;
use burn::tensor::Tensor;
use burn::train::{InferenceStep, TrainOutput, TrainStep};

use crate::batches::LmBatch;
use crate::train::metrics::StepReport;

/// A language model and the terms that its training adds to the loss.
#[derive(Module, Debug)]
pub struct LmLearner {
    /// The network.
    pub lm: RecurrentLm,
    /// The penalties, in the order of the recipe.
    #[module(skip)]
    pub penalties: Vec<SitePenalty>,
}

/// A penalty and the activation that it is put on.
#[derive(Debug, Clone)]
pub struct SitePenalty {
    /// The activation.
    pub site: Site,
    /// The penalty.
    pub norm: ActivationNorm,
}

/// What one window gave, still on the device.
#[derive(Debug, Clone)]
pub struct WindowOutput {
    /// Negative log-likelihood summed over all tokens, nats: `[1]`.
    pub nll_sum: Tensor<1>,
    /// Tokens predicted.
    pub tokens: usize,
    /// Each penalty, as it was added to the loss: `[1]`; empty in evaluation.
    pub penalties: Vec<Tensor<1>>,
    /// State to carry on, cut from the graph.
    pub state: LmState,
}

impl LmLearner {
    /// One window of truncated back-propagation with the given dropout masks.
    ///
    /// ```text
    /// loss = Σ_t mean_b nll[t, b] + Σ penalties
    /// ```
    ///
    /// The sum over the steps is what the learning rate 1, the clip at 5 and η of the paper refer to.
    pub fn step_with_masks(&self, batch: LmBatch, masks: &LmMasks) -> TrainOutput<StepReport> {
        let tokens = batch.window.num_tokens();
        let [_, batch_size] = batch.window.inputs.dims();
        let state = batch.state.unwrap_or_else(|| self.lm.zero_state(batch_size));
        let output = self.lm.forward_with_masks(batch.window.inputs, state, masks);
        let nll_sum = self.lm.nll(output.dropped.clone(), batch.window.targets).sum();
        let penalties: Vec<_> = self
            .penalties
            .iter()
            .map(|penalty| penalty.norm.forward(self.lm.activation(&output, penalty.site)))
            .collect();

        // Not a division: the gradient of Burn's has the reciprocal in single precision, in any dtype.
        let mean_over_batch = nll_sum.clone() * (1.0 / batch_size as f64);
        let loss = penalties.iter().fold(mean_over_batch, |loss, penalty| loss + penalty.clone());
        let gradients = loss.backward();
        let item = WindowOutput {
            nll_sum: nll_sum.inner(),
            tokens,
            penalties: penalties.into_iter().map(Tensor::inner).collect(),
            state: output.state.detach(),
        };
        TrainOutput::new(self, gradients, StepReport::Window(Box::new(item)))
    }
}

impl TrainStep for LmLearner {
    type Input = LmBatch;
    type Output = StepReport;

    fn step(&self, batch: LmBatch) -> TrainOutput<StepReport> {
        let masks = self.lm.sample_masks(batch.window.inputs.dims());
        self.step_with_masks(batch, &masks)
    }
}

impl InferenceStep for LmLearner {
    type Input = LmBatch;
    type Output = StepReport;

    fn step(&self, batch: LmBatch) -> StepReport {
        let tokens = batch.window.num_tokens();
        let [_, batch_size] = batch.window.inputs.dims();
        let state = batch.state.unwrap_or_else(|| self.lm.zero_state(batch_size));
        let output = self.lm.forward(batch.window.inputs, state);
        StepReport::Window(Box::new(WindowOutput {
            nll_sum: self.lm.nll(output.dropped, batch.window.targets).sum().inner(),
            tokens,
            penalties: Vec::new(),
            state: output.state.detach(),
        }))
    }
}
