use anp_core::look_up_word_mask;
use anp_kernels::nn::LayerMasks;
use anp_kernels::random::dropout_mask;
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::cell::RecurrentLayer;

/// Where a language model drops activations, and how long a mask lasts.
///
/// With `input`, `inter_layer` and `output` alone this is the dropout of [Zaremba et al., 2014];
/// with the others, and masks that last a window, it is variational dropout ([Gal & Ghahramani,
/// 2016]).
///
/// [Zaremba et al., 2014]: https://arxiv.org/abs/1409.2329
/// [Gal & Ghahramani, 2016]: https://arxiv.org/abs/1512.05287
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Dropout {
    /// Probability of dropping an element of the embedding's output.
    pub input: f64,
    /// Probability of dropping an element between two recurrent layers.
    pub inter_layer: f64,
    /// Probability of dropping an element of the last layer's output.
    pub output: f64,
    /// How long a mask of these three lasts.
    pub span: MaskSpan,
    /// Probability of dropping a whole input word.
    pub word: f64,
    /// Which occurrences of a word are dropped together.
    pub word_tie: WordTie,
    /// Probability of dropping an element of a layer's input, in the layer's matrix product only:
    /// the SRU's `m_in`.
    pub layer_input: f64,
    /// Probability of dropping an element of what goes from step to step; in an SRU, of the
    /// activation of the cell, in all layers but the last.
    pub recurrent: f64,
    /// Whether the gates of a layer share their masks.
    pub gates: GateMasks,
    /// Probability of dropping an element of a recurrent matrix for the whole window, in all
    /// sequences: the weight drop of AWD-LSTM
    /// ([Merity et al., 2017](https://arxiv.org/abs/1708.02182)). An SRU has no such matrix.
    pub weight: f64,
}

/// How long a mask lasts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskSpan {
    /// One step.
    #[default]
    Step,
    /// A window.
    Window,
}

/// Which occurrences of a word are dropped together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WordTie {
    /// Every token draws for itself: the "skip-input" mask.
    #[default]
    Token,
    /// All occurrences in one sequence of the window (Gal & Ghahramani).
    Sequence,
    /// All occurrences in the window (AWD-LSTM).
    Window,
}

/// Whether the gates of a layer share their masks; Gal & Ghahramani call it tied and untied
/// weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateMasks {
    /// One mask for all gates.
    #[default]
    Shared,
    /// Each gate has its own, on the layer's input and on the recurrence (LSTM), or on the
    /// recurrence only (RHN).
    Separate,
}

impl Dropout {
    /// The rates with their names, to be checked.
    pub fn rates(&self) -> [(&'static str, f64); 7] {
        [
            ("input", self.input),
            ("inter_layer", self.inter_layer),
            ("output", self.output),
            ("word", self.word),
            ("layer_input", self.layer_input),
            ("recurrent", self.recurrent),
            ("weight", self.weight),
        ]
    }

    /// Draw the masks of a window of `tokens`, `[seq_length, batch_size]`.
    ///
    /// From the device's generator, whichever kernels compute the rest, in the order input, between
    /// layers from the first, output, words, then by layer input, recurrence and recurrent matrix.
    pub(super) fn sample(
        &self,
        tokens: &Tensor<2, Int>,
        vocab_size: usize,
        layers: &[RecurrentLayer],
        device: &Device,
    ) -> LmMasks {
        let [seq_length, batch_size] = tokens.dims();
        let steps = match self.span {
            MaskSpan::Step => seq_length,
            MaskSpan::Window => 1,
        };
        let draw = |shape, p| (p > 0.0).then(|| dropout_mask(shape, p, device));
        let num_masks = |gates| if self.gates == GateMasks::Separate { gates } else { 1 };
        let rate = |index| if index == 0 { self.input } else { self.inter_layer };

        let mut between = layers.iter().enumerate().map(|(index, layer)| {
            // Masks of single gates are inside the layer.
            let is_outside = num_masks(layer.traits().input_masks) == 1;
            let shape = [steps, batch_size, layer.dims()[0]];
            is_outside.then(|| draw(shape, rate(index))).flatten()
        });
        let input = between.next().expect("the model has a layer");
        let inter_layer = between.collect();
        let [_, d_output] = layers[layers.len() - 1].dims();
        let output = draw([steps, batch_size, d_output], self.output);

        let words = (self.word > 0.0).then(|| match self.word_tie {
            WordTie::Token => dropout_mask([seq_length, batch_size, 1], self.word, device),
            tie => {
                let num_masks = if tie == WordTie::Sequence { batch_size } else { 1 };
                let words = dropout_mask([num_masks, vocab_size], self.word, device);
                look_up_word_mask(words, tokens.clone(), false)
            }
        });
        let inside = layers.iter().enumerate().map(|(index, layer)| {
            let [d_input, d_hidden] = layer.dims();
            let traits = layer.traits();
            let input = match num_masks(traits.input_masks) {
                1 => draw([1, batch_size, d_input], self.layer_input),
                gates => draw([gates, batch_size, d_input], rate(index)),
            };
            let is_last = index + 1 == layers.len();
            let p = if is_last && !traits.carries_hidden { 0.0 } else { self.recurrent };
            let recurrent = draw([num_masks(traits.recurrent_masks), batch_size, d_hidden], p);
            let (_, matrices) = layer.weights();
            let weight = matrices.and_then(|matrices| draw(matrices.dims(), self.weight));
            LayerMasks { input, recurrent, weight }
        });
        let layers = inside.collect();
        LmMasks { words, input, inter_layer, layers, output, noise: None }
    }
}

/// The dropout masks of one window, each already scaled by `1 / (1 − p)`; `None` leaves the place
/// alone.
///
/// A mask outside the layers need only be broadcastable to what it multiplies:
/// `[1, batch_size, width]` is the same mask at every step.
#[derive(Debug, Clone, Default)]
pub struct LmMasks {
    /// On whole words of the embedding's output, `[seq_length, batch_size, 1]`.
    pub words: Option<Tensor<3>>,
    /// On the embedding's output, `[seq_length, batch_size, d_embed]`.
    pub input: Option<Tensor<3>>,
    /// On the output of each layer but the last, `[seq_length, batch_size, d_hidden]`; may be
    /// empty.
    pub inter_layer: Vec<Option<Tensor<3>>>,
    /// Inside each layer; may be empty.
    pub layers: Vec<LayerMasks>,
    /// On the output of the last layer, `[seq_length, batch_size, d_hidden]`.
    pub output: Option<Tensor<3>>,
    /// The standard normal noise of a [`StochasticOutput`](crate::StochasticOutput),
    /// `[seq_length, batch_size, d_hidden]`; without it the output is its mean.
    pub noise: Option<Tensor<3>>,
}
