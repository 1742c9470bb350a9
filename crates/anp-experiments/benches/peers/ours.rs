//! The LSTM language model of this project.

use anp_core::{ActivationNormConfig, sample_mask};
use anp_experiments::batches::{LmBatch, Window};
use anp_experiments::train::{LmLearner, SitePenalty};
use anp_models::{BiasInit, Kernels, LmMasks, LmState, RecurrentLmConfig, Site};
use burn::optim::{ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Tensor};
use burn::train::InferenceStep;

use crate::case::{Case, Mode, Model};
use crate::serve::Steps;
use crate::text;

/// Training or evaluation, window after window.
pub struct OurSteps {
    /// Taken during an update, which consumes it.
    learner: Option<LmLearner>,
    optimizer: ModuleOptimizer,
    state: Option<LmState>,
    windows: Vec<Window>,
    next: usize,
    case: Case,
    device: Device,
}

impl OurSteps {
    /// The steps of a case; the device needs no autodiff.
    pub fn new(case: &Case, kernels: Kernels, device: &Device) -> Self {
        let device = match case.mode {
            Mode::Train => device.clone().autodiff(),
            Mode::Evaluate => device.clone(),
        };
        let lm = RecurrentLmConfig {
            vocab_size: case.vocab_size,
            d_embed: case.d_hidden,
            d_hidden: case.d_hidden,
            num_layers: case.num_layers,
            tie_weights: false,
            input_dropout: case.input_dropout,
            inter_layer_dropout: case.inter_layer_dropout,
            output_dropout: case.output_dropout,
            forget_bias: 0.0,
            num_biases: 2,
            bias_init: BiasInit::Uniform,
            init_range: 0.1,
            kernels,
        }
        .init(&device);
        let penalty = |eta| SitePenalty {
            site: Site::OutputDropped,
            norm: ActivationNormConfig::new(eta).init(),
        };
        let penalties = (case.eta > 0.0).then_some(case.eta).map(penalty).into_iter().collect();
        Self {
            learner: Some(LmLearner { lm, penalties }),
            optimizer: SgdConfig::new().init(),
            state: None,
            windows: text::windows(case, &device),
            next: 0,
            case: case.clone(),
            device,
        }
    }

    fn masks(&self, learner: &LmLearner, window: &Window) -> LmMasks {
        let Case { batch_size, seq_length, d_hidden, num_layers, .. } = self.case;
        if self.case.model == Model::Lstm {
            return learner.lm.sample_masks([seq_length, batch_size]);
        }
        let sequence = |p| {
            let mask = |p| sample_mask([1, batch_size, d_hidden], p, &self.device);
            (p > 0.0).then_some(p).map(mask)
        };
        let mut input = sequence(self.case.input_dropout);
        if self.case.word_dropout > 0.0 {
            let words =
                sample_mask([self.case.vocab_size, 1], self.case.word_dropout, &self.device)
                    .select(0, window.inputs.clone().reshape([seq_length * batch_size]))
                    .reshape([seq_length, batch_size, 1]);
            input = Some(match input {
                Some(mask) => mask * words,
                None => words,
            });
        }
        LmMasks {
            input,
            inter_layer: (1..num_layers).map(|_| sequence(self.case.inter_layer_dropout)).collect(),
            recurrent: (0..num_layers).map(|_| sequence(self.case.recurrent_dropout)).collect(),
            output: sequence(self.case.output_dropout),
        }
    }
}

impl Steps for OurSteps {
    fn step(&mut self) -> Tensor<1> {
        let window = self.windows[self.next].clone();
        let batch_size = self.case.batch_size as f64;
        self.next = (self.next + 1) % self.windows.len();
        let learner = self.learner.take().expect("the model is there between steps");
        let batch = LmBatch { window, state: self.state.take() };
        let output = match self.case.mode {
            Mode::Train => {
                let masks = self.masks(&learner, &batch.window);
                let output = learner.step_with_masks(batch, &masks);
                let gradients = output.grads;
                let output = output.item.into_window();
                let Case { learning_rate, clip, .. } = self.case;
                let rows = output.rows.clone();
                let (learner, _) =
                    learner.update(&mut self.optimizer, learning_rate, clip, gradients, rows);
                self.learner = Some(learner);
                output
            }
            Mode::Evaluate => {
                let output = InferenceStep::step(&learner, batch).into_window();
                self.learner = Some(learner);
                output
            }
        };
        self.state = Some(output.state);
        output.nll_sum * (1.0 / batch_size)
    }
}
