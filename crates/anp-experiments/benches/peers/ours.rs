//! The language model of this project.

use anp_core::ActivationNormConfig;
use anp_experiments::text::batches::LmBatch;
use anp_experiments::text::{LmLearner, Objective, SitePenalty};
use anp_kernels::sgd::WeightDecay;
use anp_models::{
    BiasInit, CellConfig, Dropout, Kernels, LmState, LstmCellConfig, MaskSpan, MatmulPrecision,
    RecurrentLmConfig, Site, SruCellConfig, WordTie,
};
use burn::optim::{ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Tensor};
use burn::train::{InferenceStep, TrainStep};

use crate::case::{Case, Mode, Model};
use crate::steps::Steps;
use crate::text::{self, Windows};

/// Training or evaluation, window after window.
pub struct OurSteps {
    /// Taken during an update, which consumes it.
    learner: Option<LmLearner>,
    optimizer: ModuleOptimizer,
    state: Option<LmState>,
    windows: Windows,
    case: Case,
}

impl OurSteps {
    /// The steps of a case.
    pub fn new(case: &Case, kernels: Kernels, precision: MatmulPrecision, device: &Device) -> Self {
        let is_sru = case.model == Model::Sru;
        let cell = match case.model {
            Model::Lstm | Model::VdLstm => {
                let cell = LstmCellConfig::new().with_num_biases(2);
                CellConfig::Lstm(cell.with_bias_init(BiasInit::Uniform))
            }
            Model::Sru => CellConfig::Sru(SruCellConfig::new().with_highway_bias(-3.0)),
            Model::WideResNet => unreachable!("it is not a language model"),
        };
        let dropout = Dropout {
            input: case.input_dropout,
            inter_layer: case.inter_layer_dropout,
            output: case.output_dropout,
            span: match case.model {
                Model::VdLstm => MaskSpan::Window,
                Model::Lstm | Model::Sru | Model::WideResNet => MaskSpan::Step,
            },
            word: case.word_dropout,
            word_tie: WordTie::Window,
            layer_input: if is_sru { case.recurrent_dropout } else { 0.0 },
            recurrent: case.recurrent_dropout,
            ..Dropout::default()
        };
        let lm = RecurrentLmConfig::new(case.vocab_size, case.d_hidden, case.d_hidden)
            .with_num_layers(case.num_layers)
            .with_cell(cell)
            .with_tie_weights(is_sru)
            .with_dropout(dropout)
            .with_decoder_bias_init(BiasInit::Uniform)
            .with_kernels(kernels)
            .with_precision(precision)
            .init(device);
        let penalty = |eta| SitePenalty {
            site: Site::OutputDropped,
            norm: ActivationNormConfig::new(eta).init(),
            temporal: false,
        };
        let penalties = (case.eta > 0.0).then_some(case.eta).map(penalty).into_iter().collect();
        let share = case.weight_decay;
        let weight_decay = (share > 0.0).then_some(WeightDecay::Decoupled(share));
        let objective = Objective { penalties, weight_decay, ..Objective::default() };
        Self {
            learner: Some(LmLearner { lm, objective }),
            optimizer: SgdConfig::new().init(),
            state: None,
            windows: text::windows(case, device),
            case: case.clone(),
        }
    }
}

impl Steps for OurSteps {
    fn step(&mut self) -> Tensor<1> {
        let window = self.windows.next().expect("windows repeat");
        let batch_size = self.case.batch_size as f64;
        let learner = self.learner.take().expect("the model is there between steps");
        let batch = LmBatch { window, state: self.state.take() };
        let output = match self.case.mode {
            Mode::Train => {
                let output = TrainStep::step(&learner, batch);
                let gradients = output.grads;
                let output = output.item.into_step();
                let Case { learning_rate, clip, .. } = self.case;
                let rows = output.rows.clone();
                let (learner, _) =
                    learner.update(&mut self.optimizer, learning_rate, clip, gradients, rows);
                self.learner = Some(learner);
                output
            }
            Mode::Evaluate => {
                let output = InferenceStep::step(&learner, batch).into_step();
                self.learner = Some(learner);
                output
            }
        };
        self.state = Some(output.state);
        output.nll_sum * (1.0 / batch_size)
    }
}
