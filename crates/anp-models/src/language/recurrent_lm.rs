use anp_core::apply_mask;
use anp_kernels::cross_entropy::{LinearCrossEntropyInputs, LogitTerms};
use anp_kernels::random::standard_normal;
use anp_kernels::{Kernels, MatmulPrecision};
use burn::module::{Module, Param};
use burn::tensor::module::embedding;
use burn::tensor::{Device, Int, Tensor};

use super::dropout::{Dropout, LmMasks};
use super::output::{LmOutput, LmState};
use super::pointer::PointerSentinel;
use super::posterior::WeightPosterior;
use super::site::Site;
use super::stochastic::StochasticOutput;
use crate::cell::RecurrentLayer;

/// A recurrent language model: embedding, a stack of recurrent layers, decoder.
///
/// Sequences are time-first. [`forward`](Self::forward) stops before the decoder, so that a loss
/// may fuse the decoder's product with the softmax: [`nll`](Self::nll) is that loss,
/// [`logits`](Self::logits) the product alone.
#[derive(Module, Debug)]
pub struct RecurrentLm {
    /// `[vocab_size, d_embed]`; with tied weights its transpose is the decoder's.
    pub embedding: Param<Tensor<2>>,
    /// The recurrent layers, the one nearest to the input first.
    pub layers: Vec<RecurrentLayer>,
    /// `[d_output, vocab_size]`; `None` with tied weights.
    pub decoder_weight: Option<Param<Tensor<2>>>,
    /// `[vocab_size]`.
    pub decoder_bias: Param<Tensor<1>>,
    /// Noise on the output of the last layer, if there is some.
    pub stochastic: Option<StochasticOutput>,
    /// A pointer to the last words, if there is one.
    pub pointer: Option<PointerSentinel>,
    /// How far each weight is from certain, where the weights have distributions.
    pub posterior: Option<WeightPosterior>,
    #[module(skip)]
    pub(super) dropout: Dropout,
    #[module(skip)]
    pub(super) kernels: Kernels,
    #[module(skip)]
    pub(super) precision: MatmulPrecision,
}

impl RecurrentLm {
    /// The state before a text: all zero, on the model's device.
    pub fn zero_state(&self, batch_size: usize) -> LmState {
        let device = self.device();
        let layers =
            self.layers.iter().map(|layer| layer.zero_state(batch_size, &device)).collect();
        let pointer = self.pointer.as_ref().map(|it| it.zero_state(batch_size, &device));
        LmState { layers, pointer }
    }

    /// Whether the model has a value at `site`.
    pub fn has_site(&self, site: Site) -> bool {
        match site {
            Site::LayerCell(layer) => {
                self.layers.get(layer).is_some_and(|layer| layer.traits().has_cells)
            }
            Site::LayerHidden(layer) => layer < self.layers.len(),
            Site::Embedding | Site::OutputRaw | Site::OutputDropped | Site::Logits => true,
        }
    }

    /// Run over a window with fresh dropout masks.
    ///
    /// Dropout follows Burn's rule: it is on where the model is on an autodiff device, off in
    /// `model.valid()`.
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[seq_length, batch_size]`
    pub fn forward(&self, tokens: Tensor<2, Int>, state: LmState) -> LmOutput {
        let masks = self.sample_masks(&tokens);
        self.forward_with_masks(tokens, state, &masks)
    }

    /// Draw the masks of a window of `tokens`, `[seq_length, batch_size]`; none where dropout is
    /// off.
    pub fn sample_masks(&self, tokens: &Tensor<2, Int>) -> LmMasks {
        if self.device().is_autodiff() { self.draw_masks(tokens) } else { LmMasks::default() }
    }

    /// The same wherever the model is: what Monte-Carlo dropout evaluates under.
    pub fn draw_masks(&self, tokens: &Tensor<2, Int>) -> LmMasks {
        let device = self.device();
        let mut masks = self.dropout.sample(tokens, self.vocab_size(), &self.layers, &device);
        if let Some(stochastic) = &self.stochastic {
            let [seq_length, batch_size] = tokens.dims();
            let shape = [seq_length, batch_size, stochastic.rho.dims()[0]];
            masks.noise = Some(standard_normal(shape, &device));
        }
        masks
    }

    /// Run over a window with the given masks.
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[seq_length, batch_size]`
    ///
    /// # Panics
    ///
    /// If the state has another number of layers or another batch size, or a mask does not fit.
    pub fn forward_with_masks(
        &self,
        tokens: Tensor<2, Int>,
        state: LmState,
        masks: &LmMasks,
    ) -> LmOutput {
        self.forward_embedded(self.embed(tokens.clone()), tokens, state, masks)
    }

    /// The embedding of each token.
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[seq_length, batch_size]`
    /// - returns: `[seq_length, batch_size, d_embed]`
    pub fn embed(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        embedding(self.embedding.val(), tokens)
    }

    /// Run over a window whose tokens are embedded already.
    ///
    /// # Shapes
    ///
    /// - `embedded`: `[seq_length, batch_size, d_embed]`
    /// - `tokens`: `[seq_length, batch_size]`, for a pointer
    ///
    /// # Panics
    ///
    /// As [`forward_with_masks`](Self::forward_with_masks).
    pub fn forward_embedded(
        &self,
        embedded: Tensor<3>,
        tokens: Tensor<2, Int>,
        state: LmState,
        masks: &LmMasks,
    ) -> LmOutput {
        let (given, needed) = (state.layers.len(), self.layers.len());
        assert_eq!(given, needed, "the state has {given} layers, the model {needed}");
        let words = apply_mask(embedded.clone(), masks.words.clone());
        let mut input = apply_mask(words, masks.input.clone());
        let mut hidden = Vec::with_capacity(self.layers.len());
        let mut cell = Vec::with_capacity(self.layers.len());
        let mut states = Vec::with_capacity(self.layers.len());
        let mut mean = None;
        for (index, (layer, state)) in self.layers.iter().zip(state.layers).enumerate() {
            let inside = masks.layers.get(index).cloned().unwrap_or_default();
            let is_last = index + 1 == self.layers.len();
            let sequence = match (&self.stochastic, &masks.noise) {
                (Some(stochastic), Some(noise)) if is_last => {
                    let (output, without) =
                        stochastic.forward(layer, input, state, inside, noise.clone());
                    mean = Some(without);
                    output
                }
                _ => layer.forward(input, state, inside),
            };
            let mask = if is_last {
                masks.output.clone()
            } else {
                masks.inter_layer.get(index).cloned().flatten()
            };
            input = apply_mask(sequence.hidden.clone(), mask);
            hidden.push(sequence.hidden);
            cell.push(sequence.cell);
            states.push(sequence.state);
        }

        let point = |pointer: &PointerSentinel| {
            let raw = hidden.last().expect("the model has a layer").clone();
            let state = state.pointer.expect("the state is that of a model with a pointer");
            pointer.forward(input.clone(), raw, tokens, state)
        };
        let (pointing, pointer) = self.pointer.as_ref().map(point).unzip();

        LmOutput {
            embedding: embedded,
            hidden,
            cell,
            dropped: input,
            mean,
            pointing,
            state: LmState { layers: states, pointer },
        }
    }

    /// Scores of every word before the softmax.
    ///
    /// # Shapes
    ///
    /// - `dropped`: `[seq_length, batch_size, d_output]`
    /// - returns: `[seq_length, batch_size, vocab_size]`
    pub fn logits(&self, dropped: Tensor<3>) -> Tensor<3> {
        let [seq_length, batch_size, d_hidden] = dropped.dims();
        let weight = self.decoder_matrix();
        let [_, vocab_size] = weight.dims();
        let products = self.precision.matmul(dropped.reshape([-1, d_hidden as i64]), weight);
        let logits = products + self.decoder_bias.val().unsqueeze();
        logits.reshape([seq_length, batch_size, vocab_size])
    }

    /// `Σ over tokens and words v of weights[v] · logit[token, v]`, without the logits themselves:
    /// `[1]`.
    ///
    /// # Shapes
    ///
    /// - `dropped`: `[seq_length, batch_size, d_output]`
    /// - `weights`: `[vocab_size]`
    pub fn expected_logit_sum(&self, dropped: Tensor<3>, weights: Tensor<1>) -> Tensor<1> {
        let [seq_length, batch_size, d_hidden] = dropped.dims();
        let hidden = dropped.sum_dim(0).sum_dim(1).reshape([1, d_hidden]);
        let of_hidden =
            hidden.matmul(self.decoder_matrix().matmul(weights.clone().unsqueeze_dim(1)));
        let of_bias = (self.decoder_bias.val() * weights).sum();
        of_hidden.reshape([1]) + of_bias * (seq_length * batch_size) as f64
    }

    /// The score of one word before the softmax, at each token: `[seq_length · batch_size]`.
    ///
    /// # Shapes
    ///
    /// - `dropped`: `[seq_length, batch_size, d_output]`
    /// - `class`: `[1]`
    pub fn logits_of_class(&self, dropped: Tensor<3>, class: Tensor<1, Int>) -> Tensor<1> {
        let [seq_length, batch_size, d_hidden] = dropped.dims();
        let num_tokens = seq_length * batch_size;
        let weight = match &self.decoder_weight {
            Some(weight) => weight.val().select(1, class.clone()),
            None => self.embedding.val().select(0, class.clone()).transpose(),
        };
        let products = dropped.reshape([num_tokens, d_hidden]).matmul(weight);
        products.reshape([num_tokens]) + self.decoder_bias.val().select(0, class)
    }

    /// The decoder's weight: `[d_output, vocab_size]`.
    fn decoder_matrix(&self) -> Tensor<2> {
        match &self.decoder_weight {
            Some(weight) => weight.val(),
            None => self.embedding.val().transpose(),
        }
    }

    /// Negative log-likelihood of each target, in nats, by the softmax alone: a pointer is mixed in
    /// by [`Pointing::mix`](super::Pointing::mix).
    ///
    /// # Shapes
    ///
    /// - `dropped`: `[seq_length, batch_size, d_output]`
    /// - `targets`: `[seq_length, batch_size]`
    /// - returns: `[seq_length · batch_size]`
    pub fn nll(&self, dropped: Tensor<3>, targets: Tensor<2, Int>) -> Tensor<1> {
        self.kernels.linear_cross_entropy(self.decoding(dropped, targets))
    }

    /// The same with the squared norm of the logits, and the entropy and the partition function of
    /// the predictions.
    pub fn logit_terms(&self, dropped: Tensor<3>, targets: Tensor<2, Int>) -> LogitTerms {
        self.kernels.logit_terms(self.decoding(dropped, targets))
    }

    fn decoding(&self, dropped: Tensor<3>, targets: Tensor<2, Int>) -> LinearCrossEntropyInputs {
        let [seq_length, batch_size, d_hidden] = dropped.dims();
        let num_tokens = seq_length * batch_size;
        LinearCrossEntropyInputs {
            hidden: dropped.reshape([num_tokens, d_hidden]),
            weight: match &self.decoder_weight {
                Some(weight) => weight.val(),
                None => self.embedding.val(),
            },
            tied: self.decoder_weight.is_none(),
            bias: self.decoder_bias.val(),
            targets: targets.reshape([num_tokens]),
            precision: self.precision,
        }
    }

    /// Words of the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.decoder_bias.dims()[0]
    }

    /// How recurrences and losses are computed.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// The activation at `site`; logits are computed anew.
    ///
    /// # Panics
    ///
    /// If the model has no such site, see [`has_site`](Self::has_site).
    pub fn activation(&self, output: &LmOutput, site: Site) -> Tensor<3> {
        assert!(
            self.has_site(site),
            "the model of {} layers has no site {site}",
            self.layers.len(),
        );
        match site {
            Site::Embedding => output.embedding.clone(),
            Site::LayerCell(layer) => output.cell[layer].clone().expect("the layer has cells"),
            Site::LayerHidden(layer) => output.hidden[layer].clone(),
            Site::OutputRaw => output.hidden[self.layers.len() - 1].clone(),
            Site::OutputDropped => output.dropped.clone(),
            Site::Logits => self.logits(output.dropped.clone()),
        }
    }

    fn device(&self) -> Device {
        self.decoder_bias.val().device()
    }
}
