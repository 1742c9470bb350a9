//! What the operation reads and returns.

use burn::tensor::Tensor;

/// `g`, the function between the cell state and the hidden state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `g(c) = c`, as in the authors' language models.
    Identity,
    /// `g(c) = tanh(c)`.
    Tanh,
    /// `g(c) = max(c, 0)`.
    Relu,
}

/// Inputs of the scan.
#[derive(Debug, Clone)]
pub struct SruInputs {
    /// `x_t W` of all steps, with the parts candidate, forget, reset and, without `highway`,
    /// highway one after the other: `[seq_length, batch_size, 3 or 4 · d_hidden]`.
    ///
    /// The authors' code interleaves the parts: its column `i · k + j` is column `j · d_hidden + i`
    /// here, for part `j` of `k` and unit `i`. The order of the bias is the same.
    pub product: Tensor<3>,
    /// `x'`, the layer's input, if it is as wide as the layer: `[seq_length, batch_size,
    /// d_hidden]`.
    pub highway: Option<Tensor<3>>,
    /// `b_f, b_r`: `[2 · d_hidden]`.
    pub bias: Tensor<1>,
    /// `m`, constant over the sequence and scaled by `1 / (1 − p)`: `[batch_size, d_hidden]`. Not
    /// differentiated.
    pub mask: Option<Tensor<2>>,
    /// `c` before the first step: `[batch_size, d_hidden]`.
    pub cell: Tensor<2>,
    /// `g`.
    pub activation: Activation,
}

/// States of one layer at all steps of a window.
#[derive(Debug, Clone)]
pub struct SruSequence {
    /// `h_t`: `[seq_length, batch_size, d_hidden]`.
    pub hidden: Tensor<3>,
    /// `c_t`: `[seq_length, batch_size, d_hidden]`.
    pub cell: Tensor<3>,
    /// `c` after the last step, still part of the graph: `[batch_size, d_hidden]`.
    pub last: Tensor<2>,
}
