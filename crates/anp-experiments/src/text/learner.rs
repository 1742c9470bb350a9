use anp_core::{ActivationNorm, LossReduction, Norm, TemporalActivationNormConfig};
use anp_kernels::sgd::{ClippedSgd, RowGradient, WeightDecay};
use anp_models::{
    Kernels, LmMasks, LmOutput, LmState, Pointing, RecurrentLayer, RecurrentLm, Site,
    WeightPosterior,
};
use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::module::embedding;
use burn::tensor::{Gradients, IndexingUpdateOp, Int, Tensor};
use burn::train::{InferenceStep, TrainOutput, TrainStep};

use super::batches::LmBatch;
use super::clip::clip_by_global_norm;
use super::recipe::{InformationPenaltyConfig, InformationReduction};
use super::regularizer::LmRegularizer;
use crate::engine::{Report, StepOutput, Summary};
use crate::recipe::WeightPenaltyConfig;

/// A language model and its training objective.
#[derive(Module, Debug)]
pub struct LmLearner {
    /// The network.
    pub lm: RecurrentLm,
    /// The other terms of the loss, and the update.
    #[module(skip)]
    pub objective: Objective,
}

/// The terms of the loss besides the likelihood, and the update.
#[derive(Debug, Clone)]
pub struct Objective {
    /// Penalties on activations, in the order of the recipe.
    pub penalties: Vec<SitePenalty>,
    /// Penalty on the weights of the recurrent layers.
    pub weight_penalty: Option<WeightPenaltyConfig>,
    /// Penalty on the information that the noisy activation has about the input.
    pub information: Option<InformationPenaltyConfig>,
    /// The penalty's rivals, in the order of the recipe.
    pub regularizers: Vec<LmRegularizer>,
    /// Weight of the pointer's supervision, if the network has a pointer.
    pub supervision: f64,
    /// Windows per epoch, over which the divergence of the weights from their prior is spread, if
    /// they have one.
    pub windows_per_epoch: usize,
    /// How the losses of a window's steps are reduced to one number.
    pub loss: LossReduction,
    /// Decay of all parameters.
    pub weight_decay: Option<WeightDecay>,
}

impl Default for Objective {
    /// Only the likelihood, summed over the steps.
    fn default() -> Self {
        Self {
            penalties: Vec::new(),
            weight_penalty: None,
            information: None,
            regularizers: Vec::new(),
            supervision: 0.0,
            windows_per_epoch: 1,
            loss: LossReduction::SumOverTime,
            weight_decay: None,
        }
    }
}

/// A penalty and its site.
#[derive(Debug, Clone)]
pub struct SitePenalty {
    /// The activation.
    pub site: Site,
    /// The penalty.
    pub norm: ActivationNorm,
    /// Whether it applies to the difference between successive steps.
    pub temporal: bool,
}

impl SitePenalty {
    /// The penalty on one window. `logits_square` is the squared norm of the logits, if known.
    fn forward(
        &self,
        lm: &RecurrentLm,
        output: &LmOutput,
        logits_square: Option<&Tensor<1>>,
    ) -> Tensor<1> {
        let Self { site, norm, temporal } = self;
        if *temporal {
            let penalty = TemporalActivationNormConfig::new(norm.eta())
                .with_norm(norm.norm())
                .with_reduction(norm.reduction())
                .with_batch_first(false)
                .init();
            return penalty.forward(lm.activation(output, *site));
        }
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

/// The sum of squares of the weights of the recurrent layers.
fn weight_square(lm: &RecurrentLm) -> Tensor<1> {
    let kernels = lm.kernels();
    let squares = lm.layers.iter().map(RecurrentLayer::weights).flat_map(|(input, recurrent)| {
        [Some(kernels.square_norm(input)), recurrent.map(|it| kernels.square_norm(it))]
    });
    let square = squares.flatten().reduce(|sum, square| sum + square);
    square.expect("the model has a layer")
}

impl InformationPenaltyConfig {
    fn forward(&self, lm: &RecurrentLm, output: &LmOutput) -> Tensor<1> {
        let stochastic = lm.stochastic.as_ref().expect("the network has a noisy output");
        let mean = output.mean.clone().expect("training draws noise");
        let [seq_length, batch_size, width] = mean.dims();
        let count = match self.reduction {
            InformationReduction::Sum => batch_size,
            InformationReduction::MeanElements => seq_length * batch_size * width,
        };
        stochastic.divergence(mean) * (self.beta / count as f64)
    }
}

/// The output of one window, still on the device.
#[derive(Debug, Clone)]
pub struct WindowOutput {
    /// Negative log-likelihood summed over all tokens, nats: `[1]`.
    pub nll_sum: Tensor<1>,
    /// Number of predicted tokens.
    pub tokens: usize,
    /// Each penalty, as added to the loss: `[1]`; empty in evaluation.
    pub penalties: Vec<Tensor<1>>,
    /// Final state, detached from the graph.
    pub state: LmState,
    /// Gradient of the embedding, if it is not among the others.
    pub rows: Option<RowGradient>,
}

impl StepOutput for WindowOutput {
    fn summary(&self) -> Summary {
        let scalar = |value: &Tensor<1>| value.clone().into_scalar::<f64>();
        Summary {
            loss: scalar(&self.nll_sum) / self.tokens as f64,
            penalty: self.penalties.iter().map(scalar).sum(),
            items: self.tokens,
            ..Summary::default()
        }
    }
}

impl LmLearner {
    /// One window of truncated back-propagation with the given dropout masks and noise on the
    /// weights. Without noise the weights are their means.
    ///
    /// ```text
    /// loss = Σ_t mean_b nll[t, b] + Σ penalties      or, with the mean over time, mean_t for Σ_t
    /// ```
    ///
    /// The sum over the steps is what the learning rate 1, the clip at 5 and η of the paper refer
    /// to. If weights are drawn, the last penalty is their divergence from the prior, `ln q(w) − ln
    /// p(w)`, divided by the batch size and the windows of an epoch (and the steps, with the mean
    /// over time): one window's share in the bound on the text's likelihood.
    ///
    /// # Panics
    ///
    /// As [`RecurrentLm::draw_weights`], if there is noise.
    pub fn step_with_masks(
        &self,
        batch: LmBatch,
        masks: &LmMasks,
        noise: Option<Vec<Tensor<1>>>,
    ) -> TrainOutput<Report<WindowOutput>> {
        let tokens = batch.window.num_tokens();
        let inputs = batch.window.inputs.clone();
        let Terms { likelihood, penalties, nll_sum, embedded, state } =
            self.terms(batch, masks, noise);
        let loss = penalties.iter().fold(likelihood, |loss, penalty| loss + penalty.clone());
        let mut gradients = loss.backward();
        let rows = self.row_gradient(embedded, inputs, &mut gradients);
        let item = WindowOutput {
            nll_sum: nll_sum.inner(),
            tokens,
            penalties: penalties.into_iter().map(Tensor::inner).collect(),
            state,
            rows,
        };
        TrainOutput::new(self, gradients, Report::step(item))
    }

    /// Gradient of one term of the loss of [`step_with_masks`](Self::step_with_masks): the data's,
    /// or that of a penalty by its index. Also returns the state after the window.
    pub(super) fn gradient_of(
        &self,
        batch: LmBatch,
        masks: &LmMasks,
        noise: Option<Vec<Tensor<1>>>,
        penalty: Option<usize>,
    ) -> (GradientsParams, LmState) {
        let inputs = batch.window.inputs.clone();
        let Terms { likelihood, mut penalties, embedded, state, .. } =
            self.terms(batch, masks, noise);
        let term = penalty.map_or(likelihood, |index| penalties.swap_remove(index));
        let mut gradients = term.backward();
        let rows = self.row_gradient(embedded, inputs, &mut gradients);
        let mut gradients = GradientsParams::from_grads(gradients, self);
        if let Some(RowGradient { id, rows, values }) = rows {
            let dense = gradients.remove::<2>(id);
            let dense = dense.unwrap_or_else(|| self.lm.embedding.val().inner().zeros_like());
            gradients.register(id, dense.select_assign(0, rows, values, IndexingUpdateOp::Add));
        }
        (gradients, state)
    }

    /// The terms of the loss, as parts of the graph.
    fn terms(&self, batch: LmBatch, masks: &LmMasks, noise: Option<Vec<Tensor<1>>>) -> Terms {
        let [seq_length, batch_size] = batch.window.inputs.dims();
        let Objective {
            penalties,
            weight_penalty,
            information,
            regularizers,
            supervision,
            windows_per_epoch,
            loss,
            weight_decay: _,
        } = &self.objective;
        let drawn = noise.map(|noise| self.lm.draw_weights(noise));
        let lm = drawn.as_ref().map_or(&self.lm, |drawn| &drawn.lm);
        let state = batch.state.unwrap_or_else(|| lm.zero_state(batch_size));
        // A drawn embedding has a prior, whose gradient is dense.
        let is_sparse = lm.kernels() == Kernels::Fused && drawn.is_none();
        let embedded = if is_sparse {
            // The gradient of a lookup is zero except in the window's rows, so the graph starts
            // after the lookup and the gradient never becomes dense. A graph with the lookup would
            // also hold the embedding, and its update would then copy it.
            let inputs = batch.window.inputs.clone().inner();
            Tensor::from_inner(embedding(lm.embedding.val().inner(), inputs)).require_grad()
        } else {
            lm.embed(batch.window.inputs.clone())
        };
        let output =
            lm.forward_embedded(embedded.clone(), batch.window.inputs.clone(), state, masks);
        let on_logits = penalties.iter().any(|penalty| penalty.site == Site::Logits);
        let targets = batch.window.targets;
        let needs_terms = on_logits || regularizers.iter().any(LmRegularizer::needs_logit_terms);
        let terms = needs_terms.then(|| lm.logit_terms(output.dropped.clone(), targets.clone()));
        let nll = match &terms {
            Some(terms) => terms.nll.clone(),
            None => lm.nll(output.dropped.clone(), targets.clone()),
        };
        let logits_square =
            terms.as_ref().filter(|_| on_logits).map(|terms| terms.square.clone().sum());
        let (nll, pointed) = match &output.pointing {
            Some(pointing) => {
                let terms = pointing.mix(nll, targets);
                (terms.nll, Some(terms.supervision))
            }
            None => (nll, None),
        };
        let nll_sum = nll.sum();
        let mut penalties: Vec<_> = penalties
            .iter()
            .map(|penalty| penalty.forward(lm, &output, logits_square.as_ref()))
            .collect();
        penalties.extend(weight_penalty.as_ref().map(|it| it.of_square(weight_square(lm))));
        penalties.extend(information.as_ref().map(|penalty| penalty.forward(lm, &output)));
        penalties
            .extend(regularizers.iter().map(|it| it.forward(lm, &output, terms.as_ref(), *loss)));

        // Not a division: Burn computes its gradient with the reciprocal in single precision,
        // whatever the dtype.
        let count = match loss {
            LossReduction::SumOverTime => batch_size,
            LossReduction::MeanOverTokens => batch_size * seq_length,
        };
        penalties.extend(pointed.map(|pointed| pointed.sum() * (supervision / count as f64)));
        penalties.extend(drawn.as_ref().map(|drawn| {
            drawn.divergence.clone() * (1.0 / (count as f64 * *windows_per_epoch as f64))
        }));
        Terms {
            likelihood: nll_sum.clone() * (1.0 / count as f64),
            penalties,
            nll_sum,
            embedded: is_sparse.then_some(embedded),
            state: output.state.detach(),
        }
    }

    /// Take the gradient of an embedding that is not a part of the graph.
    fn row_gradient(
        &self,
        embedded: Option<Tensor<3>>,
        inputs: Tensor<2, Int>,
        gradients: &mut Gradients,
    ) -> Option<RowGradient> {
        let gradient = embedded?.grad_remove(gradients)?;
        let [seq_length, batch_size, width] = gradient.dims();
        Some(RowGradient {
            id: self.lm.embedding.id,
            rows: inputs.inner().reshape([seq_length * batch_size]),
            values: gradient.reshape([seq_length * batch_size, width]),
        })
    }
}

/// The terms of the loss on one window.
struct Terms {
    /// Of the data, in the reduction of the loss.
    likelihood: Tensor<1>,
    /// Each penalty, as added to the loss.
    penalties: Vec<Tensor<1>>,
    nll_sum: Tensor<1>,
    /// The start of the graph, where that is behind the lookup of the embedding.
    embedded: Option<Tensor<3>>,
    /// Detached from the graph.
    state: LmState,
}

impl LmLearner {
    /// One step of plain stochastic gradient descent after clipping all gradients together. Also
    /// returns their norm before the clip, `[1]`.
    #[must_use]
    pub fn update(
        self,
        optimizer: &mut ModuleOptimizer,
        learning_rate: f64,
        max_norm: f64,
        gradients: GradientsParams,
        rows: Option<RowGradient>,
    ) -> (Self, Tensor<1>) {
        let weight_decay = self.objective.weight_decay;
        let kernels = self.lm.kernels();
        if kernels == Kernels::Fused || weight_decay.is_some() {
            let mut sgd = ClippedSgd {
                kernels,
                max_norm: Some(max_norm),
                weight_decay,
                ..ClippedSgd::default()
            };
            return sgd.step(learning_rate, self, gradients, rows.into_iter().collect());
        }
        let (gradients, norm) = clip_by_global_norm(&self, gradients, max_norm);
        (self.optimize(optimizer, learning_rate.into(), gradients), norm)
    }
}

impl TrainStep for LmLearner {
    type Input = LmBatch;
    type Output = Report<WindowOutput>;

    fn step(&self, batch: LmBatch) -> TrainOutput<Report<WindowOutput>> {
        let masks = self.lm.sample_masks(&batch.window.inputs);
        let noise = self.lm.posterior.as_ref().map(WeightPosterior::sample_noise);
        self.step_with_masks(batch, &masks, noise)
    }
}

/// Negative log-likelihood of each target, including the pointer's share, if there is one.
pub(crate) fn token_nll(
    lm: &RecurrentLm,
    dropped: Tensor<3>,
    pointing: Option<Pointing>,
    targets: Tensor<2, Int>,
) -> Tensor<1> {
    let nll = lm.nll(dropped, targets.clone());
    match pointing {
        Some(pointing) => pointing.mix(nll, targets).nll,
        None => nll,
    }
}

impl InferenceStep for LmLearner {
    type Input = LmBatch;
    type Output = Report<WindowOutput>;

    fn step(&self, batch: LmBatch) -> Report<WindowOutput> {
        let tokens = batch.window.num_tokens();
        let [_, batch_size] = batch.window.inputs.dims();
        let state = batch.state.unwrap_or_else(|| self.lm.zero_state(batch_size));
        let output = self.lm.forward(batch.window.inputs, state);
        let targets = batch.window.targets;
        let nll = token_nll(&self.lm, output.dropped, output.pointing, targets);
        Report::step(WindowOutput {
            nll_sum: nll.sum().inner(),
            tokens,
            penalties: Vec::new(),
            state: output.state.detach(),
            rows: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use anp_core::ActivationNormConfig;
    use anp_models::{
        BiasInit, CellConfig, LstmCellConfig, MixtureOver, PointerConfig, RecurrentLmConfig,
        ScaleMixture, StochasticConfig,
    };
    use anp_testing::{lock_generator, parameters, values};
    use burn::module::{ModuleVisitor, Param};
    use burn::optim::SgdConfig;
    use burn::tensor::{Device, Int};
    use burn::train::metric::Adaptor;

    use super::*;
    use crate::analyze::{Comparison, compare};
    use crate::recipe::WeightPenaltyForm;
    use crate::text::batches::Window;

    /// Weights that are drawn, and a pointer.
    fn learner(kernels: Kernels, loss: LossReduction, device: &Device) -> LmLearner {
        device.seed(6);
        let prior = ScaleMixture {
            pi: 0.25,
            log_sigma1: -1.0,
            log_sigma2: -3.0,
            over: MixtureOver::Weight,
        };
        let cell = LstmCellConfig::new().with_forget_bias(1.0);
        let lm = RecurrentLmConfig::new(9, 4, 5)
            .with_num_layers(2)
            .with_cell(CellConfig::Lstm(cell))
            .with_init_range(0.3)
            .with_decoder_bias_init(BiasInit::Uniform)
            .with_pointer(Some(PointerConfig { window: 3, state_gradient: true }))
            .with_posterior(Some(prior))
            .with_kernels(kernels);
        let objective =
            Objective { supervision: 0.5, windows_per_epoch: 7, loss, ..Objective::default() };
        LmLearner { lm: lm.init(device), objective }
    }

    /// Four steps of three streams, without word 8.
    fn batch(device: &Device) -> LmBatch {
        let words = [[1, 2, 3], [3, 2, 1], [4, 0, 0], [5, 6, 7]];
        let inputs = Tensor::<2, Int>::from_data(words, device);
        LmBatch { window: Window { targets: inputs.clone(), inputs }, state: None }
    }

    #[test]
    fn a_window_that_is_read_is_a_summary_of_one() {
        let device = Device::default();
        let scalar = |value: f32| Tensor::<1>::from_data([value], &device);
        let report = Report::step(WindowOutput {
            nll_sum: scalar(6.0),
            tokens: 4,
            penalties: vec![scalar(0.5), scalar(0.25)],
            state: LmState { layers: Vec::new(), pointer: None },
            rows: None,
        });
        let summary: Summary = report.adapt();
        let expected = Summary { loss: 1.5, penalty: 0.75, items: 4, ..Summary::default() };
        assert_eq!(summary, expected);
    }

    /// Against sums over the parameters themselves.
    #[test]
    fn penalties_on_weights_and_noise_have_the_values_of_their_formulas() {
        let _turn = lock_generator();
        let device = Device::default().autodiff();
        for kernels in Kernels::ALL {
            device.seed(6);
            let config = RecurrentLmConfig::new(9, 4, 5)
                .with_num_layers(2)
                .with_cell(CellConfig::Lstm(LstmCellConfig::new()))
                .with_init_range(0.3)
                .with_kernels(kernels);
            let lm = config.init(&device);
            let weights = parameters(&lm)
                .into_iter()
                .filter(|(name, it)| name.starts_with("layers") && it.shape.len() == 2);
            let weights: Vec<f64> = weights.flat_map(|(_, it)| it.data).collect();
            // Of inputs, 4 and 5, and of the 5 units, to four gates of 5 units, in two layers.
            assert_eq!(weights.len(), (4 + 5 + 5 + 5) * 20);
            let square: f64 = weights.iter().map(|it| it * it).sum();
            for (form, expected) in [
                (WeightPenaltyForm::HalfSumSquares, 0.3 * 0.5 * square),
                (WeightPenaltyForm::GlobalNorm, 0.3 * square.sqrt()),
            ] {
                let penalty = WeightPenaltyConfig { form, eta: 0.3 };
                let value = penalty.of_square(weight_square(&lm)).into_scalar::<f64>();
                assert!((value - expected).abs() < 1e-6 * expected, "{form:?}: {value}");
            }

            let sigma: f64 = 0.4;
            let stochastic = StochasticConfig { initial_sigma: sigma, in_recurrence: false };
            let lm = config.with_stochastic(Some(stochastic)).init(&device);
            let state = lm.zero_state(3);
            let masks = lm.sample_masks(&batch(&device).window.inputs);
            let output = lm.forward_with_masks(batch(&device).window.inputs, state, &masks);
            let means = values(output.mean.clone().unwrap());
            assert_eq!(means.len(), 4 * 3 * 5);
            let of_unit = |mean: &f64| 0.5 * (sigma.powi(2) + mean.powi(2) - 1.0) - sigma.ln();
            let divergence: f64 = means.iter().map(of_unit).sum();
            for (reduction, count) in
                [(InformationReduction::Sum, 3.0), (InformationReduction::MeanElements, 60.0)]
            {
                let penalty = InformationPenaltyConfig {
                    beta: 0.7,
                    reduction,
                    sample_recurrence: false,
                    initial_sigma: sigma,
                };
                let value = penalty.forward(&lm, &output).into_scalar::<f64>();
                let expected = 0.7 * divergence / count;
                assert!((value - expected).abs() < 1e-6 * expected, "{reduction:?}: {value}");
            }
        }
    }

    /// Over an epoch the divergence counts once, as the loss of each token does, divided by the
    /// batch size.
    #[test]
    fn the_divergence_is_spread_over_the_windows_of_an_epoch() {
        let _turn = lock_generator();
        let device = Device::default().autodiff();
        for (loss, count) in
            [(LossReduction::SumOverTime, 3.0), (LossReduction::MeanOverTokens, 12.0)]
        {
            let learner = learner(Kernels::Fused, loss, &device);
            let noise = learner.lm.posterior.as_ref().unwrap().sample_noise();
            let divergence = learner.lm.draw_weights(noise.clone()).divergence.into_scalar::<f64>();
            let step = |noise| {
                let masks = LmMasks::default();
                learner.step_with_masks(batch(&device), &masks, noise).item.into_step()
            };
            let drawn = step(Some(noise));
            assert_eq!(drawn.penalties.len(), 2);
            let counted = drawn.penalties[1].clone().into_scalar::<f64>();
            let expected = divergence / (count * 7.0);
            assert!((counted - expected).abs() < 1e-5 * expected, "{counted} and {expected}");
            let mean = step(None);
            assert_eq!(mean.penalties.len(), 1, "the means have no divergence");
            assert_ne!(drawn.nll_sum.to_data(), mean.nll_sum.to_data());
        }
    }

    /// The gradients of the terms add up to that of a step, whatever computes them, tied or not.
    #[test]
    fn the_gradient_of_a_step_is_the_sum_of_its_terms() {
        let _turn = lock_generator();
        let device = Device::default().autodiff();
        for (kernels, tie_weights, posterior) in [
            (Kernels::Fused, false, false),
            (Kernels::Fused, true, false),
            (Kernels::Plain, true, false),
            (Kernels::Fused, false, true),
        ] {
            let mut learner = learner(kernels, LossReduction::SumOverTime, &device);
            let config = RecurrentLmConfig::new(9, 5, 5)
                .with_init_range(0.3)
                .with_tie_weights(tie_weights)
                .with_kernels(kernels);
            if !posterior {
                learner.lm = config.init(&device);
            }
            let norm = ActivationNormConfig::new(0.3).init();
            let penalty = |site| SitePenalty { site, norm: norm.clone(), temporal: false };
            learner.objective.penalties =
                vec![penalty(Site::OutputDropped), penalty(Site::Embedding)];
            learner.objective.weight_penalty =
                Some(WeightPenaltyConfig { form: WeightPenaltyForm::HalfSumSquares, eta: 0.1 });
            let noise = learner.lm.posterior.as_ref().map(WeightPosterior::sample_noise);
            let masks = LmMasks::default();
            let of = |term| learner.gradient_of(batch(&device), &masks, noise.clone(), term).0;
            let mut expected = of(None);
            // Penalties, weights, and with a posterior supervision and divergence.
            for term in 0..if posterior { 5 } else { 3 } {
                expected = add(&learner, expected, of(Some(term)));
            }

            let output = learner.step_with_masks(batch(&device), &masks, noise.clone());
            let mut actual = output.grads;
            if let Some(rows) = output.item.into_step().rows {
                let zeros = learner.lm.embedding.val().inner().zeros_like();
                let dense = actual.remove::<2>(rows.id).unwrap_or(zeros);
                let add = IndexingUpdateOp::Add;
                actual.register(rows.id, dense.select_assign(0, rows.rows, rows.values, add));
            }
            let Comparison { a_square: all, b_square, product } =
                compare(&learner, &actual, &expected);
            let left = all + b_square - 2.0 * product;
            // Rounding of single precision.
            assert!(all > 1e-4 && left < 1e-11 * all, "{kernels} {tie_weights}: {left} of {all}");
        }
    }

    /// a + b, parameter by parameter.
    fn add(learner: &LmLearner, a: GradientsParams, b: GradientsParams) -> GradientsParams {
        struct Adder(GradientsParams, GradientsParams);
        impl ModuleVisitor for Adder {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if let Some(b) = self.1.remove::<D>(param.id) {
                    let sum = match self.0.remove::<D>(param.id) {
                        Some(a) => a + b,
                        None => b,
                    };
                    self.0.register(param.id, sum);
                }
            }
        }
        let mut adder = Adder(a, b);
        learner.visit(&mut adder);
        adder.0
    }

    /// Also of the words that the window does not have; with both implementations.
    #[test]
    fn a_step_moves_every_mean_and_every_rho() {
        let _turn = lock_generator();
        let device = Device::default().autodiff();
        let after = Kernels::ALL.map(|kernels| {
            let learner = learner(kernels, LossReduction::SumOverTime, &device);
            let before = parameters(&learner);
            device.seed(8);
            let output = TrainStep::step(&learner, batch(&device));
            let mut optimizer = SgdConfig::new().init();
            let rows = output.item.into_step().rows;
            assert!(rows.is_none(), "the prior reaches every row of the embedding");
            // So large that rounding hides no step.
            let (learner, _) = learner.update(&mut optimizer, 1.0, 1.0, output.grads, rows);
            let after = parameters(&learner);
            // Means of embedding, layers (3 each), decoder and its bias; a pointer's three; a ρ for
            // each but the bias.
            assert_eq!(after.len(), 9 + 3 + 8);
            for ((name, before), after) in before.iter().zip(after.values()) {
                let pairs = before.data.iter().zip(&after.data);
                let still = pairs.filter(|(before, after)| before == after);
                assert_eq!(still.count(), 0, "{kernels}: {name}");
            }
            after
        });
        let [fused, plain] = after.each_ref().map(|it| it.values().flat_map(|it| &it.data));
        for (fused, plain) in fused.zip(plain) {
            // Rounding in single precision of values below 5.
            assert!((fused - plain).abs() < 1e-5, "{fused} and {plain}");
        }
    }
}
