use burn::nn::activation::Activation;
use burn::nn::{self, Linear};
use burn::tensor::Tensor;

use super::lstm::{Lstm, LstmConfig, LstmWeights};
use crate::lstm::LstmState;

/// A `burn::nn::Lstm` that [`Lstm`] cannot represent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an LSTM with {0} has no fused equal")]
pub struct UnsupportedLstm(&'static str);

impl Lstm {
    /// The same layer with the weights of its four gates side by side; computes the same, up to
    /// rounding.
    ///
    /// # Errors
    ///
    /// If the layer runs in reverse, clips its cell, couples its gates, has an activation that is
    /// not the usual one, or has gates with and gates without a bias.
    pub fn from_burn_nn(lstm: nn::Lstm) -> Result<Self, UnsupportedLstm> {
        let usual_activations = matches!(
            (&lstm.gate_activation, &lstm.cell_activation, &lstm.hidden_activation),
            (Activation::Sigmoid(_), Activation::Tanh(_), Activation::Tanh(_))
        );
        for (unsupported, what) in [
            (lstm.reverse, "a reversed sequence"),
            (lstm.clip.is_some(), "a clipped cell"),
            (lstm.input_forget, "coupled gates"),
            (!usual_activations, "other activations"),
        ] {
            if unsupported {
                return Err(UnsupportedLstm(what));
            }
        }
        let forget_gate = lstm.forget_gate.ok_or(UnsupportedLstm("coupled gates"))?;

        let gates = [lstm.input_gate, forget_gate, lstm.cell_gate, lstm.output_gate];
        let (inputs, hiddens): (Vec<_>, Vec<_>) =
            gates.into_iter().map(|gate| (gate.input_transform, gate.hidden_transform)).unzip();
        let (input, bias_input) = side_by_side(inputs)?;
        let (hidden, bias_hidden) = side_by_side(hiddens)?;
        let [d_input, _] = input.dims();
        let config = LstmConfig::new(d_input, lstm.d_hidden, bias_input.is_some())
            .with_batch_first(lstm.batch_first);
        Ok(config.build(LstmWeights { input, hidden, bias_input, bias_hidden }))
    }
}

impl From<nn::LstmState<2>> for LstmState {
    fn from(state: nn::LstmState<2>) -> Self {
        Self { hidden: state.hidden, cell: state.cell }
    }
}

/// Weight `[d_in, 4 · d_hidden]` and bias `[4 · d_hidden]` of four gates.
fn side_by_side(gates: Vec<Linear>) -> Result<(Tensor<2>, Option<Tensor<1>>), UnsupportedLstm> {
    let (weights, biases): (Vec<_>, Vec<_>) = gates
        .into_iter()
        .map(|Linear { weight, bias }| (weight.into_value(), bias.map(|bias| bias.into_value())))
        .unzip();
    let biases: Vec<_> = biases.into_iter().flatten().collect();
    let bias = match biases.len() {
        0 => None,
        4 => Some(Tensor::cat(biases, 0).detach()),
        _ => return Err(UnsupportedLstm("a bias in some of its gates")),
    };
    Ok((Tensor::cat(weights, 1).detach(), bias))
}
