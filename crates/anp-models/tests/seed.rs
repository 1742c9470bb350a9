//! What a model draws follows from the seed alone. Alone in its process: threads share the
//! generator of a device.

use anp_models::{
    Dropout, Kernels, LmMasks, MixtureOver, RecurrentLmConfig, ScaleMixture, StochasticConfig,
    WordTie,
};
use burn::tensor::{Device, Int, Tensor, TensorData};

fn data(masks: LmMasks) -> Vec<TensorData> {
    let LmMasks { words, input, inter_layer, layers, output, noise } = masks;
    let of_layers = layers.into_iter().flat_map(|it| [it.input, it.recurrent, it.weight]);
    let masks = [words, input, output, noise].into_iter().chain(inter_layer).chain(of_layers);
    masks.flatten().map(Tensor::into_data).collect()
}

/// So that training with either gives the same curve, up to rounding.
#[test]
fn fused_operations_and_references_draw_the_same() {
    let device = Device::default().autodiff();
    let drawn = |kernels: Kernels, seed: u64| {
        let dropout = Dropout {
            input: 0.5,
            inter_layer: 0.5,
            output: 0.5,
            word: 0.5,
            word_tie: WordTie::Sequence,
            recurrent: 0.5,
            weight: 0.5,
            ..Dropout::default()
        };
        let over = MixtureOver::Weight;
        let prior = ScaleMixture { pi: 0.25, log_sigma1: -1.0, log_sigma2: -3.0, over };
        let noise = StochasticConfig { initial_sigma: 0.5, in_recurrence: false };
        let lm = RecurrentLmConfig::new(30, 20, 20)
            .with_num_layers(2)
            .with_dropout(dropout)
            .with_stochastic(Some(noise))
            .with_posterior(Some(prior))
            .with_kernels(kernels)
            .init(&device);
        device.seed(seed);
        let words: Tensor<1, Int> = Tensor::arange(0..15, &device);
        let masks = lm.sample_masks(&words.reshape([5, 3]));
        let noise = lm.posterior.as_ref().unwrap().sample_noise();
        let noise = noise.into_iter().map(Tensor::into_data);
        data(masks).into_iter().chain(noise).collect::<Vec<_>>()
    };
    let fused = drawn(Kernels::Fused, 3);
    assert_eq!(fused.len(), 9 + 8, "a mask or noise is missing");
    assert_eq!(fused, drawn(Kernels::Plain, 3));
    let other = drawn(Kernels::Fused, 4);
    assert!(fused.iter().zip(&other).all(|(fused, other)| fused != other), "another seed");
}
