use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::gradient_norm::gradient_norm;

/// Scale all gradients together so that their common L2 norm is at most `max_norm`.
///
/// ```text
/// g ← g · min(1, max_norm / ‖g‖₂),  ‖g‖₂² = Σ over all parameters and elements of g²
/// ```
///
/// Burn's own clipping uses the norm of each tensor separately, which is a different optimizer.
///
/// Returns the gradients and `‖g‖₂` before the clip, `[1]`. Does not wait for the device.
///
/// # Panics
///
/// If no parameter of `module` has a gradient.
pub fn clip_by_global_norm<M: Module>(
    module: &M,
    gradients: GradientsParams,
    max_norm: f64,
) -> (GradientsParams, Tensor<1>) {
    let norm = gradient_norm(module, &gradients);
    let scale = (norm.clone().recip() * max_norm).clamp_max(1.0);
    let mut scaler = Scaler { gradients, scale };
    module.visit(&mut scaler);
    (scaler.gradients, norm)
}

struct Scaler {
    gradients: GradientsParams,
    scale: Tensor<1>,
}

impl ModuleVisitor for Scaler {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.gradients.register(param.id, gradient * self.scale.clone().unsqueeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use anp_testing::lock_generator;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::{Device, TensorData, Tolerance};

    use super::*;

    /// Gradients of a layer whose loss is Σ (x W + b): each weight's is 3, each bias's 1.
    fn gradients(layer: &Linear, device: &Device) -> GradientsParams {
        let input = Tensor::<2>::from_data([[3.0, 3.0]], device);
        GradientsParams::from_grads(layer.forward(input).sum().backward(), layer)
    }

    #[test]
    fn one_norm_covers_all_parameters() {
        let _turn = lock_generator();
        let device = Device::default().autodiff();
        let layer = LinearConfig::new(2, 2).init(&device);
        // ‖g‖² = 4 · 3² + 2 · 1² = 38
        let (clipped, norm) = clip_by_global_norm(&layer, gradients(&layer, &device), 0.5);
        let tolerance = Tolerance::<f32>::rel_abs(1e-6, 0.0);
        norm.into_data().assert_approx_eq(&TensorData::from([38.0_f32.sqrt()]), tolerance);
        let scale = 0.5 / 38.0_f32.sqrt();
        let weight = clipped.get::<2>(layer.weight.id).unwrap();
        weight.into_data().assert_approx_eq(&TensorData::from([[3.0 * scale; 2]; 2]), tolerance);
        let bias = clipped.get::<1>(layer.bias.as_ref().unwrap().id).unwrap();
        bias.into_data().assert_approx_eq(&TensorData::from([scale; 2]), tolerance);
    }

    #[test]
    fn small_gradients_are_left_alone() {
        let _turn = lock_generator();
        let device = Device::default().autodiff();
        let layer = LinearConfig::new(2, 2).init(&device);
        let (clipped, _) = clip_by_global_norm(&layer, gradients(&layer, &device), 7.0);
        let weight = clipped.get::<2>(layer.weight.id).unwrap();
        weight.into_data().assert_eq(&TensorData::from([[3.0_f32; 2]; 2]), true);
    }
}
