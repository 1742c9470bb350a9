//! Loss, accuracy and size of the features of an image classifier.

use burn::tensor::{Device, Tensor};
use burn::train::InferenceStep;

use super::batches::Source;
use super::learner::{BatchOutput, ImageLearner};
use super::record::{FeatureStatistics, ImageScore};
use crate::engine::{EvaluationProgress, GoOn, Summary};

/// Loss, accuracy and size of the features over all images of `source`, as they are.
///
/// `model` must be in evaluation mode (`model.valid()`). `go_on` is called after each batch: if it
/// returns `false`, the evaluation stops and returns `None`.
pub(super) fn evaluate(
    model: &ImageLearner,
    source: &Source,
    device: &Device,
    go_on: &mut GoOn<'_>,
) -> Option<(ImageScore, FeatureStatistics)> {
    let [mut nll, mut correct, mut norm, mut square] = [0.0; 4];
    let mut images = 0;
    let width = model.net.norm.gamma.dims()[0];
    let total = source.num_batches();
    for index in 0..total {
        let batch = source.plain_batch(index).to_device(device);
        let output = InferenceStep::step(model, batch).into_step();
        let BatchOutput { images: of_batch, nll_sum, correct: right, norm_sum, square_sum, .. } =
            output;
        let sums = Tensor::cat(vec![nll_sum, right, norm_sum, square_sum], 0).into_data();
        let sums: Vec<f64> = sums.iter::<f64>().collect();
        let [nll_sum, right, norm_sum, square_sum] = sums.try_into().expect("four numbers");
        nll += nll_sum;
        correct += right;
        norm += norm_sum;
        square += square_sum;
        images += of_batch;
        let measured = Summary {
            loss: nll_sum / of_batch as f64,
            accuracy: 100.0 * right / of_batch as f64,
            items: of_batch,
            ..Summary::default()
        };
        if !go_on(EvaluationProgress { done: index + 1, total, measured: Some(measured) }) {
            return None;
        }
    }
    let count = images as f64;
    let score = ImageScore { nll: nll / count, accuracy: 100.0 * correct / count, images };
    let features = FeatureStatistics {
        norm: norm / count,
        half_squared_norm: 0.5 * square / count,
        rms: (square / (count * width as f64)).sqrt(),
    };
    Some((score, features))
}
