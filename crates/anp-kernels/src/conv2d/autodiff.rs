use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, TensorMetadata};

use super::{Conv2dBackend, Conv2dOptions};
use crate::backend::Optional;

#[derive(Debug)]
struct Conv2d;

#[derive(Debug, Clone)]
struct Saved<B: Backend> {
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    has_bias: bool,
    options: Conv2dOptions,
}

/// Parents: input, weight, bias (the weight again if there is none).
impl<B: Conv2dBackend> Backward<B, 3> for Conv2d {
    type State = Saved<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let upstream = grads.consume::<B>(&ops.node);
        let Saved { input, weight, has_bias, options } = ops.state;
        let [input_parent, weight_parent, bias_parent] = ops.parents;
        let [_, _, height, width] = input.shape().dims();
        let [_, _, kernel_height, kernel_width] = weight.shape().dims();
        if let (Some(parent), true) = (bias_parent, has_bias) {
            grads.register::<B>(parent.id, B::conv2d_bias_gradient(upstream.clone()));
        }
        if let Some(parent) = weight_parent {
            let kernel = [kernel_height, kernel_width];
            let gradient = B::conv2d_weight_gradient(input, upstream.clone(), kernel, options);
            grads.register::<B>(parent.id, gradient);
        }
        if let Some(parent) = input_parent {
            let gradient = B::conv2d_input_gradient(weight, upstream, [height, width], options);
            grads.register::<B>(parent.id, gradient);
        }
    }
}

impl<B: Conv2dBackend, C: CheckpointStrategy> Conv2dBackend for Autodiff<B, C> {
    fn conv2d_forward(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Optional<Self>,
        options: Conv2dOptions,
    ) -> FloatTensor<Self> {
        let bias = bias.into_option();
        let bias_node = bias.as_ref().unwrap_or(&weight).node();
        let bias = bias.map(|bias| bias.into_primitive());
        let (input, input_node) = input.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let nodes = [input_node, weight_node, bias_node];
        let has_bias = bias.is_some();
        match Conv2d.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let output = B::conv2d_forward(input.clone(), weight.clone(), bias.into(), options);
                prepared.finish(Saved { input, weight, has_bias, options }, output)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::conv2d_forward(input, weight, bias.into(), options))
            }
        }
    }

    /// Of the first order only: the result is a constant.
    fn conv2d_input_gradient(
        weight: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
        input: [usize; 2],
        options: Conv2dOptions,
    ) -> FloatTensor<Self> {
        let (weight, upstream) = (weight.into_primitive(), upstream.into_primitive());
        Self::from_inner(B::conv2d_input_gradient(weight, upstream, input, options))
    }

    /// Of the first order only: the result is a constant.
    fn conv2d_weight_gradient(
        input: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
        kernel: [usize; 2],
        options: Conv2dOptions,
    ) -> FloatTensor<Self> {
        let (input, upstream) = (input.into_primitive(), upstream.into_primitive());
        Self::from_inner(B::conv2d_weight_gradient(input, upstream, kernel, options))
    }

    /// Of the first order only: the result is a constant.
    fn conv2d_bias_gradient(upstream: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::from_inner(B::conv2d_bias_gradient(upstream.into_primitive()))
    }
}
