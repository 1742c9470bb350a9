//! The contents of an image classifier's checkpoint.

use std::collections::HashMap;

use anp_models::WideResNet;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::record::{FeatureStatistics, ImageScore};

/// The velocity of each parameter, flat.
pub(super) type Velocities = HashMap<ParamId, Tensor<1>>;

/// Everything except tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageState {
    /// Score and features after the last finished epoch.
    pub last: Option<(ImageScore, FeatureStatistics)>,
    /// Positions, in the order of a visit, of the parameters that have a velocity.
    velocities: Vec<usize>,
}

/// The tensors, as one module that Burn writes to one file.
#[derive(Module, Debug)]
pub struct ImageTensors {
    /// The network, with its running statistics.
    pub net: WideResNet,
    velocities: Vec<Param<Tensor<1>>>,
}

impl ImageTensors {
    pub(super) fn new(
        net: WideResNet,
        velocities: &Velocities,
        last: Option<(ImageScore, FeatureStatistics)>,
    ) -> (Self, ImageState) {
        let places = Places::of(&net).into_iter().enumerate();
        let (places, velocities) = places
            .filter_map(|(place, (id, _))| {
                Some((place, Param::from_tensor(velocities.get(&id)?.clone())))
            })
            .unzip();
        (Self { net, velocities }, ImageState { last, velocities: places })
    }

    /// Tensors like those of a checkpoint with this state; `device` is the one of `net`.
    pub fn like(net: WideResNet, state: &ImageState, device: &Device) -> Self {
        let device = device.clone().inner();
        let sizes = Places::of(&net);
        let zeros = |&place: &usize| {
            Param::from_tensor(Tensor::zeros([sizes.get(place).map_or(0, |it| it.1)], &device))
        };
        Self { velocities: state.velocities.iter().map(zeros).collect(), net }
    }

    /// The network and its velocities.
    pub(super) fn into_parts(self, state: &ImageState) -> (WideResNet, Velocities) {
        let ids = Places::of(&self.net);
        let velocities = state.velocities.iter().zip(self.velocities);
        let velocities = velocities.map(|(&place, it)| (ids[place].0, it.val().detach()));
        (self.net, velocities.collect())
    }
}

/// Ids and sizes of a module's parameters and running statistics, in the order of a visit.
#[derive(Default)]
struct Places(Vec<(ParamId, usize)>);

impl ModuleVisitor for Places {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push((param.id, param.val().dims().iter().product()));
    }
}

impl Places {
    fn of(net: &WideResNet) -> Vec<(ParamId, usize)> {
        let mut places = Self::default();
        net.visit(&mut places);
        places.0
    }
}
