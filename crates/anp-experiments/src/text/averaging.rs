use burn::module::Module;
use serde::{Deserialize, Serialize};

use crate::moving_mean::move_towards;

/// Averaging of parameters over steps: its state without the averages themselves.
///
/// ```text
/// after step k:  a ← p               k ≤ 2
///                a ← a + (p − a) / (k − 1)   k > 2
/// ```
///
/// Polyak & Juditsky, 1992, as implemented by `torch.optim.ASGD` with `t0 = 0` and `lambd = 0`,
/// which trained the published AWD-LSTM: the mean excludes the first step, and each step uses the
/// learning rate of the step before it. The latter matters only if windows have different lengths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Averaging {
    steps: u64,
    next_learning_rate: Option<f64>,
}

impl Averaging {
    /// The learning rate of the next step, whose window has `learning_rate`.
    pub fn learning_rate(&mut self, learning_rate: f64) -> f64 {
        self.next_learning_rate.replace(learning_rate).unwrap_or(learning_rate)
    }

    /// Add the parameters of `module` after another step to the average.
    ///
    /// # Panics
    ///
    /// If `average` has other parameters than `module`.
    #[must_use]
    pub fn add<M: Module>(&mut self, average: Option<M>, module: &M) -> M {
        self.steps += 1;
        let average = match average {
            Some(average) if self.steps > 2 => average,
            _ => return module.clone(),
        };
        move_towards(average, module, 1.0 / (self.steps - 1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::{Device, Tensor};

    use super::*;

    fn layer(value: f32, device: &Device) -> Linear {
        let mut layer = LinearConfig::new(2, 3).init(device);
        let tracked = device.is_autodiff();
        layer.weight = layer.weight.map(|weight| weight.full_like(value).set_require_grad(tracked));
        layer.bias = layer
            .bias
            .map(|bias| bias.map(|bias| bias.full_like(-value).set_require_grad(tracked)));
        layer
    }

    /// Of 10, 1, 2 and 6, the first is excluded.
    #[test]
    fn the_average_is_the_mean_of_all_steps_but_the_first() {
        for device in [Device::default(), Device::default().autodiff()] {
            let mut averaging = Averaging::default();
            let mut average = None;
            for (value, expected) in [(10.0, 10.0), (1.0, 1.0), (2.0, 1.5), (6.0, 3.0)] {
                average = Some(averaging.add(average, &layer(value, &device)));
                let average = average.as_ref().unwrap();
                let near = |tensor: Tensor<1>, expected: f32| {
                    let values = tensor.into_data();
                    assert!(values.iter::<f32>().all(|value| (value - expected).abs() < 1e-6));
                };
                near(average.weight.val().reshape([-1]), expected);
                near(average.bias.as_ref().unwrap().val(), -expected);
                assert_eq!(average.weight.val().is_require_grad(), device.is_autodiff());
            }
        }
    }

    #[test]
    fn a_step_has_the_learning_rate_of_the_step_before() {
        let mut averaging = Averaging::default();
        let rates = [3.0, 5.0, 4.0].map(|rate| averaging.learning_rate(rate));
        assert_eq!(rates, [3.0, 3.0, 5.0]);
    }
}
