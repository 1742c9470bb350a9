use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

/// Negative log-likelihood of each target, in nats.
///
/// ```text
/// nll[n] = ln Σ_v exp(logits[n, v]) − logits[n, targets[n]]
/// ```
///
/// # Shapes
///
/// - `logits`: `[num_tokens, vocab_size]`
/// - `targets`: `[num_tokens]`
/// - returns: `[num_tokens]`
pub fn token_nll(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let [num_tokens, _] = logits.dims();
    log_softmax(logits, 1).gather(1, targets.reshape([num_tokens, 1])).reshape([num_tokens]).neg()
}
