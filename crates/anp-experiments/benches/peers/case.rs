//! What is measured: sizes and settings, the same for every peer.

use serde::{Deserialize, Serialize};

/// A model that is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// Embedding, LSTM layers, softmax; dropout on what is not recurrent, fresh at each step.
    Lstm,
    /// The same with masks of a sequence, on the recurrence too.
    VdLstm,
    /// SRU layers of version 1, tied weights, masks of a sequence on each layer's input and cell.
    Sru,
    /// A wide residual network: `num_layers` is its depth, `d_hidden` its widening factor,
    /// `vocab_size` the number of classes, and a sequence is one image of 3 × 32 × 32. SGD with
    /// momentum 0.9; the decay is coupled, and there is no clip.
    WideResNet,
}

/// What a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// One window forward and backward, clip, update.
    Train,
    /// One window forward.
    Evaluate,
}

/// A case; its JSON is what each peer's process is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub model: Model,
    pub mode: Mode,
    /// Width of the embedding and of every layer.
    pub d_hidden: usize,
    pub num_layers: usize,
    pub batch_size: usize,
    pub seq_length: usize,
    pub vocab_size: usize,
    /// Probability of dropping an element of the embedding's output.
    pub input_dropout: f64,
    /// Probability of dropping a word's whole embedding.
    pub word_dropout: f64,
    /// Probability of dropping an element between two layers.
    pub inter_layer_dropout: f64,
    /// Probability of dropping an element of the recurrence; of an SRU layer's input and cell.
    pub recurrent_dropout: f64,
    /// Probability of dropping an element of the last layer's output.
    pub output_dropout: f64,
    /// The penalty is `η / 2 · Σ h²` over the last layer's output after dropout.
    pub eta: f64,
    /// Largest common L2 norm of all gradients.
    pub clip: f64,
    pub learning_rate: f64,
    /// Every parameter times `1 − weight_decay` before each update.
    pub weight_decay: f64,
}

impl Case {
    /// Everything that is measured unless something else is asked for.
    pub fn all() -> Vec<Self> {
        let mut cases: Vec<_> = [200, 512, 650, 1500].map(Self::lstm).into();
        cases.extend([512, 1500].map(Self::vd_lstm));
        cases.push(Self::sru(980));
        cases.extend([Self::wide_res_net(16, 4, 32), Self::wide_res_net(28, 10, 8)]);
        cases.extend([200, 512, 1500].map(|d_hidden| Self {
            mode: Mode::Evaluate,
            batch_size: 1,
            ..Self::lstm(d_hidden)
        }));
        cases
    }

    /// Short name, as `--only` and file names have it.
    pub fn name(&self) -> String {
        let model = match self.model {
            Model::Lstm => "lstm",
            Model::VdLstm => "vd-lstm",
            Model::Sru => "sru",
            Model::WideResNet => return format!("wrn-{}-{}", self.num_layers, self.d_hidden),
        };
        let prefix = if self.mode == Mode::Evaluate { "eval-" } else { "" };
        format!("{prefix}{model}-{}", self.d_hidden)
    }

    /// One line for a reader.
    pub fn description(&self) -> String {
        let model = match self.model {
            Model::Lstm => "LSTM",
            Model::VdLstm => "LSTM with variational dropout",
            Model::Sru => "SRU, tied weights",
            Model::WideResNet => {
                let Self { num_layers, d_hidden, batch_size, .. } = self;
                return format!("Training step of WRN-{num_layers}-{d_hidden}, batch {batch_size}");
            }
        };
        let step = match self.mode {
            Mode::Train => "Training step",
            Mode::Evaluate => "Evaluation",
        };
        format!(
            "{step} of a language model: {model}, {} × {}, batch {}, {} steps, {} words",
            self.num_layers, self.d_hidden, self.batch_size, self.seq_length, self.vocab_size
        )
    }

    /// Every probability of dropping.
    pub fn dropouts_mut(&mut self) -> [&mut f64; 5] {
        [
            &mut self.input_dropout,
            &mut self.word_dropout,
            &mut self.inter_layer_dropout,
            &mut self.recurrent_dropout,
            &mut self.output_dropout,
        ]
    }

    /// Tokens, or images, predicted in one step.
    pub fn tokens(&self) -> usize {
        self.batch_size * self.seq_length
    }

    /// Zaremba's language model, at the medium model's dropout.
    fn lstm(d_hidden: usize) -> Self {
        Self {
            model: Model::Lstm,
            mode: Mode::Train,
            d_hidden,
            num_layers: 2,
            batch_size: 20,
            seq_length: 35,
            vocab_size: 10_000,
            input_dropout: 0.5,
            word_dropout: 0.0,
            inter_layer_dropout: 0.5,
            recurrent_dropout: 0.0,
            output_dropout: 0.5,
            eta: 1e-4,
            clip: 5.0,
            learning_rate: 1.0,
            weight_decay: 0.0,
        }
    }

    fn vd_lstm(d_hidden: usize) -> Self {
        Self {
            model: Model::VdLstm,
            word_dropout: 0.2,
            recurrent_dropout: 0.2,
            ..Self::lstm(d_hidden)
        }
    }

    /// Lei & Zhang's language model of five layers, with a batch of 64.
    fn sru(d_hidden: usize) -> Self {
        Self {
            model: Model::Sru,
            num_layers: 5,
            batch_size: 64,
            input_dropout: 0.7,
            inter_layer_dropout: 0.0,
            recurrent_dropout: 0.2,
            output_dropout: 0.7,
            weight_decay: 1e-5,
            ..Self::lstm(d_hidden)
        }
    }

    /// That of the paper's kind, without dropout, at a batch that lets a CPU finish.
    fn wide_res_net(depth: usize, width: usize, batch_size: usize) -> Self {
        Self {
            model: Model::WideResNet,
            num_layers: depth,
            d_hidden: width,
            batch_size,
            seq_length: 1,
            vocab_size: 10,
            input_dropout: 0.0,
            inter_layer_dropout: 0.0,
            output_dropout: 0.0,
            eta: 0.0,
            learning_rate: 0.1,
            weight_decay: 5e-4,
            ..Self::lstm(width)
        }
    }
}
