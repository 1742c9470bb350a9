use anp_core::{ActivationNorm, Norm};
use anp_kernels::sgd::{ClippedSgd, RowGradient};
use anp_models::{Kernels, LmMasks, LmOutput, LmState, RecurrentLm, Site};
use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::Tensor;
use burn::train::{InferenceStep, TrainOutput, TrainStep};

use crate::batches::LmBatch;
use crate::train::clip::clip_by_global_norm;
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

impl SitePenalty {
    /// The penalty on one window. `logits_square` is the squared norm of the logits, if that is at hand.
    fn forward(
        &self,
        lm: &RecurrentLm,
        output: &LmOutput,
        logits_square: Option<&Tensor<1>>,
    ) -> Tensor<1> {
        let Self { site, norm } = self;
        let fused = lm.kernels() == Kernels::Fused && norm.norm() == Norm::L2sq && norm.eta() > 0.0;
        if !fused {
            return norm.forward(lm.activation(output, *site));
        }
        let ([seq_length, batch_size, width], square) = match (site, logits_square) {
            (Site::Logits, Some(square)) => {
                let [seq_length, batch_size, _] = output.dropped.dims();
                ([seq_length, batch_size, lm.decoder_bias.dims()[0]], square.clone())
            }
            _ => {
                let activation = lm.activation(output, *site);
                (activation.dims(), lm.kernels().square_norm(activation))
            }
        };
        let weight = norm.reduction().weight(Norm::L2sq, seq_length * batch_size, width);
        square * (norm.eta() * weight)
    }
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
    /// Gradient of the embedding, where it is not among the others.
    pub rows: Option<RowGradient>,
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
        let mut embedded = self.lm.embed(batch.window.inputs.clone());
        let sparse = self.lm.kernels() == Kernels::Fused;
        if sparse {
            // The gradient of a lookup is zero in all rows but those of the window: it stops before it becomes dense.
            embedded = embedded.detach().require_grad();
        }
        let output = self.lm.forward_embedded(embedded.clone(), state, masks);
        let on_logits = self.penalties.iter().any(|penalty| penalty.site == Site::Logits);
        let (nll, logits_square) = if on_logits {
            let terms = self.lm.logit_terms(output.dropped.clone(), batch.window.targets);
            (terms.nll, Some(terms.square.sum()))
        } else {
            (self.lm.nll(output.dropped.clone(), batch.window.targets), None)
        };
        let nll_sum = nll.sum();
        let penalties: Vec<_> = self
            .penalties
            .iter()
            .map(|penalty| penalty.forward(&self.lm, &output, logits_square.as_ref()))
            .collect();

        // Not a division: the gradient of Burn's has the reciprocal in single precision, in any dtype.
        let mean_over_batch = nll_sum.clone() * (1.0 / batch_size as f64);
        let loss = penalties.iter().fold(mean_over_batch, |loss, penalty| loss + penalty.clone());
        let mut gradients = loss.backward();
        let rows = embedded.grad_remove(&mut gradients).filter(|_| sparse).map(|gradient| {
            let [seq_length, batch_size, width] = gradient.dims();
            RowGradient {
                id: self.lm.embedding.id,
                rows: batch.window.inputs.inner().reshape([seq_length * batch_size]),
                values: gradient.reshape([seq_length * batch_size, width]),
            }
        });
        let item = WindowOutput {
            nll_sum: nll_sum.inner(),
            tokens,
            penalties: penalties.into_iter().map(Tensor::inner).collect(),
            state: output.state.detach(),
            rows,
        };
        TrainOutput::new(self, gradients, StepReport::Window(Box::new(item)))
    }
}

impl LmLearner {
    /// One step of plain stochastic gradient descent after one clip over all gradients; also their norm before it, `[1]`.
    #[must_use]
    pub fn update(
        self,
        optimizer: &mut ModuleOptimizer,
        learning_rate: f64,
        max_norm: f64,
        gradients: GradientsParams,
        rows: Option<RowGradient>,
    ) -> (Self, Tensor<1>) {
        if self.lm.kernels() == Kernels::Fused {
            let mut sgd = ClippedSgd { max_norm: Some(max_norm), ..ClippedSgd::default() };
            return sgd.step(learning_rate, self, gradients, rows.into_iter().collect());
        }
        let (gradients, norm) = clip_by_global_norm(&self, gradients, max_norm);
        (self.optimize(optimizer, learning_rate.into(), gradients), norm)
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
            rows: None,
        }))
    }
}
