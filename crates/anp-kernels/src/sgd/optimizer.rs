use std::collections::HashMap;

use burn::backend::Dispatch;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{IndexingUpdateOp, Int, Tensor};
use serde::{Deserialize, Serialize};

use super::inputs::{Momentum, SgdInputs, SgdOptions};
use super::ops::{SgdBackend, SgdRows};
use crate::backend::is_cpu_or_cube;
use crate::kernels::Kernels;
use crate::square_norm::square_norm_reference;
use crate::square_norm::sum::SquareSum;

/// How a parameter decays.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightDecay {
    /// This factor times the parameter is added to the gradient after the clip, as if half its
    /// square were part of the loss.
    Coupled(f64),
    /// Each step removes this share of the parameter, independent of learning rate and gradient.
    Decoupled(f64),
}

/// The gradient of an embedding, as the gradients of its lookups; other rows have none.
#[derive(Debug, Clone)]
pub struct RowGradient {
    /// The embedding's weight, `[num_rows, width]`.
    pub id: ParamId,
    /// The rows that were looked up, in any order, with repetitions: `[num_lookups]`.
    pub rows: Tensor<1, Int>,
    /// Gradient of the result of each lookup: `[num_lookups, width]`.
    pub values: Tensor<2>,
}

/// Stochastic gradient descent with one clip over all gradients.
///
/// Burn's `GradientClipping::Norm` clips each tensor by its own norm, which is another optimiser.
#[derive(Debug, Clone, Default)]
pub struct ClippedSgd {
    /// How the norm and the steps are computed.
    pub kernels: Kernels,
    /// Largest norm of all gradients together.
    pub max_norm: Option<f64>,
    /// Momentum, if any.
    pub momentum: Option<Momentum>,
    /// Decay of all parameters that are not in `weight_decay_of`.
    pub weight_decay: Option<WeightDecay>,
    /// Decay of single parameters.
    pub weight_decay_of: HashMap<ParamId, WeightDecay>,
    /// Velocities by parameter, flat, after the first step with momentum.
    pub velocities: HashMap<ParamId, Tensor<1>>,
}

impl ClippedSgd {
    /// Update `module`, and return it with the norm of all gradients before the clip, `[1]`. This
    /// does not wait for the device.
    ///
    /// An embedding whose gradient is in `rows` and not in `gradients` is read and written in these
    /// rows only, unless it has decay or momentum. A norm that is not finite spoils the parameters,
    /// so check it now and then.
    ///
    /// # Panics
    ///
    /// If no parameter of `module` has a gradient.
    pub fn step<M: Module>(
        &mut self,
        learning_rate: f64,
        module: M,
        gradients: GradientsParams,
        rows: Vec<RowGradient>,
    ) -> (M, Tensor<1>) {
        let mut rows: HashMap<_, _> = rows.into_iter().map(|rows| (rows.id, rows)).collect();
        let mut collect =
            Collect { optimizer: self, gradients, rows: &mut rows, square: SquareSum::default() };
        module.visit(&mut collect);
        let Collect { gradients, square, .. } = collect;
        let norm = square.total().expect("a parameter has a gradient").sqrt();
        let scale = match self.max_norm {
            Some(max_norm) => (norm.clone().recip() * max_norm).clamp_max(1.0),
            None => norm.ones_like(),
        };
        let mut update = Update { optimizer: self, learning_rate, gradients, rows, scale };
        (module.map(&mut update), norm)
    }

    fn options(&self, id: ParamId, learning_rate: f64) -> SgdOptions {
        let decay = self.weight_decay_of.get(&id).copied().or(self.weight_decay);
        let (coupled_decay, decoupled_decay) = match decay {
            None => (0.0, 0.0),
            Some(WeightDecay::Coupled(factor)) => (factor, 0.0),
            Some(WeightDecay::Decoupled(share)) => (0.0, share),
        };
        SgdOptions { learning_rate, coupled_decay, decoupled_decay, momentum: self.momentum }
    }
}

/// Adds up the norm, and makes gradients of rows dense if necessary.
struct Collect<'a> {
    optimizer: &'a ClippedSgd,
    gradients: GradientsParams,
    rows: &'a mut HashMap<ParamId, RowGradient>,
    square: SquareSum,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let dense = self.gradients.remove::<D>(param.id);
        let dense = match (dense, self.rows.remove(&param.id)) {
            (None, None) => return,
            (Some(dense), None) => dense,
            (None, Some(rows)) if self.stays_sparse(param) => {
                self.square.add_square(Tensor::from_dispatch(Dispatch::rows_square_norm(
                    rows.values.clone().into_dispatch(),
                    rows.rows.clone().into_dispatch(),
                    param.dims()[0],
                )));
                self.rows.insert(param.id, rows);
                return;
            }
            (dense, Some(RowGradient { rows, values, .. })) => {
                let dense = dense.unwrap_or_else(|| param.val().inner().zeros_like());
                let [num_rows, width] = [param.dims()[0], values.dims()[1]];
                let dense = dense.reshape([num_rows, width]);
                dense.select_assign(0, rows, values, IndexingUpdateOp::Add).reshape(param.dims())
            }
        };
        match self.optimizer.kernels {
            Kernels::Fused => self.square.add(dense.clone()),
            Kernels::Plain => self.square.add_square(square_norm_reference(dense.clone())),
        }
        self.gradients.register(param.id, dense);
    }
}

impl Collect<'_> {
    fn stays_sparse<const D: usize>(&self, param: &Param<Tensor<D>>) -> bool {
        let SgdOptions { coupled_decay, decoupled_decay, momentum, .. } =
            self.optimizer.options(param.id, 0.0);
        self.optimizer.kernels == Kernels::Fused
            && is_cpu_or_cube(&param.device())
            && momentum.is_none()
            && coupled_decay == 0.0
            && decoupled_decay == 0.0
    }
}

struct Update<'a> {
    optimizer: &'a mut ClippedSgd,
    learning_rate: f64,
    gradients: GradientsParams,
    rows: HashMap<ParamId, RowGradient>,
    /// Factor of the gradients from the clip: `[1]`.
    scale: Tensor<1>,
}

impl ModuleMapper for Update<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (dense, rows) = (self.gradients.remove::<D>(param.id), self.rows.remove(&param.id));
        let id = param.id;
        if dense.is_none() && rows.is_none() {
            return param;
        }
        param.map(|tensor| {
            let (autodiff, tracked) = (tensor.device().is_autodiff(), tensor.is_require_grad());
            let tensor = if autodiff { tensor.inner() } else { tensor };
            let updated = match (dense, rows) {
                (Some(gradient), _) => self.dense(id, tensor, gradient),
                (None, Some(rows)) => self.sparse(tensor, rows),
                (None, None) => unreachable!("one of them is there"),
            };
            if autodiff { Tensor::from_inner(updated).set_require_grad(tracked) } else { updated }
        })
    }
}

impl Update<'_> {
    fn dense<const D: usize>(
        &mut self,
        id: ParamId,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
    ) -> Tensor<D> {
        let options = self.optimizer.options(id, self.learning_rate);
        let velocity = options.momentum.and_then(|_| self.optimizer.velocities.remove(&id));
        let scale = self.scale.clone();
        let inputs = SgdInputs { tensor, gradient, scale, velocity, options };
        let (tensor, velocity) = self.optimizer.kernels.sgd_step(inputs);
        self.optimizer.velocities.extend(velocity.map(|velocity| (id, velocity)));
        tensor
    }

    fn sparse<const D: usize>(&self, tensor: Tensor<D>, rows: RowGradient) -> Tensor<D> {
        Tensor::from_dispatch(Dispatch::sgd_rows(SgdRows {
            tensor: tensor.into_dispatch(),
            values: rows.values.into_dispatch(),
            rows: rows.rows.into_dispatch(),
            scale: self.scale.clone().into_dispatch(),
            learning_rate: self.learning_rate,
        }))
    }
}
