use std::collections::VecDeque;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// Averaging of the parameters from step to step: how far it is, but for the averages.
///
/// ```text
/// after step k:  a ← p               k ≤ 2
///                a ← a + (p − a) / (k − 1)   k > 2
/// ```
///
/// Polyak & Juditsky, 1992, as `torch.optim.ASGD` with `t0 = 0` and `lambd = 0` does it, with which the published AWD-LSTM
/// was trained: the mean is that of all steps but the first, and a step has the learning rate of the step before it, which
/// shows where windows are of different lengths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Averaging {
    steps: u64,
    next_learning_rate: Option<f64>,
}

impl Averaging {
    /// The learning rate of the coming step, whose window asks for `learning_rate`.
    pub fn learning_rate(&mut self, learning_rate: f64) -> f64 {
        self.next_learning_rate.replace(learning_rate).unwrap_or(learning_rate)
    }

    /// The average with the parameters of `module` after another step.
    ///
    /// # Panics
    ///
    /// If `average` is there and has other parameters than `module`.
    #[must_use]
    pub fn add<M: Module>(&mut self, average: Option<M>, module: &M) -> M {
        self.steps += 1;
        let average = match average {
            Some(average) if self.steps > 2 => average,
            _ => return module.clone(),
        };
        let mut parameters = Parameters(VecDeque::new());
        module.visit(&mut parameters);
        let mut mean = Mean { parameters, weight: 1.0 / (self.steps - 1) as f64 };
        let average = average.map(&mut mean);
        assert!(mean.parameters.0.is_empty(), "the average lacks a parameter");
        average
    }
}

/// All parameters, flat, in order, off the graph.
struct Parameters(VecDeque<Tensor<1>>);

impl ModuleVisitor for Parameters {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push_back(off_graph(param.val()).reshape([-1]));
    }
}

/// Moves each parameter towards the next of `parameters`.
struct Mean {
    parameters: Parameters,
    weight: f64,
}

impl ModuleMapper for Mean {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let new = self.parameters.0.pop_front().expect("the average has no other parameters");
        param.map(|average| {
            let (autodiff, tracked) = (average.device().is_autodiff(), average.is_require_grad());
            let average = off_graph(average);
            let new = new.reshape(average.dims());
            let average = average.clone() + (new - average) * self.weight;
            if autodiff { Tensor::from_inner(average).set_require_grad(tracked) } else { average }
        })
    }
}

fn off_graph<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if tensor.device().is_autodiff() { tensor.inner() } else { tensor }
}

#[cfg(test)]
mod tests {
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

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

    /// Of 10, 1, 2 and 6 the first is left out.
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
