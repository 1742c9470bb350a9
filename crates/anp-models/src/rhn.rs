use anp_kernels::Kernels;
use anp_kernels::rhn::RhnInputs;
use burn::module::{Module, Param};
use burn::tensor::{Device, Distribution, Tensor};

use crate::dropout::mask_weight;
use crate::lstm::uniform;

/// Configuration of one [`RhnLayer`].
#[derive(Debug, Clone, PartialEq)]
pub struct RhnLayerConfig {
    /// Width of the input.
    pub d_input: usize,
    /// Number of units.
    pub d_hidden: usize,
    /// Micro-steps in each time step.
    pub depth: usize,
    /// What the biases of the transform gates start at.
    pub transform_bias: f64,
    /// Weights and the other biases start uniform in `[-init_range, init_range]`.
    pub init_range: f64,
    /// How the recurrence is computed.
    pub kernels: Kernels,
}

impl RhnLayerConfig {
    /// Draw the parameters on `device`, from its random number generator.
    ///
    /// # Panics
    ///
    /// If `depth` is 0.
    pub fn init(&self, device: &Device) -> RhnLayer {
        let Self { d_input, d_hidden, depth, .. } = *self;
        assert!(depth > 0, "a recurrent highway network needs a micro-step");
        let range = Distribution::Uniform(-self.init_range, self.init_range);
        let candidate = Tensor::random([depth, d_hidden], range, device);
        let transform = Tensor::full([depth, d_hidden], self.transform_bias, device);
        RhnLayer {
            weight_input: uniform([d_input, 2 * d_hidden], self.init_range, device),
            weight_hidden: uniform([depth, d_hidden, 2 * d_hidden], self.init_range, device),
            bias: Param::from_tensor(Tensor::cat(vec![candidate, transform], 1)),
            kernels: self.kernels,
        }
    }
}

/// A Recurrent Highway Network layer over a time-first sequence ([Zilly et al., 2016]), carry and transform gates coupled.
///
/// ```text
/// s_0 = y_{t−1}
/// h, u = split((x_t W if l = 1) + (s_{l−1} ⊙ m) R_l + b_l),   h = tanh(h),   u = σ(u)
/// s_l = h ⊙ u + s_{l−1} ⊙ (1 − u)
/// y_t = s_depth
/// ```
///
/// [Zilly et al., 2016]: https://arxiv.org/abs/1607.03474
#[derive(Module, Debug)]
pub struct RhnLayer {
    /// `W`, the columns of `h` before those of `u`: `[d_input, 2 · d_hidden]`.
    pub weight_input: Param<Tensor<2>>,
    /// `R`: `[depth, d_hidden, 2 · d_hidden]`.
    pub weight_hidden: Param<Tensor<3>>,
    /// `b`: `[depth, 2 · d_hidden]`.
    pub bias: Param<Tensor<2>>,
    #[module(skip)]
    kernels: Kernels,
}

impl RhnLayer {
    /// Run over a window: all `y_t`, `[seq_length, batch_size, d_hidden]`.
    ///
    /// # Shapes
    ///
    /// - `input`: `[seq_length, batch_size, d_input]`
    /// - `state`: `[batch_size, d_hidden]`
    /// - `mask`: `m`, `[1, batch_size, d_hidden]`, or `[2, batch_size, d_hidden]` for each gate its own
    /// - `weight_mask`: what `R` is multiplied by, `[depth, d_hidden, 2 · d_hidden]`
    ///
    /// # Panics
    ///
    /// If a shape does not fit.
    pub fn forward(
        &self,
        input: Tensor<3>,
        state: Tensor<2>,
        mask: Option<Tensor<3>>,
        weight_mask: Option<Tensor<3>>,
    ) -> Tensor<3> {
        let [seq_length, batch_size, d_input] = input.dims();
        let [expected, width] = self.weight_input.dims();
        assert_eq!(
            d_input, expected,
            "the RHN's input has width {d_input}, its weight wants {expected}"
        );
        let input = input.reshape([seq_length * batch_size, d_input]);
        let gates = self.kernels.matmul(input, self.weight_input.val());
        let gates = gates.reshape([seq_length, batch_size, width]);
        self.kernels.rhn_sequence(RhnInputs {
            gates,
            weight_hidden: mask_weight(&self.weight_hidden, weight_mask),
            bias: self.bias.val(),
            mask,
            state,
        })
    }
}
