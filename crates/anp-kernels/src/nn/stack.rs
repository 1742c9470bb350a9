use anp_core::{HyperParamError, validate_dropout, validate_size};
use burn::config::Config;
use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Device, Tensor};

use super::lstm::{Lstm, LstmConfig};
use super::sru::{Sru, SruConfig, SruState};
use super::states::{LayerStates, swap_if};
use crate::lstm::LstmState;

/// A recurrent layer that a [`Stack`] can be made of.
pub trait StackedLayer: Module {
    /// What the layer carries from one window to the next.
    type State: Clone;

    /// What messages call it.
    const NAME: &'static str;

    /// Hidden and cell states at all steps, with masks that the layer draws.
    fn run(&self, input: Tensor<3>, state: Option<Self::State>) -> LayerStates<Self::State>;
}

impl StackedLayer for Lstm {
    type State = LstmState;
    const NAME: &'static str = "LSTM";

    fn run(&self, input: Tensor<3>, state: Option<LstmState>) -> LayerStates<LstmState> {
        self.forward_states(input, state, None)
    }
}

impl StackedLayer for Sru {
    type State = SruState;
    const NAME: &'static str = "SRU";

    fn run(&self, input: Tensor<3>, state: Option<SruState>) -> LayerStates<SruState> {
        self.forward_states(input, state, None)
    }
}

/// Configuration of a [`LstmStack`].
#[derive(Config, Debug)]
pub struct LstmStackConfig {
    /// Every layer; `d_input` is the first one's, that of the others is `d_hidden`.
    pub layer: LstmConfig,
    /// Number of layers.
    pub num_layers: usize,
    /// Probability of dropping an element between two layers.
    #[config(default = 0.0)]
    pub inter_layer_dropout: f64,
}

impl LstmStackConfig {
    /// Check the values.
    ///
    /// # Errors
    ///
    /// Those of [`LstmConfig::validate`]; [`HyperParamError::OutOfRange`] if there is no layer or
    /// the dropout is not in [0, 1).
    pub fn validate(&self) -> Result<(), HyperParamError> {
        self.layer.validate()?;
        validate_size("num_layers", self.num_layers)?;
        validate_dropout("inter_layer_dropout", self.inter_layer_dropout)
    }

    /// Draw the parameters on `device`, from its random number generator, layer by layer.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails, or the initializer cannot draw a vector and there are
    /// biases.
    pub fn init(&self, device: &Device) -> LstmStack {
        self.build(self.layers().map(|layer| layer.init(device)).collect())
    }

    /// The configuration of each layer.
    pub(super) fn layers(&self) -> impl Iterator<Item = LstmConfig> {
        (0..self.num_layers).map(|index| {
            let d_input = if index == 0 { self.layer.d_input } else { self.layer.d_hidden };
            LstmConfig { batch_first: false, d_input, ..self.layer.clone() }
        })
    }

    pub(super) fn build(&self, layers: Vec<Lstm>) -> LstmStack {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        let inter_layer_dropout = DropoutConfig::new(self.inter_layer_dropout).init();
        Stack { layers, inter_layer_dropout, batch_first: self.layer.batch_first }
    }
}

/// Configuration of a [`SruStack`].
#[derive(Config, Debug)]
pub struct SruStackConfig {
    /// Every layer; `d_input` is the first one's, that of the others is `d_hidden`.
    ///
    /// The last layer has no `activation_dropout`, as in the authors' code: a dropout of the output
    /// is the caller's.
    pub layer: SruConfig,
    /// Number of layers.
    pub num_layers: usize,
}

impl SruStackConfig {
    /// Check the values.
    ///
    /// # Errors
    ///
    /// Those of [`SruConfig::validate`]; [`HyperParamError::OutOfRange`] if there is no layer.
    pub fn validate(&self) -> Result<(), HyperParamError> {
        self.layer.validate()?;
        validate_size("num_layers", self.num_layers)
    }

    /// Draw the weights on `device`, from its random number generator, layer by layer.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> SruStack {
        self.build(self.layers().map(|layer| layer.init(device)).collect())
    }

    /// The configuration of each layer.
    pub(super) fn layers(&self) -> impl Iterator<Item = SruConfig> {
        let SruConfig { d_input, d_hidden, activation_dropout, .. } = self.layer;
        (0..self.num_layers).map(move |index| SruConfig {
            batch_first: false,
            d_input: if index == 0 { d_input } else { d_hidden },
            activation_dropout: if index + 1 == self.num_layers { 0.0 } else { activation_dropout },
            ..self.layer.clone()
        })
    }

    pub(super) fn build(&self, layers: Vec<Sru>) -> SruStack {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        let inter_layer_dropout = DropoutConfig::new(0.0).init();
        Stack { layers, inter_layer_dropout, batch_first: self.layer.batch_first }
    }
}

/// Several [`Lstm`] layers, as in `torch.nn.LSTM`.
pub type LstmStack = Stack<Lstm>;

/// Several [`Sru`] layers.
pub type SruStack = Stack<Sru>;

/// Several recurrent layers, each reading the hidden states of the one before.
///
/// Burn's `Dropout` acts between layers, with a fresh mask at every step; masks that last a
/// sequence are those of the layers.
#[derive(Module, Debug)]
pub struct Stack<L> {
    /// The layers, first one first; each by itself is time-first.
    pub layers: Vec<L>,
    /// Dropout between two layers.
    pub inter_layer_dropout: Dropout,
    /// Whether sequences are `[batch_size, seq_length, ..]`; else they are
    /// `[seq_length, batch_size, ..]`.
    pub batch_first: bool,
}

impl<L: StackedLayer> Stack<L> {
    /// Hidden states of the last layer at all steps, and every layer's state after the last one.
    ///
    /// # Shapes
    ///
    /// - `input`: `[batch_size, seq_length, d_input]` if `batch_first`, else
    ///   `[seq_length, batch_size, d_input]`
    /// - `states`: for each layer as for its `forward`; `None` is zero
    /// - returns: `input`'s shape with `d_hidden` in place of `d_input`; as `states`
    ///
    /// # Panics
    ///
    /// If there are not as many states as layers, or as the layers do.
    pub fn forward(
        &self,
        input: Tensor<3>,
        states: Option<Vec<L::State>>,
    ) -> (Tensor<3>, Vec<L::State>) {
        let layers = self.forward_states(input, states);
        let output = layers.last().expect("a stack has a layer").hidden.clone();
        (output, layers.into_iter().map(|layer| layer.state).collect())
    }

    /// Hidden and cell states of every layer at all steps, before the dropout between layers.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward).
    pub fn forward_states(
        &self,
        input: Tensor<3>,
        states: Option<Vec<L::State>>,
    ) -> Vec<LayerStates<L::State>> {
        let num_layers = self.layers.len();
        let states = match states {
            Some(states) => states.into_iter().map(Some).collect(),
            None => vec![None; num_layers],
        };
        let name = L::NAME;
        assert_eq!(states.len(), num_layers, "the {name}'s layers and states differ in number");

        let mut input = swap_if(self.batch_first, input);
        let mut results = Vec::with_capacity(num_layers);
        for (index, (layer, state)) in self.layers.iter().zip(states).enumerate() {
            if index > 0 {
                input = self.inter_layer_dropout.forward(input);
            }
            let result = layer.run(input, state);
            input = result.hidden.clone();
            results.push(result.swap_if(self.batch_first));
        }
        results
    }
}
