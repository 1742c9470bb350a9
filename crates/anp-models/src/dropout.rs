use anp_core::look_up_word_mask;
use anp_kernels::random::dropout_mask;
use burn::module::Param;
use burn::tensor::{Device, Int, Tensor};

use crate::layer::{LayerMasks, RecurrentLayer};

/// Where a language model drops activations, and how long a mask lasts.
///
/// With all rates of the second half zero this is the dropout of [Zaremba et al., 2014]; with them, and masks that
/// last a window, variational dropout ([Gal & Ghahramani, 2016]).
///
/// [Zaremba et al., 2014]: https://arxiv.org/abs/1409.2329
/// [Gal & Ghahramani, 2016]: https://arxiv.org/abs/1512.05287
#[derive(Debug, Clone, Copy, Default, PartialEq)]
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
    /// Probability of dropping an element of a layer's input, in the layer's product only: the SRU's `m_in`.
    pub product: f64,
    /// Probability of dropping an element of what goes from step to step; in an SRU, of the activation of the cell, in
    /// all layers but the last.
    pub recurrent: f64,
    /// Whether the gates of a layer share their masks.
    pub gates: GateMasks,
    /// Probability of dropping an element of a recurrent matrix for the whole window, in all sequences: the weight drop of
    /// AWD-LSTM ([Merity et al., 2017](https://arxiv.org/abs/1708.02182)). An SRU has no such matrix.
    pub weight: f64,
}

/// How long a mask lasts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskSpan {
    /// One step.
    #[default]
    Step,
    /// A window.
    Window,
}

/// Which occurrences of a word are dropped together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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

/// Whether the gates of a layer share their masks; Gal & Ghahramani call it tied and untied weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateMasks {
    /// One mask for all gates.
    #[default]
    Shared,
    /// Each gate has its own, on the layer's input and on the recurrence (LSTM), or on the recurrence only (RHN).
    Separate,
}

impl Dropout {
    /// Rates with their names, for checks.
    pub fn rates(&self) -> [(&'static str, f64); 7] {
        [
            ("input", self.input),
            ("inter_layer", self.inter_layer),
            ("output", self.output),
            ("word", self.word),
            ("product", self.product),
            ("recurrent", self.recurrent),
            ("weight", self.weight),
        ]
    }

    /// Draw the masks of a window of `tokens`, `[seq_length, batch_size]`.
    ///
    /// From the device's generator, whichever kernels compute the rest, in the order input, between layers from the first,
    /// output, words, then by layer product, recurrence and recurrent matrix.
    pub(crate) fn sample(
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
        let last = layers.last().expect("the model has a layer");
        let input_by_gate = |layer: &RecurrentLayer| {
            self.gates == GateMasks::Separate && matches!(layer, RecurrentLayer::Lstm(_))
        };
        let on_input = |layer: &RecurrentLayer, p| {
            (!input_by_gate(layer)).then(|| draw([steps, batch_size, layer.d_input()], p)).flatten()
        };
        let input = on_input(&layers[0], self.input);
        let inter_layer =
            layers[1..].iter().map(|layer| on_input(layer, self.inter_layer)).collect();
        let output = draw([steps, batch_size, last.d_hidden()], self.output);

        let words = (self.word > 0.0).then(|| match self.word_tie {
            WordTie::Token => dropout_mask([seq_length, batch_size, 1], self.word, device),
            tie => {
                let num_masks = if tie == WordTie::Sequence { batch_size } else { 1 };
                let words = dropout_mask([num_masks, vocab_size], self.word, device);
                look_up_word_mask(words, tokens.clone(), false)
            }
        });
        let num_layers = layers.len();
        let layer_masks = |(index, layer): (usize, &RecurrentLayer)| {
            let product = if input_by_gate(layer) {
                let p = if index == 0 { self.input } else { self.inter_layer };
                draw([4, batch_size, layer.d_input()], p)
            } else {
                draw([1, batch_size, layer.d_input()], self.product)
            };
            let groups = match (self.gates, layer) {
                (GateMasks::Separate, RecurrentLayer::Lstm(_)) => 4,
                (GateMasks::Separate, RecurrentLayer::Rhn(_)) => 2,
                _ => 1,
            };
            // The top layer of an SRU has none.
            let is_bare = matches!(layer, RecurrentLayer::Sru(_)) && index + 1 == num_layers;
            let p = if is_bare { 0.0 } else { self.recurrent };
            let recurrent = draw([groups, batch_size, layer.d_hidden()], p);
            let weight = layer.recurrent_weight_dims().and_then(|dims| draw(dims, self.weight));
            LayerMasks { product, recurrent, weight }
        };
        let layers = layers.iter().enumerate().map(layer_masks).collect();
        LmMasks { words, input, inter_layer, layers, output, noise: None }
    }
}

/// The dropout masks of one window, each already scaled by `1 / (1 − p)`; `None` leaves the place alone.
///
/// A mask need only be broadcastable to what it multiplies: `[1, batch_size, width]` is the same mask at
/// every step.
#[derive(Debug, Clone, Default)]
pub struct LmMasks {
    /// On whole words of the embedding's output, `[seq_length, batch_size, 1]`.
    pub words: Option<Tensor<3>>,
    /// On the embedding's output, `[seq_length, batch_size, d_embed]`.
    pub input: Option<Tensor<3>>,
    /// On the output of each layer but the last, `[seq_length, batch_size, d_hidden]`; may be empty.
    pub inter_layer: Vec<Option<Tensor<3>>>,
    /// Inside each layer; may be empty.
    pub layers: Vec<LayerMasks>,
    /// On the output of the last layer, `[seq_length, batch_size, d_hidden]`.
    pub output: Option<Tensor<3>>,
    /// The standard normal noise of a [`StochasticOutput`](crate::StochasticOutput), `[seq_length, batch_size, d_hidden]`;
    /// without it the output is its mean.
    pub noise: Option<Tensor<3>>,
}

/// Drop what `mask` drops.
pub(crate) fn apply_mask(activation: Tensor<3>, mask: Option<&Tensor<3>>) -> Tensor<3> {
    match mask {
        Some(mask) => activation * mask.clone(),
        None => activation,
    }
}

/// A recurrent matrix, or several, without the elements that `mask` drops.
pub(crate) fn mask_weight<const D: usize>(
    weight: &Param<Tensor<D>>,
    mask: Option<Tensor<3>>,
) -> Tensor<D> {
    match mask {
        Some(mask) => weight.val() * mask.reshape(weight.dims()),
        None => weight.val(),
    }
}
