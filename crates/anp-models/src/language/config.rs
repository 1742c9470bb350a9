use anp_core::validate_dropout;
use anp_kernels::{Kernels, MatmulPrecision};
use burn::config::Config;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::dropout::Dropout;
use super::pointer::PointerConfig;
use super::posterior::{ScaleMixture, WeightPosterior};
use super::recurrent_lm::RecurrentLm;
use super::stochastic::StochasticConfig;
use crate::cell::{CellConfig, LayerInit, ParamCount};
use crate::init::{BiasInit, draw, within};

/// Configuration of a [`RecurrentLm`].
#[derive(Config, Debug, PartialEq)]
pub struct RecurrentLmConfig {
    /// Words of the vocabulary.
    pub vocab_size: usize,
    /// Width of the word embedding.
    pub d_embed: usize,
    /// Units of each recurrent layer, but of the last one where [`d_output`](Self::d_output) is
    /// another.
    pub d_hidden: usize,
    /// Units of the last recurrent layer, if not `d_hidden`.
    pub d_output: Option<usize>,
    /// Number of recurrent layers.
    #[config(default = 1)]
    pub num_layers: usize,
    /// Kind of the recurrent layers.
    #[config(default = "CellConfig::default()")]
    pub cell: CellConfig,
    /// Whether the decoder uses the embedding's weight.
    #[config(default = false)]
    pub tie_weights: bool,
    /// Where activations are dropped.
    #[config(default = "Dropout::default()")]
    pub dropout: Dropout,
    /// The embedding, the decoder's weight and the weights of the layers start uniform in
    /// `[-init_range, init_range]`.
    #[config(default = 0.1)]
    pub init_range: f64,
    /// The range of the layers, if it is another.
    pub layer_init_range: Option<LayerInitRange>,
    /// Initial values of the decoder's bias.
    #[config(default = "BiasInit::Zeros")]
    pub decoder_bias_init: BiasInit,
    /// Noise on the output of the last layer.
    pub stochastic: Option<StochasticConfig>,
    /// A pointer to the last words, beside the decoder.
    pub pointer: Option<PointerConfig>,
    /// Prior of the weights, where each has a distribution and not a value.
    pub posterior: Option<ScaleMixture>,
    /// How recurrences and losses are computed.
    #[config(default = "Kernels::Fused")]
    pub kernels: Kernels,
    /// Of the matrix products of layers and decoder.
    #[config(default = "MatmulPrecision::Full")]
    pub precision: MatmulPrecision,
}

/// Range of the first values of a layer's weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerInitRange {
    /// The same for all layers.
    Fixed(f64),
    /// One over the root of the layer's units: the default of `torch.nn.LSTM`.
    InverseRootUnits,
}

impl RecurrentLmConfig {
    /// Draw the parameters on `device`, from its random number generator: embedding, layers,
    /// decoder, pointer, posterior.
    ///
    /// # Panics
    ///
    /// If `num_layers` is 0, the cell's values are refused by its layer, a dropout is outside
    /// `[0, 1)`, or `tie_weights` is set and `d_embed` differs from the width of the last layer.
    pub fn init(&self, device: &Device) -> RecurrentLm {
        let (d_embed, d_output) = (self.d_embed, self.d_output());
        assert!(self.num_layers > 0, "a recurrent language model needs a layer");
        assert!(
            !self.tie_weights || d_embed == d_output,
            "tied weights need an embedding as wide as the last layer, not {d_embed} and {d_output}"
        );
        for (name, p) in self.dropout.rates() {
            validate_dropout(name, p).unwrap_or_else(|err| panic!("{err}"));
        }

        let weight = |shape: [usize; 2]| draw(within(self.init_range), shape, device);
        let layer = |[d_input, d_hidden]: [usize; 2]| {
            let range = match self.layer_init_range {
                None => self.init_range,
                Some(LayerInitRange::Fixed(range)) => range,
                Some(LayerInitRange::InverseRootUnits) => (d_hidden as f64).sqrt().recip(),
            };
            let (kernels, precision) = (self.kernels, self.precision);
            self.cell.init(LayerInit { d_input, d_hidden, range, kernels, precision }, device)
        };
        let decoder_bias = self.decoder_bias_init.initializer(self.init_range);
        let mut lm = RecurrentLm {
            embedding: weight([self.vocab_size, d_embed]),
            layers: self.layer_dims().map(layer).collect(),
            decoder_weight: (!self.tie_weights).then(|| weight([d_output, self.vocab_size])),
            decoder_bias: draw(decoder_bias, [self.vocab_size], device),
            stochastic: self.stochastic.map(|config| config.init(d_output, device)),
            pointer: self.pointer.map(|config| config.init(d_output, self.init_range, device)),
            posterior: None,
            dropout: self.dropout,
            kernels: self.kernels,
            precision: self.precision,
        };
        lm.posterior = self.posterior.map(|prior| {
            // σ as shares of the prior's, as in Sonnet's example.
            let mut posterior = WeightPosterior::new(prior);
            posterior.cover(&lm.embedding, [0.5, 1.0], device);
            posterior.cover(&lm.layers, [0.25, 0.5], device);
            posterior.cover(&lm.decoder_weight, [0.5, 1.0], device);
            posterior
        });
        lm
    }

    /// Parameters of the network, without drawing them.
    pub fn num_params(&self) -> usize {
        let d_output = self.d_output();
        let layers: usize = self.layer_params().map(|layer| layer.weights + layer.biases).sum();
        let decoder = if self.tie_weights { 0 } else { d_output * self.vocab_size };
        let weights = self.vocab_size * self.d_embed + layers + decoder;
        let values = if self.posterior.is_some() { 2 } else { 1 };
        let noise = if self.stochastic.is_some() { d_output } else { 0 };
        let pointer = self.pointer.map_or(0, |_| PointerConfig::num_params(d_output));
        values * weights + self.vocab_size + noise + pointer
    }

    /// Multiply-adds of one token, forward, in recurrent layers and decoder; the rest is small.
    pub fn multiply_adds(&self) -> usize {
        let layers: usize = self.layer_params().map(|layer| layer.weights).sum();
        layers + self.d_output() * self.vocab_size
    }

    fn layer_params(&self) -> impl Iterator<Item = ParamCount> {
        self.layer_dims().map(|dims| self.cell.param_count(dims))
    }

    /// Units of the last recurrent layer.
    pub fn d_output(&self) -> usize {
        self.d_output.unwrap_or(self.d_hidden)
    }

    /// Widths of input and output of each layer.
    fn layer_dims(&self) -> impl Iterator<Item = [usize; 2]> {
        (0..self.num_layers).map(|layer| {
            let d_input = if layer == 0 { self.d_embed } else { self.d_hidden };
            let is_last = layer + 1 == self.num_layers;
            [d_input, if is_last { self.d_output() } else { self.d_hidden }]
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;

    use super::*;
    use crate::cell::{LstmCellConfig, RecurrentLayer};
    use crate::language::MixtureOver;
    use crate::language::tests::{config, lstm, nas, rhn, sru};

    /// `torch.nn.LSTM` starts each layer in ± 1 / √units.
    #[test]
    fn the_range_of_a_layer_may_follow_from_its_units() {
        let cell = LstmCellConfig::new().with_num_biases(2).with_bias_init(BiasInit::Uniform);
        let model = RecurrentLmConfig::new(11, 3, 100)
            .with_d_output(Some(400))
            .with_num_layers(2)
            .with_cell(CellConfig::Lstm(cell))
            .with_init_range(7.0)
            .with_layer_init_range(Some(LayerInitRange::InverseRootUnits))
            .init(&Device::default());
        for (layer, range) in model.layers.iter().zip([0.1, 0.05]) {
            let RecurrentLayer::Lstm(layer) = layer else { unreachable!("it is an LSTM") };
            let biases = [&layer.bias_input, &layer.bias_hidden];
            let mut values: Vec<_> =
                biases.map(|bias| bias.as_ref().unwrap().val().abs().max()).to_vec();
            values.push(layer.weight_hidden.val().abs().max());
            for largest in values {
                let largest = largest.into_scalar::<f64>();
                assert!(largest > 0.98 * range && largest < 1.0001 * range, "{largest}, {range}");
            }
        }
    }

    #[test]
    fn tied_weights_are_one_parameter() {
        let untied = RecurrentLmConfig { d_embed: 4, ..config() };
        let tied = untied.clone().with_tie_weights(true);
        let count = |config: RecurrentLmConfig| config.init(&Device::default()).num_params();
        assert_eq!(count(untied) - count(tied), 4 * 11);
    }

    #[test]
    fn parameters_are_counted_without_drawing_them() {
        let device = Device::default();
        for cell in [lstm(1), lstm(2), sru(), rhn(3), nas()] {
            for (d_embed, tie_weights) in [(3, false), (4, false), (4, true)] {
                let config = RecurrentLmConfig { d_embed, ..config() }
                    .with_cell(cell.clone())
                    .with_tie_weights(tie_weights);
                assert_eq!(config.num_params(), config.init(&device).num_params(), "{config:?}");
            }
        }
        let narrow_top = config().with_d_output(Some(3)).with_tie_weights(true);
        assert_eq!(narrow_top.num_params(), narrow_top.init(&device).num_params());
    }

    /// Each weight has a mean and a ρ, the decoder's bias a value: Fortunato et al., 19.8 M
    /// weights, 39.5 M parameters.
    #[test]
    fn a_posterior_has_two_parameters_per_weight() {
        let prior = ScaleMixture {
            pi: 0.25,
            log_sigma1: -1.0,
            log_sigma2: -7.0,
            over: MixtureOver::Weight,
        };
        let medium = RecurrentLmConfig::new(10_000, 650, 650).with_num_layers(2);
        assert_eq!(medium.num_params(), 19_775_200);
        let bayesian = medium.with_posterior(Some(prior));
        assert_eq!(bayesian.num_params(), 39_540_400);
        for tie_weights in [false, true] {
            let small = RecurrentLmConfig { d_embed: 4, ..config() }
                .with_tie_weights(tie_weights)
                .with_posterior(Some(prior));
            assert_eq!(small.num_params(), small.init(&Device::default()).num_params());
        }
    }

    /// Merity et al. list 21 M on Penn Treebank; the equations give 20.2 M.
    #[test]
    fn a_pointer_adds_a_square_matrix_and_two_vectors() {
        let pointer = Some(PointerConfig { window: 100, state_gradient: true });
        let with_pointer =
            |config: RecurrentLmConfig| config.with_num_layers(2).with_pointer(pointer);
        let medium = |vocab_size| with_pointer(RecurrentLmConfig::new(vocab_size, 650, 650));
        assert_eq!(medium(10_000).num_params(), 19_775_200 + 650 * 650 + 2 * 650);
        assert_eq!(medium(10_000).num_params(), 20_199_000);
        assert_eq!(medium(33_278).num_params(), 50_483_678);
        let small = with_pointer(RecurrentLmConfig::new(11, 4, 5)).with_d_output(Some(3));
        assert_eq!(small.num_params(), small.init(&Device::default()).num_params());
    }

    /// The sizes that the papers give, or that follow from theirs.
    #[test]
    fn published_models_have_their_sizes() {
        let untied = |cell, num_layers, width, vocab_size| {
            RecurrentLmConfig::new(vocab_size, width, width)
                .with_num_layers(num_layers)
                .with_cell(cell)
        };
        let tied = |cell, num_layers, width| {
            untied(cell, num_layers, width, 10_000).with_tie_weights(true)
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
            (
                RecurrentLmConfig { d_hidden: 1150, ..tied(lstm(2), 3, 400) }
                    .with_d_output(Some(400)),
                24_221_600,
            ),
        ] {
            assert_eq!(model.num_params(), expected, "{model:?}");
        }
    }
}
