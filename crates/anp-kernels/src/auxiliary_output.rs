//! A second output of a step of the graph.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata};
use burn::tensor::Shape;

/// Where the step of the second output leaves its gradient for that of the first.
///
/// A step of the graph has one output. The second one of an operation is a step behind the first, which hands its gradient over
/// and gives the first a zero of its own, so that it is visited. The larger output is best the second.
#[derive(Debug, Clone)]
pub(crate) struct SecondGradient<B: Backend>(Arc<Mutex<Option<FloatTensor<B>>>>);

impl<B: Backend> SecondGradient<B> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// The gradient, if there is one.
    pub(crate) fn take(&self) -> Option<FloatTensor<B>> {
        self.0.lock().expect("no step panicked").take()
    }

    /// The second output as a step behind the `first`, whose step takes the gradient from here.
    pub(crate) fn attach<C: CheckpointStrategy>(
        self,
        first: &FloatTensor<Autodiff<B, C>>,
        second: FloatTensor<B>,
    ) -> FloatTensor<Autodiff<B, C>> {
        let step = SecondOutput(PhantomData::<B>);
        match step.prepare::<C>([first.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((self, first.shape()), second),
            OpsKind::UnTracked(prepared) => prepared.finish(second),
        }
    }
}

#[derive(Debug)]
struct SecondOutput<B: Backend>(PhantomData<B>);

impl<B: Backend> Backward<B, 1> for SecondOutput<B> {
    /// With the shape of the first output.
    type State = (SecondGradient<B>, Shape);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let [first] = ops.parents;
        if let Some(first) = first {
            let (handed_over, shape) = ops.state;
            let zeros = B::float_zeros(shape, &gradient.device(), gradient.dtype().into());
            grads.register::<B>(first.id, zeros);
            *handed_over.0.lock().expect("no step panicked") = Some(gradient);
        }
    }
}
