use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;

use super::{Conv2dBackend, Conv2dBackward, Conv2dForward, Conv2dSaved};
use crate::autodiff::Step;

impl<B: Conv2dBackward, C: CheckpointStrategy> Conv2dBackend for Autodiff<B, C> {
    fn conv2d_forward(inputs: Conv2dForward<Self>) -> FloatTensor<Self> {
        let Conv2dForward { input, weight, bias, options, precision } = inputs;
        let bias = bias.into_option();
        let has_bias = bias.is_some();
        let bias_node = bias.as_ref().unwrap_or(&weight).node();
        let (input, input_node) = input.into_parts();
        let (weight, weight_node) = weight.into_parts();

        let nodes = [input_node, weight_node, bias_node];
        let step = Step::<B, C, _, _>::prepare(nodes, |saved, output_grad, wanted| {
            let (saved, has_bias): (Conv2dSaved<B>, bool) = saved;
            let [of_input, of_weight, of_bias] = wanted;
            let of_bias = of_bias && has_bias;
            let bias = of_bias.then(|| B::conv2d_bias_gradient(output_grad.clone()));
            let weight =
                of_weight.then(|| B::conv2d_weight_gradient(saved.clone(), output_grad.clone()));
            // Last, because it needs only the shape of the input and can free its memory.
            let input = of_input.then(|| B::conv2d_input_gradient(saved, output_grad));
            [input, weight, bias]
        });
        let saved =
            Conv2dSaved { input: input.clone(), weight: weight.clone(), options, precision };
        let bias = bias.map(|bias| bias.into_primitive()).into();
        let output = B::conv2d_forward(Conv2dForward { input, weight, bias, options, precision });
        step.finish(output, || (saved, has_bias))
    }
}
