//! The LSTM language model as one writes it with burn-nn and burn-optim.

use anp_experiments::text::batches::Window;
use anp_experiments::text::clip_by_global_norm;
use burn::module::Module;
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::nn::{
    Dropout, DropoutConfig, Embedding, EmbeddingConfig, Initializer, Linear, LinearConfig, Lstm,
    LstmConfig, LstmState,
};
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Tensor};

use crate::case::{Case, Mode};
use crate::steps::Steps;
use crate::text::{self, Windows};

/// Embedding, LSTM layers, softmax.
#[derive(Module, Debug)]
pub struct StockLm {
    embedding: Embedding,
    input_dropout: Dropout,
    layers: Vec<Lstm>,
    inter_layer_dropout: Dropout,
    output_dropout: Dropout,
    softmax: Linear,
}

impl StockLm {
    /// The steps of a case.
    pub fn steps(case: &Case, device: &Device) -> StockSteps {
        StockSteps {
            model: Some(Self::new(case, device)),
            optimizer: SgdConfig::new().init(),
            loss: CrossEntropyLossConfig::new().init(device),
            state: vec![None; case.num_layers],
            windows: text::windows(case, device),
            case: case.clone(),
        }
    }

    fn new(case: &Case, device: &Device) -> Self {
        let initializer = Initializer::Uniform { min: -0.1, max: 0.1 };
        let lstm = LstmConfig::new(case.d_hidden, case.d_hidden, true)
            .with_batch_first(false)
            .with_initializer(initializer.clone());
        Self {
            embedding: EmbeddingConfig::new(case.vocab_size, case.d_hidden)
                .with_initializer(initializer.clone())
                .init(device),
            input_dropout: DropoutConfig::new(case.input_dropout).init(),
            layers: (0..case.num_layers).map(|_| lstm.init(device)).collect(),
            inter_layer_dropout: DropoutConfig::new(case.inter_layer_dropout).init(),
            output_dropout: DropoutConfig::new(case.output_dropout).init(),
            softmax: LinearConfig::new(case.d_hidden, case.vocab_size)
                .with_initializer(initializer)
                .init(device),
        }
    }

    /// The last layer's output after dropout; `state` becomes the next window's, cut from the
    /// graph.
    fn forward(&self, window: &Window, state: &mut [Option<LstmState<2>>]) -> Tensor<3> {
        let mut x = self.input_dropout.forward(self.embedding.forward(window.inputs.clone()));
        for (index, (layer, state)) in self.layers.iter().zip(state).enumerate() {
            if index > 0 {
                x = self.inter_layer_dropout.forward(x);
            }
            let (hidden, after) = layer.forward(x, state.take());
            *state = Some(LstmState::new(after.cell.detach(), after.hidden.detach()));
            x = hidden;
        }
        self.output_dropout.forward(x)
    }
}

/// Training or evaluation, window after window.
pub struct StockSteps {
    /// Taken during an update, which consumes it.
    model: Option<StockLm>,
    optimizer: ModuleOptimizer,
    loss: CrossEntropyLoss,
    state: Vec<Option<LstmState<2>>>,
    windows: Windows,
    case: Case,
}

impl Steps for StockSteps {
    fn step(&mut self) -> Tensor<1> {
        let case = &self.case;
        let window = self.windows.next().expect("windows repeat");
        let model = self.model.take().expect("the model is there between steps");

        let dropped = model.forward(&window, &mut self.state);
        let logits = model.softmax.forward(dropped.clone()).flatten(0, 1);
        let targets = window.targets.flatten(0, 1);
        // Burn's is the mean over tokens; the learning rate refers to the sum over the steps.
        let nll = self.loss.forward(logits, targets) * case.seq_length as f64;
        self.model = Some(if case.mode == Mode::Train {
            let loss = if case.eta > 0.0 {
                nll.clone() + dropped.square().sum() * (0.5 * case.eta)
            } else {
                nll.clone()
            };
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            let (gradients, _) = clip_by_global_norm(&model, gradients, case.clip);
            self.optimizer.step(case.learning_rate, model, gradients)
        } else {
            model
        });
        nll.detach()
    }
}
