//! What the operation reads and returns.

use burn::tensor::Tensor;

use crate::precision::MatmulPrecision;

/// Inputs of a Recurrent Highway Network over a sequence.
#[derive(Debug, Clone)]
pub struct RhnInputs {
    /// `x_t W` of all steps, the columns of `h` before those of `u`: `[seq_length, batch_size, 2 ·
    /// d_hidden]`.
    pub gates: Tensor<3>,
    /// `R`: `[depth, d_hidden, 2 · d_hidden]`.
    pub weight_hidden: Tensor<3>,
    /// `b`: `[depth, 2 · d_hidden]`.
    pub bias: Tensor<2>,
    /// `m`, constant over steps and micro-steps and scaled by `1 / (1 − p)`: `[1, batch_size,
    /// d_hidden]` for both gates, as in the authors' TensorFlow code, or `[2, batch_size,
    /// d_hidden]` with one per gate, as in their Torch code. Not differentiated.
    pub mask: Option<Tensor<3>>,
    /// `y` before the first step: `[batch_size, d_hidden]`.
    pub state: Tensor<2>,
    /// Of the recurrent products.
    pub precision: MatmulPrecision,
}
