use anp_kernels::Kernels;
use anp_kernels::cross_entropy::{LinearCrossEntropyInputs, LogitTerms};
use anp_kernels::random::standard_normal;
use burn::module::{Module, Param};
use burn::tensor::module::embedding;
use burn::tensor::{Device, Int, Tensor};

use crate::dropout::{Dropout, LmMasks, apply_mask};
use crate::layer::{CellConfig, LayerState, RecurrentLayer};
use crate::lstm::{BiasInit, uniform};
use crate::pointer::{PointerConfig, PointerSentinel, PointerState, Pointing};
use crate::posterior::{ScaleMixture, WeightPosterior};
use crate::site::Site;
use crate::stochastic::{StochasticConfig, StochasticOutput};

/// Configuration of a [`RecurrentLm`].
#[derive(Debug, Clone, PartialEq)]
pub struct RecurrentLmConfig {
    /// Words of the vocabulary.
    pub vocab_size: usize,
    /// Width of the word embedding.
    pub d_embed: usize,
    /// Units of each recurrent layer but the last.
    pub d_hidden: usize,
    /// Units of the last recurrent layer.
    pub d_output: usize,
    /// Number of recurrent layers.
    pub num_layers: usize,
    /// Kind of the recurrent layers.
    pub cell: CellConfig,
    /// Whether the decoder uses the embedding's weight.
    pub tie_weights: bool,
    /// Where activations are dropped.
    pub dropout: Dropout,
    /// The embedding, the decoder's weight and the weights of the layers start uniform in `[-init_range, init_range]`.
    pub init_range: f64,
    /// The same for the layers, where it is another.
    pub layer_init_range: Option<LayerInitRange>,
    /// Initial values of the decoder's bias.
    pub decoder_bias_init: BiasInit,
    /// Noise on the output of the last layer.
    pub stochastic: Option<StochasticConfig>,
    /// A pointer to the last words, beside the decoder.
    pub pointer: Option<PointerConfig>,
    /// Prior of the weights, where each has a distribution and not a value.
    pub posterior: Option<ScaleMixture>,
    /// How recurrences and losses are computed.
    pub kernels: Kernels,
}

/// Range of the first values of a layer's weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LayerInitRange {
    /// The same for all layers.
    Fixed(f64),
    /// One over the root of the layer's units: the default of `torch.nn.LSTM`.
    InverseRootUnits,
}

impl RecurrentLmConfig {
    /// Draw the parameters on `device`, from its random number generator: embedding, layers, decoder, pointer,
    /// posterior.
    ///
    /// # Panics
    ///
    /// If `num_layers` is 0, the cell's values are refused by its layer, a dropout is outside `[0, 1)`, or
    /// `tie_weights` is set and `d_embed` differs from `d_output`.
    pub fn init(&self, device: &Device) -> RecurrentLm {
        assert!(self.num_layers > 0, "a recurrent language model needs a layer");
        assert!(
            !self.tie_weights || self.d_embed == self.d_output,
            "tied weights need an embedding as wide as the last layer, not {} and {}",
            self.d_embed,
            self.d_output
        );
        for (name, p) in self.dropout.rates() {
            assert!((0.0..1.0).contains(&p), "the {name} dropout must be in [0, 1), but is {p}");
        }

        let embedding = uniform([self.vocab_size, self.d_embed], self.init_range, device);
        let layers = (0..self.num_layers)
            .map(|layer| {
                let dims @ [_, d_hidden] = self.layer_dims(layer);
                let range = match self.layer_init_range {
                    None => self.init_range,
                    Some(LayerInitRange::Fixed(range)) => range,
                    Some(LayerInitRange::InverseRootUnits) => (d_hidden as f64).sqrt().recip(),
                };
                self.cell.init(dims, range, self.kernels, device)
            })
            .collect();
        let decoder_weight = (!self.tie_weights)
            .then(|| uniform([self.d_output, self.vocab_size], self.init_range, device));
        let mut lm = RecurrentLm {
            embedding,
            layers,
            decoder_weight,
            decoder_bias: self.decoder_bias_init.init(self.vocab_size, self.init_range, device),
            stochastic: self.stochastic.map(|config| config.init(self.d_output, device)),
            pointer: self.pointer.map(|config| config.init(self.d_output, self.init_range, device)),
            posterior: None,
            dropout: self.dropout,
            kernels: self.kernels,
        };
        lm.posterior = self.posterior.map(|prior| WeightPosterior::init(prior, &lm, device));
        lm
    }

    /// Parameters of the network, without drawing them.
    pub fn num_params(&self) -> usize {
        let layers = (0..self.num_layers).map(|layer| self.cell.num_params(self.layer_dims(layer)));
        let decoder = if self.tie_weights { 0 } else { self.d_output * self.vocab_size };
        let noise = if self.stochastic.is_some() { self.d_output } else { 0 };
        let weights = self.vocab_size * self.d_embed + layers.sum::<usize>() + decoder;
        let values = if self.posterior.is_some() { 2 } else { 1 };
        let pointer = self.pointer.map_or(0, |_| PointerConfig::num_params(self.d_output));
        values * weights + self.vocab_size + noise + pointer
    }

    /// Widths of a layer's input and output.
    fn layer_dims(&self, layer: usize) -> [usize; 2] {
        let d_input = if layer == 0 { self.d_embed } else { self.d_hidden };
        let is_last = layer + 1 == self.num_layers;
        [d_input, if is_last { self.d_output } else { self.d_hidden }]
    }
}

/// State of every layer between two windows, first layer first.
#[derive(Debug, Clone)]
pub struct LmState {
    /// One state a layer.
    pub layers: Vec<LayerState>,
    /// What the pointer points at, if the model has one.
    pub pointer: Option<PointerState>,
}

impl LmState {
    /// The same values, cut from the graph that made them: what is carried into the next window.
    #[must_use]
    pub fn detach(self) -> Self {
        Self {
            layers: self.layers.into_iter().map(LayerState::detach).collect(),
            pointer: self.pointer.map(PointerState::detach),
        }
    }
}

/// What one window makes, by site.
#[derive(Debug, Clone)]
pub struct LmOutput {
    /// The embedding before dropout: `[seq_length, batch_size, d_embed]`.
    pub embedding: Tensor<3>,
    /// Hidden states of each layer before dropout: `[seq_length, batch_size, d_hidden]`.
    pub hidden: Vec<Tensor<3>>,
    /// Cell states of each layer that has some: `[seq_length, batch_size, d_hidden]`.
    pub cell: Vec<Option<Tensor<3>>>,
    /// Hidden states of the last layer after dropout, the decoder's input: `[seq_length, batch_size, d_hidden]`.
    pub dropped: Tensor<3>,
    /// Hidden states of the last layer without its noise, where it has some: `[seq_length, batch_size, d_hidden]`.
    pub mean: Option<Tensor<3>>,
    /// Where the tokens point, if the model has a pointer: its [`mix`](Pointing::mix) makes the loss of the softmax that of both.
    pub pointing: Option<Pointing>,
    /// State after the window, still part of the graph.
    pub state: LmState,
}

/// A recurrent language model: embedding, a stack of recurrent layers, decoder.
///
/// Sequences are time-first. [`forward`](Self::forward) stops before the decoder, so that a loss may fuse
/// the decoder's product with the softmax: [`nll`](Self::nll) is that loss, [`logits`](Self::logits) the product alone.
#[derive(Module, Debug)]
pub struct RecurrentLm {
    /// `[vocab_size, d_embed]`; with tied weights its transpose is the decoder's.
    pub embedding: Param<Tensor<2>>,
    /// The recurrent layers, the one nearest to the input first.
    pub layers: Vec<RecurrentLayer>,
    /// `[d_hidden, vocab_size]`; `None` with tied weights.
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
    dropout: Dropout,
    #[module(skip)]
    kernels: Kernels,
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
            Site::LayerCell(layer) => self.layers.get(layer).is_some_and(RecurrentLayer::has_cells),
            Site::LayerHidden(layer) => layer < self.layers.len(),
            Site::Embedding | Site::OutputRaw | Site::OutputDropped | Site::Logits => true,
        }
    }

    /// Run over a window with fresh dropout masks.
    ///
    /// Dropout follows Burn's rule: it is on where the model is on an autodiff device, off in `model.valid()`.
    ///
    /// # Shapes
    ///
    /// - `tokens`: `[seq_length, batch_size]`
    pub fn forward(&self, tokens: Tensor<2, Int>, state: LmState) -> LmOutput {
        let masks = self.sample_masks(&tokens);
        self.forward_with_masks(tokens, state, &masks)
    }

    /// Draw the masks of a window of `tokens`, `[seq_length, batch_size]`; none where dropout is off.
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
        assert_eq!(
            state.layers.len(),
            self.layers.len(),
            "the state has {} layers, the model {}",
            state.layers.len(),
            self.layers.len()
        );
        let words = apply_mask(embedded.clone(), masks.words.as_ref());
        let mut input = apply_mask(words, masks.input.as_ref());
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
                masks.output.as_ref()
            } else {
                masks.inter_layer.get(index).and_then(Option::as_ref)
            };
            input = apply_mask(sequence.hidden.clone(), mask);
            hidden.push(sequence.hidden);
            cell.push(sequence.cell);
            states.push(sequence.state);
        }

        let (pointing, pointer) = self
            .pointer
            .as_ref()
            .map(|pointer| {
                let raw = hidden.last().expect("the model has a layer").clone();
                let state = state.pointer.expect("the state is that of a model with a pointer");
                pointer.forward(input.clone(), raw, tokens, state)
            })
            .unzip();

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
    /// - `dropped`: `[seq_length, batch_size, d_hidden]`
    /// - returns: `[seq_length, batch_size, vocab_size]`
    pub fn logits(&self, dropped: Tensor<3>) -> Tensor<3> {
        let [seq_length, batch_size, d_hidden] = dropped.dims();
        let weight = match &self.decoder_weight {
            Some(weight) => weight.val(),
            None => self.embedding.val().transpose(),
        };
        let [_, vocab_size] = weight.dims();
        dropped
            .reshape([seq_length * batch_size, d_hidden])
            .matmul(weight)
            .add(self.decoder_bias.val().unsqueeze())
            .reshape([seq_length, batch_size, vocab_size])
    }

    /// Negative log-likelihood of each target, in nats, by the softmax alone: a pointer is mixed in by
    /// [`Pointing::mix`].
    ///
    /// # Shapes
    ///
    /// - `dropped`: `[seq_length, batch_size, d_hidden]`
    /// - `targets`: `[seq_length, batch_size]`
    /// - returns: `[seq_length · batch_size]`
    pub fn nll(&self, dropped: Tensor<3>, targets: Tensor<2, Int>) -> Tensor<1> {
        self.kernels.linear_cross_entropy(self.decoding(dropped, targets))
    }

    /// The same with the squared norm of the logits and the entropy of the predictions.
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

#[cfg(test)]
mod tests {
    use anp_kernels::sru::Activation;

    use super::*;
    use crate::dropout::{GateMasks, MaskSpan, WordTie};
    use crate::posterior::MixtureOver;

    fn lstm(num_biases: usize) -> CellConfig {
        CellConfig::Lstm { forget_bias: 1.0, num_biases, bias_init: BiasInit::Zeros }
    }

    fn sru() -> CellConfig {
        CellConfig::Sru { activation: Activation::Identity, highway_bias: -3.0 }
    }

    fn rhn(depth: usize) -> CellConfig {
        CellConfig::Rhn { depth, transform_bias: -2.0 }
    }

    fn tokens(dims: [usize; 2]) -> Tensor<2, Int> {
        Tensor::zeros(dims, &Device::default())
    }

    fn config() -> RecurrentLmConfig {
        RecurrentLmConfig {
            vocab_size: 11,
            d_embed: 3,
            d_hidden: 4,
            d_output: 4,
            num_layers: 3,
            cell: lstm(1),
            tie_weights: false,
            dropout: Dropout::default(),
            init_range: 0.1,
            layer_init_range: None,
            decoder_bias_init: BiasInit::Uniform,
            stochastic: None,
            pointer: None,
            posterior: None,
            kernels: Kernels::Fused,
        }
    }

    /// Which of input, layer 0, layer 1 and output has a mask.
    fn places(masks: &LmMasks) -> [bool; 4] {
        let [first, second] = masks.inter_layer.as_slice() else {
            panic!("three layers have two gaps")
        };
        [masks.input.is_some(), first.is_some(), second.is_some(), masks.output.is_some()]
    }

    #[test]
    fn each_dropout_rate_is_that_of_its_place() {
        let device = Device::default().autodiff();
        let masks = |dropout: Dropout| {
            RecurrentLmConfig { dropout, ..config() }.init(&device).sample_masks(&tokens([2, 5]))
        };
        let input = masks(Dropout { input: 0.5, ..Dropout::default() });
        assert_eq!(places(&input), [true, false, false, false]);
        assert_eq!(input.input.unwrap().dims(), [2, 5, 3]);
        let between = masks(Dropout { inter_layer: 0.5, ..Dropout::default() });
        assert_eq!(places(&between), [false, true, true, false]);
        let output = masks(Dropout { output: 0.75, ..Dropout::default() });
        assert_eq!(places(&output), [false, false, false, true]);
        for value in output.output.unwrap().into_data().iter::<f32>() {
            assert!(
                value == 0.0 || value == 4.0,
                "kept elements are scaled by 1 / (1 - p), not {value}"
            );
        }
    }

    #[test]
    fn evaluation_has_no_masks_and_repeats_itself() {
        let dropout =
            Dropout { input: 0.5, inter_layer: 0.5, output: 0.5, word: 0.5, ..Dropout::default() };
        let dropout = RecurrentLmConfig { dropout, ..config() };
        let model = dropout.init(&Device::default().autodiff()).valid();
        let masks = model.sample_masks(&tokens([2, 5]));
        assert!(masks.input.is_none() && masks.words.is_none() && masks.output.is_none());
        assert!(masks.inter_layer.is_empty() && masks.layers.is_empty());
        let tokens = Tensor::<2, Int>::from_data([[1, 2], [3, 4]], &Device::default());
        let run = || model.forward(tokens.clone(), model.zero_state(2)).dropped.into_data();
        run().assert_eq(&run(), true);
    }

    /// Gal & Ghahramani's masks: one a window and sequence, at every place.
    #[test]
    fn variational_masks_are_constant_over_time_and_differ_between_sequences() {
        let device = Device::default().autodiff();
        let dropout = Dropout {
            input: 0.5,
            inter_layer: 0.5,
            output: 0.5,
            recurrent: 0.5,
            span: MaskSpan::Window,
            ..Dropout::default()
        };
        let wide = RecurrentLmConfig { d_embed: 64, d_hidden: 64, d_output: 64, ..config() };
        let model = RecurrentLmConfig { dropout, ..wide }.init(&device);
        let draw = || model.sample_masks(&tokens([7, 2]));
        let masks = draw();
        let mut all = vec![masks.input.unwrap(), masks.output.unwrap()];
        all.extend(masks.inter_layer.into_iter().flatten());
        all.extend(masks.layers.into_iter().filter_map(|layer| layer.recurrent));
        assert_eq!(all.len(), 2 + 2 + 3);
        for mask in &all {
            assert_eq!(mask.dims(), [1, 2, 64]);
            let values: Vec<f32> = mask.to_data().iter::<f32>().collect();
            assert_ne!(values[..64], values[64..], "sequences share a mask");
        }
        let again = draw().input.unwrap();
        assert_ne!(all[0].to_data(), again.to_data(), "windows share a mask");
    }

    /// Where the gates have masks of their own, those on a layer's input are inside the layer.
    #[test]
    fn separate_masks_are_one_a_gate() {
        let device = Device::default().autodiff();
        let dropout = Dropout {
            input: 0.5,
            inter_layer: 0.5,
            recurrent: 0.5,
            gates: GateMasks::Separate,
            ..Dropout::default()
        };
        let masks = |cell| {
            RecurrentLmConfig { dropout, cell, ..config() }
                .init(&device)
                .sample_masks(&tokens([7, 2]))
        };
        let dims = |mask: &Option<Tensor<3>>| mask.as_ref().map(Tensor::dims);
        let of_lstm = masks(lstm(1));
        assert_eq!(dims(&of_lstm.input), None);
        assert!(of_lstm.inter_layer.iter().all(Option::is_none));
        let inside: Vec<_> =
            of_lstm.layers.iter().map(|it| (dims(&it.product), dims(&it.recurrent))).collect();
        let wide = (Some([4, 2, 4]), Some([4, 2, 4]));
        assert_eq!(inside, [(Some([4, 2, 3]), Some([4, 2, 4])), wide, wide]);
        // The gates of an RHN share the input's.
        let of_rhn = masks(rhn(2));
        assert_eq!(dims(&of_rhn.input), Some([7, 2, 3]));
        assert_eq!(dims(&of_rhn.layers[0].recurrent), Some([2, 2, 4]));
        assert_eq!(dims(&of_rhn.layers[0].product), None);
    }

    #[test]
    fn the_top_layer_of_an_sru_has_no_mask_on_its_activation() {
        let device = Device::default().autodiff();
        let dropout = Dropout { product: 0.5, recurrent: 0.5, ..Dropout::default() };
        let model = RecurrentLmConfig { dropout, cell: sru(), ..config() }.init(&device);
        let masks = model.sample_masks(&tokens([7, 2]));
        let recurrent: Vec<_> = masks.layers.iter().map(|it| it.recurrent.is_some()).collect();
        assert_eq!(recurrent, [true, true, false]);
        assert!(masks.layers.iter().all(|it| it.product.is_some()));
    }

    /// One mask of a matrix for all sequences and steps; an SRU has no matrix to drop.
    #[test]
    fn weight_drop_draws_a_mask_of_each_recurrent_matrix_a_window() {
        let device = Device::default().autodiff();
        let dropout = Dropout { weight: 0.75, ..Dropout::default() };
        for (cell, dims) in [
            (lstm(2), Some([1, 4, 16])),
            (rhn(3), Some([3, 4, 8])),
            (CellConfig::Nas, Some([1, 4, 32])),
            (sru(), None),
        ] {
            let model = RecurrentLmConfig { dropout, cell, ..config() }.init(&device);
            let draw = || model.sample_masks(&tokens([7, 2])).layers.swap_remove(1);
            let (mask, next) = (draw(), draw());
            assert!(mask.product.is_none() && mask.recurrent.is_none());
            assert_eq!(mask.weight.as_ref().map(Tensor::dims), dims);
            if let (Some(mask), Some(next)) = (mask.weight, next.weight) {
                assert!(mask.to_data().iter::<f32>().all(|value| value == 0.0 || value == 4.0));
                assert_ne!(mask.to_data(), next.to_data(), "windows share a mask");
            }
            assert!(model.valid().sample_masks(&tokens([7, 2])).layers.is_empty());
        }
    }

    /// `torch.nn.LSTM` starts each layer in ± 1 / √units.
    #[test]
    fn the_range_of_a_layer_may_follow_from_its_units() {
        let inverse_root = Some(LayerInitRange::InverseRootUnits);
        let config = RecurrentLmConfig {
            d_hidden: 100,
            d_output: 400,
            num_layers: 2,
            init_range: 7.0,
            layer_init_range: inverse_root,
            cell: CellConfig::Lstm {
                forget_bias: 0.0,
                num_biases: 2,
                bias_init: BiasInit::Uniform,
            },
            ..config()
        };
        let model = config.init(&Device::default());
        for (layer, range) in model.layers.iter().zip([0.1, 0.05]) {
            let RecurrentLayer::Lstm(layer) = layer else { unreachable!("it is an LSTM") };
            let biases = [Some(&layer.bias_input), layer.bias_hidden.as_ref()];
            let mut values: Vec<_> =
                biases.into_iter().map(|bias| bias.unwrap().val().abs().max()).collect();
            values.push(layer.weight_hidden.val().abs().max());
            for largest in values {
                let largest = largest.into_scalar::<f64>();
                assert!(largest > 0.98 * range && largest < 1.0001 * range, "{largest}, {range}");
            }
        }
    }

    #[test]
    fn a_dropped_word_is_missing_wherever_it_stands() {
        let device = Device::default().autodiff();
        let text = Tensor::<2, Int>::from_data([[1, 2], [2, 1], [1, 1], [3, 2]], &device);
        for tie in [WordTie::Sequence, WordTie::Window] {
            let dropout = Dropout { word: 0.5, word_tie: tie, ..Dropout::default() };
            let model = RecurrentLmConfig { dropout, ..config() }.init(&device);
            for _ in 0..8 {
                let mask = model.sample_masks(&text).words.unwrap();
                assert_eq!(mask.dims(), [4, 2, 1]);
                let mask: Vec<f32> = mask.to_data().iter::<f32>().collect();
                // Word 1 in the first sequence: steps 0 and 2; in the second: steps 1 and 2.
                assert_eq!(mask[0], mask[4]);
                assert_eq!(mask[3], mask[5]);
                if tie == WordTie::Window {
                    assert_eq!(mask[0], mask[3]);
                }
            }
        }
    }

    /// At the first step nothing is known: the loss is that of a uniform guess.
    #[test]
    fn the_first_loss_is_the_logarithm_of_the_vocabulary() {
        let device = Device::default();
        let small = RecurrentLmConfig { vocab_size: 1000, init_range: 0.01, ..config() };
        let model = small.init(&device);
        let tokens = Tensor::<2, Int>::from_data([[1, 20], [300, 4]], &device);
        let output = model.forward(tokens.clone(), model.zero_state(2));
        let nll = model.nll(output.dropped, tokens).mean().into_scalar::<f32>();
        // Logits are within 0.02 of each other.
        assert!((nll - 1000_f32.ln()).abs() < 0.02, "{nll}");
    }

    /// Noise is drawn in training only, and in the recurrence it reaches the later steps.
    #[test]
    fn a_stochastic_output_has_a_mean() {
        let device = Device::default().autodiff();
        for in_recurrence in [false, true] {
            let stochastic = Some(StochasticConfig { initial_sigma: 0.5, in_recurrence });
            let config = RecurrentLmConfig { stochastic, ..config() };
            let model = config.init(&device);
            assert_eq!(config.num_params(), model.num_params());
            let words = tokens([3, 2]);
            let masks = model.sample_masks(&words);
            let run = |masks: &LmMasks| {
                model.forward_with_masks(words.clone(), model.zero_state(2), masks)
            };
            let (noisy, quiet) = (run(&masks), run(&LmMasks::default()));
            assert!(quiet.mean.is_none());
            let mean = noisy.mean.unwrap().to_data();
            assert_ne!(noisy.hidden[2].to_data(), mean);
            let same = mean == quiet.hidden[2].to_data();
            assert_eq!(same, !in_recurrence, "the recurrence sees the noise if it is told to");
            assert!(model.valid().sample_masks(&words).noise.is_none());
        }
    }

    #[test]
    fn tied_weights_are_one_parameter() {
        let tied = RecurrentLmConfig { tie_weights: true, d_embed: 4, ..config() };
        let untied = RecurrentLmConfig { d_embed: 4, ..config() };
        let count = |config: RecurrentLmConfig| config.init(&Device::default()).num_params();
        assert_eq!(count(untied) - count(tied), 4 * 11);
    }

    #[test]
    fn parameters_are_counted_without_drawing_them() {
        let device = Device::default();
        for cell in [lstm(1), lstm(2), sru(), rhn(3), CellConfig::Nas] {
            for (d_embed, tie_weights) in [(3, false), (4, false), (4, true)] {
                let config =
                    RecurrentLmConfig { cell: cell.clone(), d_embed, tie_weights, ..config() };
                assert_eq!(config.num_params(), config.init(&device).num_params(), "{config:?}");
            }
        }
        let narrow_top = RecurrentLmConfig { d_output: 3, tie_weights: true, ..config() };
        assert_eq!(narrow_top.num_params(), narrow_top.init(&device).num_params());
    }

    /// Each weight has a mean and a ρ, the decoder's bias a value: Fortunato et al., 19.8 M weights, 39.5 M parameters.
    #[test]
    fn a_posterior_has_two_parameters_a_weight() {
        let prior = ScaleMixture {
            pi: 0.25,
            log_sigma1: -1.0,
            log_sigma2: -7.0,
            over: MixtureOver::Weight,
        };
        let medium = RecurrentLmConfig {
            vocab_size: 10_000,
            d_embed: 650,
            d_hidden: 650,
            d_output: 650,
            num_layers: 2,
            cell: lstm(1),
            ..config()
        };
        assert_eq!(medium.num_params(), 19_775_200);
        let bayesian = RecurrentLmConfig { posterior: Some(prior), ..medium };
        assert_eq!(bayesian.num_params(), 39_540_400);
        for tie_weights in [false, true] {
            let small =
                RecurrentLmConfig { posterior: Some(prior), d_embed: 4, tie_weights, ..config() };
            assert_eq!(small.num_params(), small.init(&Device::default()).num_params());
        }
    }

    /// Merity et al. list 21 M on Penn Treebank; the equations give 20.2 M.
    #[test]
    fn a_pointer_adds_a_square_matrix_and_two_vectors() {
        let medium = |vocab_size| RecurrentLmConfig {
            vocab_size,
            d_embed: 650,
            d_hidden: 650,
            d_output: 650,
            num_layers: 2,
            cell: lstm(1),
            pointer: Some(PointerConfig { window: 100, state_gradient: true }),
            ..config()
        };
        assert_eq!(medium(10_000).num_params(), 19_775_200 + 650 * 650 + 2 * 650);
        assert_eq!(medium(10_000).num_params(), 20_199_000);
        assert_eq!(medium(33_278).num_params(), 50_483_678);
        let small = RecurrentLmConfig { d_output: 3, ..medium(11) };
        let small = RecurrentLmConfig { d_embed: 4, d_hidden: 5, ..small };
        assert_eq!(small.num_params(), small.init(&Device::default()).num_params());
    }

    /// The sizes that the papers give, or that follow from theirs.
    #[test]
    fn published_models_have_their_sizes() {
        let untied = |cell, num_layers, width, vocab_size| RecurrentLmConfig {
            vocab_size,
            d_embed: width,
            d_hidden: width,
            d_output: width,
            num_layers,
            cell,
            ..config()
        };
        let tied = |cell, num_layers, width| RecurrentLmConfig {
            tie_weights: true,
            ..untied(cell, num_layers, width, 10_000)
        };
        for (model, expected) in [
            // Zaremba et al.: small, medium (19.78 M) and large (66.03 M).
            (untied(lstm(2), 2, 200, 10_000), 4_653_200),
            (untied(lstm(2), 2, 650, 10_000), 19_780_400),
            (untied(lstm(2), 2, 1500, 10_000), 66_034_000),
            // Xie et al., whose vocabulary has a blank: 14.45 M and 66.03 M.
            (untied(lstm(1), 2, 512, 10_001), 14_449_425),
            (untied(lstm(1), 2, 1500, 10_001), 66_025_001),
            // Shared embedding: 9.33 M.
            (tied(lstm(1), 2, 512), 9_328_400),
            // SRU: 24.03 M and 24.23 M.
            (tied(sru(), 6, 910), 24_026_720),
            (tied(sru(), 5, 980), 24_225_800),
            // RHN: 32.08 M untied at depth 8, 23.48 M tied at depth 10.
            (untied(rhn(8), 1, 890, 10_000), 32_082_040),
            (tied(rhn(10), 1, 830), 23_482_400),
            // AWD-LSTM: 24 M.
            (RecurrentLmConfig { d_hidden: 1150, ..tied(lstm(2), 3, 400) }, 24_221_600),
        ] {
            assert_eq!(model.num_params(), expected, "{model:?}");
        }
    }

    #[test]
    #[should_panic(expected = "no site layer[3].hidden")]
    fn a_site_outside_the_model_panics() {
        let device = Device::default();
        let model = config().init(&device);
        let output = model.forward(Tensor::zeros([1, 1], &device), model.zero_state(1));
        model.activation(&output, Site::LayerHidden(3));
    }
}
