//! An output of a fused operation as one step of Burn's graph.

use std::fmt::Debug;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};

/// The backward half of an operation: gradients of its `N` inputs, from what the forward half saved and the gradient of the
/// output. The last argument tells which of them are wanted: others may be `None`.
pub(crate) type GradientFn<B, S, const N: usize> =
    fn(S, FloatTensor<B>, [bool; N]) -> [Option<FloatTensor<B>>; N];

/// A step of the graph in preparation: `S` is what it saves for its backward half.
pub(crate) struct Step<B: Backend, C, S, const N: usize>(OpsKind<Function<B, S, N>, B, S, C, N>);

impl<B: Backend, C, S, const N: usize> Step<B, C, S, N>
where
    C: CheckpointStrategy,
    S: Clone + Send + Debug + 'static,
{
    /// A step behind the nodes of its inputs.
    pub(crate) fn prepare(nodes: [NodeGuard; N], gradients: GradientFn<B, S, N>) -> Self {
        Self(Function(gradients).prepare::<C>(nodes).compute_bound().stateful())
    }

    /// Whether any gradient is wanted.
    pub(crate) fn is_tracked(&self) -> bool {
        matches!(self.0, OpsKind::Tracked(_))
    }

    /// The output as part of the graph; `saved` is called only if gradients are wanted.
    pub(crate) fn finish(
        self,
        output: FloatTensor<B>,
        saved: impl FnOnce() -> S,
    ) -> FloatTensor<Autodiff<B, C>> {
        match self.0 {
            OpsKind::Tracked(prepared) => prepared.finish(saved(), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct Function<B: Backend, S, const N: usize>(GradientFn<B, S, N>);

impl<B: Backend, S, const N: usize> Backward<B, N> for Function<B, S, N>
where
    S: Clone + Send + Debug + 'static,
{
    type State = S;

    fn backward(self, ops: Ops<S, N>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let output_grad = grads.consume::<B>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let gradients = (self.0)(ops.state, output_grad, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}
