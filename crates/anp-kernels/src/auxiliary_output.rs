//! A second output of a fused operation.

use std::sync::{Arc, Mutex};

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata};
use burn::tensor::Shape;

use crate::autodiff::Step;

/// The slot through which the step of the auxiliary output passes its gradient to the step of the
/// main output.
///
/// A step of Burn's graph has one output. The auxiliary output is therefore a step of its own,
/// behind the main output. In the backward pass it leaves its gradient in this slot and registers a
/// gradient of zero for the main output, so that the graph visits that step even if nothing else
/// depends on it. Those zeros cost memory: make the smaller output the main one.
#[derive(Debug, Clone)]
pub(crate) struct AuxiliaryGradient<B: Backend>(Arc<Mutex<Option<FloatTensor<B>>>>);

impl<B: Backend> AuxiliaryGradient<B> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// Take the gradient, if there is one.
    pub(crate) fn take(&self) -> Option<FloatTensor<B>> {
        self.0.lock().expect("no step panicked").take()
    }

    /// The auxiliary output as a step behind the `main` output.
    pub(crate) fn attach<C: CheckpointStrategy>(
        self,
        main: &FloatTensor<Autodiff<B, C>>,
        auxiliary: FloatTensor<B>,
    ) -> FloatTensor<Autodiff<B, C>> {
        Step::<B, C, _, _>::prepare([main.node()], hand_over)
            .finish(auxiliary, || (self, main.shape()))
    }
}

/// The backward half of the auxiliary step; it has saved the shape of the main output.
fn hand_over<B: Backend>(
    (slot, main): (AuxiliaryGradient<B>, Shape),
    gradient: FloatTensor<B>,
    [is_wanted]: [bool; 1],
) -> [Option<FloatTensor<B>>; 1] {
    if !is_wanted {
        return [None];
    }
    let zeros = B::float_zeros(main, &gradient.device(), gradient.dtype().into());
    *slot.0.lock().expect("no step panicked") = Some(gradient);
    [Some(zeros)]
}
