//! Means of parameters that move with them.

use std::collections::VecDeque;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;

/// Move each parameter of `mean` towards its counterpart in `module`:
///
/// ```text
/// a ← a + weight · (p − a)
/// ```
///
/// # Panics
///
/// If `mean` has other parameters than `module`.
#[must_use]
pub(crate) fn move_towards<M: Module>(mean: M, module: &M, weight: f64) -> M {
    let mut parameters = Parameters(VecDeque::new());
    module.visit(&mut parameters);
    let mut mapper = Mean { parameters, weight };
    let mean = mean.map(&mut mapper);
    assert!(mapper.parameters.0.is_empty(), "the mean lacks a parameter");
    mean
}

/// All parameters, flat, in order, off the graph.
struct Parameters(VecDeque<Tensor<1>>);

impl ModuleVisitor for Parameters {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push_back(off_graph(param.val()).reshape([-1]));
    }
}

/// Moves each parameter towards its counterpart in `parameters`.
struct Mean {
    parameters: Parameters,
    weight: f64,
}

impl ModuleMapper for Mean {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let new = self.parameters.0.pop_front().expect("the mean has no other parameters");
        param.map(|mean| {
            let (autodiff, tracked) = (mean.device().is_autodiff(), mean.is_require_grad());
            let mean = off_graph(mean);
            let new = new.reshape(mean.dims());
            let mean = mean.clone() + (new - mean) * self.weight;
            if autodiff { Tensor::from_inner(mean).set_require_grad(tracked) } else { mean }
        })
    }
}

fn off_graph<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if tensor.device().is_autodiff() { tensor.inner() } else { tensor }
}
