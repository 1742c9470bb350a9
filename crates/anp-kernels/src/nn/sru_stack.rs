use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{ConfigError, Sru, SruConfig, SruState, SruStates, check_size, swap_if};

/// Configuration of a [`SruStack`].
#[derive(Config, Debug)]
pub struct SruStackConfig {
    /// Every layer; `d_input` is the first one's, that of the others is `d_hidden`.
    ///
    /// The last layer has no `activation_dropout`, as in the authors' code: a dropout of the output is the caller's.
    pub layer: SruConfig,
    /// Number of layers.
    pub num_layers: usize,
}

impl SruStackConfig {
    /// Check the values.
    ///
    /// # Errors
    ///
    /// Those of [`SruConfig::validate`]; [`ConfigError::OutOfRange`] if there is no layer.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.layer.validate()?;
        check_size("num_layers", self.num_layers)
    }

    /// Draw the weights on `device`, from its random number generator, layer by layer.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> SruStack {
        self.build((0..self.num_layers).map(|index| self.layer(index).init(device)).collect())
    }

    /// Configuration of one layer.
    pub(super) fn layer(&self, index: usize) -> SruConfig {
        let SruConfig { d_input, d_hidden, activation_dropout, .. } = self.layer;
        let is_last = index + 1 == self.num_layers;
        SruConfig {
            batch_first: false,
            d_input: if index == 0 { d_input } else { d_hidden },
            activation_dropout: if is_last { 0.0 } else { activation_dropout },
            ..self.layer.clone()
        }
    }

    pub(super) fn build(&self, layers: Vec<Sru>) -> SruStack {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        SruStack { layers, batch_first: self.layer.batch_first }
    }
}

/// Several [`Sru`] layers, each reading the hidden states of the one before.
#[derive(Module, Debug)]
pub struct SruStack {
    /// The layers, first one first; each by itself is time-first.
    pub layers: Vec<Sru>,
    /// Whether sequences are `[batch_size, seq_length, ..]`; else they are `[seq_length, batch_size, ..]`.
    pub batch_first: bool,
}

impl SruStack {
    /// Hidden states of the last layer at all steps, and every layer's state after the last one.
    ///
    /// # Shapes
    ///
    /// - `input`: `[batch_size, seq_length, d_input]` if `batch_first`, else `[seq_length, batch_size, d_input]`
    /// - `states`: one of `[batch_size, d_hidden]` a layer; `None` is zero
    /// - returns: `input`'s shape with `d_hidden` in place of `d_input`; as `states`
    ///
    /// # Panics
    ///
    /// If there are not as many states as layers, or as [`Sru::forward`] does.
    pub fn forward(
        &self,
        input: Tensor<3>,
        states: Option<Vec<SruState>>,
    ) -> (Tensor<3>, Vec<SruState>) {
        let layers = self.forward_states(input, states);
        let output = layers.last().expect("a stack has a layer").hidden.clone();
        (output, layers.into_iter().map(|layer| layer.state).collect())
    }

    /// Hidden and cell states of every layer at all steps.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward).
    pub fn forward_states(
        &self,
        input: Tensor<3>,
        states: Option<Vec<SruState>>,
    ) -> Vec<SruStates> {
        let num_layers = self.layers.len();
        let states = match states {
            Some(states) => states.into_iter().map(Some).collect(),
            None => vec![None; num_layers],
        };
        assert_eq!(states.len(), num_layers, "the SRU's layers and states differ in number");

        let mut input = swap_if(self.batch_first, input);
        let mut results = Vec::with_capacity(num_layers);
        for (layer, state) in self.layers.iter().zip(states) {
            let result = layer.forward_states(input, state);
            input = result.hidden.clone();
            results.push(SruStates {
                hidden: swap_if(self.batch_first, result.hidden),
                cell: swap_if(self.batch_first, result.cell),
                ..result
            });
        }
        results
    }
}
