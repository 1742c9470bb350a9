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

/// Where the step of the cell states leaves their gradient for that of the sequence.
///
/// A step of the graph has one output. Here it is the hidden states; the cell states are a second step behind the first,
/// which hands its gradient over and gives the first a zero of its own, so that it is visited. Other operations with two outputs do
/// the same; the larger one is best the second.
#[derive(Debug, Clone)]
pub(crate) struct CellGradient<B: Backend>(Arc<Mutex<Option<FloatTensor<B>>>>);

impl<B: Backend> CellGradient<B> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// The gradient, if there is one.
    pub(crate) fn take(&self) -> Option<FloatTensor<B>> {
        self.0.lock().expect("no step panicked").take()
    }

    /// The cell states as a step behind `sequence`, whose step takes the gradient from here.
    pub(crate) fn attach<C: CheckpointStrategy>(
        self,
        sequence: &FloatTensor<Autodiff<B, C>>,
        cell: FloatTensor<B>,
    ) -> FloatTensor<Autodiff<B, C>> {
        let step = CellStates(PhantomData::<B>);
        match step.prepare::<C>([sequence.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((self, sequence.shape()), cell),
            OpsKind::UnTracked(prepared) => prepared.finish(cell),
        }
    }
}

#[derive(Debug)]
struct CellStates<B: Backend>(PhantomData<B>);

impl<B: Backend> Backward<B, 1> for CellStates<B> {
    /// With the shape of the sequence.
    type State = (CellGradient<B>, Shape);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let [sequence] = ops.parents;
        if let Some(sequence) = sequence {
            let (handed_over, shape) = ops.state;
            let zeros = B::float_zeros(shape, &gradient.device(), gradient.dtype().into());
            grads.register::<B>(sequence.id, zeros);
            *handed_over.0.lock().expect("no step panicked") = Some(gradient);
        }
    }
}
