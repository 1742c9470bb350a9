use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType, backend_extension};

use crate::backend::Optional;
#[cfg(feature = "fusion")]
use crate::backend::{sequence_spec, spec};
use crate::recurrence::Recurrence;

/// What the forward half of an LSTM reads.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct LstmForward<B: Backend> {
    /// `x_t W_x` of all steps: `[seq_length, batch_size, 4 · d_hidden]`; written over where nobody else holds it.
    pub gates: FloatTensor<B>,
    /// `[4 · d_hidden]`.
    pub bias: FloatTensor<B>,
    /// With a weight of `[d_hidden, 4 · d_hidden]`.
    #[extension_type]
    pub recurrence: Recurrence<B>,
    /// The cell state before the first step: `[batch_size, d_hidden]`.
    pub cell0: FloatTensor<B>,
    /// Constant added to the forget gate's pre-activation.
    pub forget_bias: f64,
}

/// What the forward half of an LSTM returns.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct LstmOutputs<B: Backend> {
    /// Hidden states of all steps: `[seq_length, batch_size, d_hidden]`.
    pub hidden: FloatTensor<B>,
    /// Cell states of all steps: `[seq_length, batch_size, d_hidden]`.
    pub cell: FloatTensor<B>,
    /// `σ(i), σ(f + forget_bias), tanh(g), σ(o)`, which the backward half needs: `[seq_length, batch_size, 4 · d_hidden]`.
    pub activated: FloatTensor<B>,
}

/// What the backward half of an LSTM needs of the forward half.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct LstmSaved<B: Backend> {
    /// As the forward half read it.
    #[extension_type]
    pub recurrence: Recurrence<B>,
    /// As the forward half read it.
    pub cell0: FloatTensor<B>,
    /// What the forward half returned.
    #[extension_type]
    pub outputs: LstmOutputs<B>,
}

/// Gradients of what the forward half of an LSTM reads, but for the mask, each of its input's shape.
#[derive(Debug, Clone, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
#[allow(missing_docs)]
pub struct LstmGradients<B: Backend> {
    pub gates: FloatTensor<B>,
    pub bias: FloatTensor<B>,
    pub weight_hidden: FloatTensor<B>,
    pub hidden0: FloatTensor<B>,
    pub cell0: FloatTensor<B>,
}

/// The forward half of an LSTM over a sequence, as a backend's kernel.
///
/// The caller has checked the shapes.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion"),
    Autodiff
)]
pub trait LstmBackend: Backend {
    /// States of all steps.
    #[fusion(meta = |inputs| {
        let states = sequence_spec(&inputs.gates, &inputs.cell0);
        let activated = inputs.gates.clone();
        LstmOutputsMetadata { hidden: states.clone(), cell: states, activated }
    })]
    fn lstm_forward(#[extension_type] inputs: LstmForward<Self>) -> LstmOutputs<Self>;
}

/// The backward half of an LSTM over a sequence, as a backend's kernel.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion"),
)]
pub trait LstmBackward: LstmBackend {
    /// From the gradients of all hidden and cell states.
    #[fusion(meta = |saved, _, _| {
        let LstmSavedMetadata { recurrence, cell0, outputs } = saved;
        LstmGradientsMetadata {
            gates: outputs.activated.clone(),
            bias: spec(&outputs.activated, [outputs.activated.shape[2]]),
            weight_hidden: recurrence.weight_hidden.clone(),
            hidden0: recurrence.hidden0.clone(),
            cell0: cell0.clone(),
        }
    })]
    fn lstm_backward(
        #[extension_type] saved: LstmSaved<Self>,
        hidden_grad: FloatTensor<Self>,
        #[extension_type] cell_grad: Optional<Self>,
    ) -> LstmGradients<Self>;
}
