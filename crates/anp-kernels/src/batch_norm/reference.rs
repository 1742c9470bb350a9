use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::module;

use super::inputs::{BatchNormInputs, BatchStatistics};

/// [`batch_norm`](super::batch_norm) in Burn's operations: its specification.
///
/// # Panics
///
/// If shapes do not fit each other.
pub fn batch_norm(inputs: BatchNormInputs) -> (Tensor<4>, BatchStatistics) {
    let BatchNormInputs { input, gamma, beta, statistics, epsilon, relu: with_relu } = inputs;
    let (output, statistics) = match statistics {
        None => {
            let result = module::batch_norm_train(input, gamma, beta, epsilon);
            let [mean, variance] = [result.mean, result.variance].map(Tensor::detach);
            (result.output, BatchStatistics { mean, variance })
        }
        Some(statistics) => {
            let [mean, variance] =
                [&statistics.mean, &statistics.variance].map(|tensor| tensor.clone().detach());
            (module::batch_norm(input, gamma, beta, mean, variance, epsilon), statistics)
        }
    };
    (if with_relu { relu(output) } else { output }, statistics)
}
