use burn::config::Config;
use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, LstmState};
use burn::tensor::{Device, Tensor};

use super::{ConfigError, Lstm, LstmConfig, LstmStates, check_dropout, check_size, swap_if};

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
    /// Those of [`LstmConfig::validate`]; [`ConfigError::OutOfRange`] if there is no layer or the dropout is not in
    /// [0, 1).
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.layer.validate()?;
        check_size("num_layers", self.num_layers)?;
        check_dropout("inter_layer_dropout", self.inter_layer_dropout)
    }

    /// Draw the parameters on `device`, from its random number generator, layer by layer.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails, or the initializer cannot draw a vector and there are biases.
    pub fn init(&self, device: &Device) -> LstmStack {
        self.build((0..self.num_layers).map(|index| self.layer(index).init(device)).collect())
    }

    /// Configuration of one layer.
    pub(super) fn layer(&self, index: usize) -> LstmConfig {
        let layer = LstmConfig { batch_first: false, ..self.layer.clone() };
        if index == 0 { layer } else { LstmConfig { d_input: layer.d_hidden, ..layer } }
    }

    pub(super) fn build(&self, layers: Vec<Lstm>) -> LstmStack {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        LstmStack {
            layers,
            inter_layer_dropout: DropoutConfig::new(self.inter_layer_dropout).init(),
            batch_first: self.layer.batch_first,
        }
    }
}

/// Several [`Lstm`] layers, each reading the hidden states of the one before, as in `torch.nn.LSTM`.
///
/// Between layers acts Burn's `Dropout`, with a fresh mask at every step; masks that last a sequence are those of the
/// layers.
#[derive(Module, Debug)]
pub struct LstmStack {
    /// The layers, first one first; each by itself is time-first.
    pub layers: Vec<Lstm>,
    /// Dropout between two layers.
    pub inter_layer_dropout: Dropout,
    /// Whether sequences are `[batch_size, seq_length, ..]`; else they are `[seq_length, batch_size, ..]`.
    pub batch_first: bool,
}

impl LstmStack {
    /// Hidden states of the last layer at all steps, and every layer's state after the last one.
    ///
    /// # Shapes
    ///
    /// - `input`: `[batch_size, seq_length, d_input]` if `batch_first`, else `[seq_length, batch_size, d_input]`
    /// - `states`: for each layer two of `[batch_size, d_hidden]`; `None` is zero
    /// - returns: `input`'s shape with `d_hidden` in place of `d_input`; as `states`
    ///
    /// # Panics
    ///
    /// If there are not as many states as layers, or as [`Lstm::forward`] does.
    pub fn forward(
        &self,
        input: Tensor<3>,
        states: Option<Vec<LstmState<2>>>,
    ) -> (Tensor<3>, Vec<LstmState<2>>) {
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
        states: Option<Vec<LstmState<2>>>,
    ) -> Vec<LstmStates> {
        let num_layers = self.layers.len();
        let states = match states {
            Some(states) => states.into_iter().map(Some).collect(),
            None => vec![None; num_layers],
        };
        assert_eq!(states.len(), num_layers, "the LSTM's layers and states differ in number");

        let mut input = swap_if(self.batch_first, input);
        let mut results = Vec::with_capacity(num_layers);
        for (index, (layer, state)) in self.layers.iter().zip(states).enumerate() {
            if index > 0 {
                input = self.inter_layer_dropout.forward(input);
            }
            let result = layer.forward_states(input, state);
            input = result.hidden.clone();
            results.push(LstmStates {
                hidden: swap_if(self.batch_first, result.hidden),
                cell: swap_if(self.batch_first, result.cell),
                ..result
            });
        }
        results
    }
}
