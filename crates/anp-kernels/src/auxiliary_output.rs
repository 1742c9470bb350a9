//! A second output of an operation.

use std::sync::{Arc, Mutex};

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata};
use burn::tensor::Shape;

use crate::autodiff::Step;

/// Where the step of the auxiliary output leaves its gradient for the step of the main output.
///
/// A step of Burn's graph has one output. The auxiliary output of an operation is a step behind the main one, to which it hands
/// its gradient over; it also gives it a gradient of zero, so that the graph visits it. The larger output is best the
/// auxiliary one.
#[derive(Debug, Clone)]
pub(crate) struct AuxiliaryGradient<B: Backend>(Arc<Mutex<Option<FloatTensor<B>>>>);

impl<B: Backend> AuxiliaryGradient<B> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// The gradient, if there is one.
    pub(crate) fn take(&self) -> Option<FloatTensor<B>> {
        self.0.lock().expect("no step panicked").take()
    }

    /// The auxiliary output as a step behind the `main` output, whose step takes the gradient from here.
    pub(crate) fn attach<C: CheckpointStrategy>(
        self,
        main: &FloatTensor<Autodiff<B, C>>,
        auxiliary: FloatTensor<B>,
    ) -> FloatTensor<Autodiff<B, C>> {
        Step::<B, C, _, _>::prepare([main.node()], hand_over)
            .finish(auxiliary, || (self, main.shape()))
    }
}

/// With the shape of the main output.
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
