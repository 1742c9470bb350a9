//! What a peer of this program repeats.

use burn::tensor::Tensor;

/// Steps of a case.
pub trait Steps {
    /// Take one step; does not wait for its loss.
    fn step(&mut self) -> Tensor<1>;
}
