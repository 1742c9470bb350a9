//! What models do whatever they are made of: masks by place, evaluation, the first loss.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

use super::*;
use crate::cell::{CellConfig, LstmCellConfig, NasCellConfig, RhnCellConfig, SruCellConfig};
use crate::init::BiasInit;

pub(super) fn lstm(num_biases: usize) -> CellConfig {
    CellConfig::Lstm(LstmCellConfig::new().with_forget_bias(1.0).with_num_biases(num_biases))
}

pub(super) fn sru() -> CellConfig {
    CellConfig::Sru(SruCellConfig::new().with_highway_bias(-3.0))
}

pub(super) fn rhn(depth: usize) -> CellConfig {
    CellConfig::Rhn(RhnCellConfig::new(depth))
}

pub(super) fn nas() -> CellConfig {
    CellConfig::Nas(NasCellConfig::new())
}

pub(super) fn config() -> RecurrentLmConfig {
    RecurrentLmConfig::new(11, 3, 4)
        .with_num_layers(3)
        .with_cell(lstm(1))
        .with_decoder_bias_init(BiasInit::Uniform)
}

fn tokens(dims: [usize; 2]) -> Tensor<2, Int> {
    Tensor::zeros(dims, &Device::default())
}

/// Which of input, layer 0, layer 1 and output has a mask.
fn places(masks: &LmMasks) -> [bool; 4] {
    let [first, second] = masks.inter_layer.as_slice() else {
        panic!("three layers have two gaps")
    };
    [masks.input.is_some(), first.is_some(), second.is_some(), masks.output.is_some()]
}

#[test]
fn each_dropout_rate_is_that_of_its_place() {
    let device = Device::default().autodiff();
    let masks = |dropout: Dropout| {
        config().with_dropout(dropout).init(&device).sample_masks(&tokens([2, 5]))
    };
    let input = masks(Dropout { input: 0.5, ..Dropout::default() });
    assert_eq!(places(&input), [true, false, false, false]);
    assert_eq!(input.input.unwrap().dims(), [2, 5, 3]);
    let between = masks(Dropout { inter_layer: 0.5, ..Dropout::default() });
    assert_eq!(places(&between), [false, true, true, false]);
    let output = masks(Dropout { output: 0.75, ..Dropout::default() });
    assert_eq!(places(&output), [false, false, false, true]);
    for value in output.output.unwrap().into_data().iter::<f32>() {
        assert!(
            value == 0.0 || value == 4.0,
            "kept elements are scaled by 1 / (1 - p), not {value}"
        );
    }
}

#[test]
fn evaluation_has_no_masks_and_repeats_itself() {
    let dropout =
        Dropout { input: 0.5, inter_layer: 0.5, output: 0.5, word: 0.5, ..Dropout::default() };
    let model = config().with_dropout(dropout).init(&Device::default().autodiff()).valid();
    let masks = model.sample_masks(&tokens([2, 5]));
    assert!(masks.input.is_none() && masks.words.is_none() && masks.output.is_none());
    assert!(masks.inter_layer.is_empty() && masks.layers.is_empty());
    let tokens = Tensor::<2, Int>::from_data([[1, 2], [3, 4]], &Device::default());
    let run = || model.forward(tokens.clone(), model.zero_state(2)).dropped.into_data();
    run().assert_eq(&run(), true);
}

/// Gal & Ghahramani's masks: one per window and sequence, at every place.
#[test]
fn variational_masks_last_a_window_and_differ_by_sequence() {
    let device = Device::default().autodiff();
    let dropout = Dropout {
        input: 0.5,
        inter_layer: 0.5,
        output: 0.5,
        recurrent: 0.5,
        span: MaskSpan::Window,
        ..Dropout::default()
    };
    let wide = RecurrentLmConfig { d_embed: 64, d_hidden: 64, ..config() };
    let model = wide.with_dropout(dropout).init(&device);
    let draw = || model.sample_masks(&tokens([7, 2]));
    let masks = draw();
    let mut all = vec![masks.input.unwrap(), masks.output.unwrap()];
    all.extend(masks.inter_layer.into_iter().flatten());
    all.extend(masks.layers.into_iter().filter_map(|layer| layer.recurrent));
    assert_eq!(all.len(), 2 + 2 + 3);
    for mask in &all {
        assert_eq!(mask.dims(), [1, 2, 64]);
        let values: Vec<f32> = mask.to_data().iter::<f32>().collect();
        assert_ne!(values[..64], values[64..], "sequences share a mask");
    }
    let again = draw().input.unwrap();
    assert_ne!(all[0].to_data(), again.to_data(), "windows share a mask");
}

/// Where the gates have masks of their own, those on a layer's input are inside the layer.
#[test]
fn separate_masks_are_one_per_gate() {
    let device = Device::default().autodiff();
    let dropout = Dropout {
        input: 0.5,
        inter_layer: 0.5,
        recurrent: 0.5,
        gates: GateMasks::Separate,
        ..Dropout::default()
    };
    let masks = |cell| {
        config().with_dropout(dropout).with_cell(cell).init(&device).sample_masks(&tokens([7, 2]))
    };
    let dims = |mask: &Option<Tensor<3>>| mask.as_ref().map(Tensor::dims);
    let of_lstm = masks(lstm(1));
    assert_eq!(dims(&of_lstm.input), None);
    assert!(of_lstm.inter_layer.iter().all(Option::is_none));
    let inside: Vec<_> =
        of_lstm.layers.iter().map(|it| (dims(&it.input), dims(&it.recurrent))).collect();
    let wide = (Some([4, 2, 4]), Some([4, 2, 4]));
    assert_eq!(inside, [(Some([4, 2, 3]), Some([4, 2, 4])), wide, wide]);
    // The gates of an RHN share the input's.
    let of_rhn = masks(rhn(2));
    assert_eq!(dims(&of_rhn.input), Some([7, 2, 3]));
    assert_eq!(dims(&of_rhn.layers[0].recurrent), Some([2, 2, 4]));
    assert_eq!(dims(&of_rhn.layers[0].input), None);
}

#[test]
fn the_top_layer_of_an_sru_has_no_mask_on_its_activation() {
    let device = Device::default().autodiff();
    let dropout = Dropout { layer_input: 0.5, recurrent: 0.5, ..Dropout::default() };
    let model = config().with_dropout(dropout).with_cell(sru()).init(&device);
    let masks = model.sample_masks(&tokens([7, 2]));
    let recurrent: Vec<_> = masks.layers.iter().map(|it| it.recurrent.is_some()).collect();
    assert_eq!(recurrent, [true, true, false]);
    assert!(masks.layers.iter().all(|it| it.input.is_some()));
}

/// One mask of a matrix for all sequences and steps; an SRU has no matrix to drop.
#[test]
fn weight_drop_masks_each_recurrent_matrix_anew_each_window() {
    let device = Device::default().autodiff();
    let dropout = Dropout { weight: 0.75, ..Dropout::default() };
    for (cell, dims) in [
        (lstm(2), Some([1, 4, 16])),
        (rhn(3), Some([3, 4, 8])),
        (nas(), Some([1, 4, 32])),
        (sru(), None),
    ] {
        let model = config().with_dropout(dropout).with_cell(cell).init(&device);
        let draw = || model.sample_masks(&tokens([7, 2])).layers.swap_remove(1);
        let (mask, next) = (draw(), draw());
        assert!(mask.input.is_none() && mask.recurrent.is_none());
        assert_eq!(mask.weight.as_ref().map(Tensor::dims), dims);
        if let (Some(mask), Some(next)) = (mask.weight, next.weight) {
            assert!(mask.to_data().iter::<f32>().all(|value| value == 0.0 || value == 4.0));
            assert_ne!(mask.to_data(), next.to_data(), "windows share a mask");
        }
        assert!(model.valid().sample_masks(&tokens([7, 2])).layers.is_empty());
    }
}

#[test]
fn a_dropped_word_is_missing_wherever_it_stands() {
    let device = Device::default().autodiff();
    let text = Tensor::<2, Int>::from_data([[1, 2], [2, 1], [1, 1], [3, 2]], &device);
    for tie in [WordTie::Sequence, WordTie::Window] {
        let dropout = Dropout { word: 0.5, word_tie: tie, ..Dropout::default() };
        let model = config().with_dropout(dropout).init(&device);
        for _ in 0..8 {
            let mask = model.sample_masks(&text).words.unwrap();
            assert_eq!(mask.dims(), [4, 2, 1]);
            let mask: Vec<f32> = mask.to_data().iter::<f32>().collect();
            // Word 1 in the first sequence: steps 0 and 2; in the second: steps 1 and 2.
            assert_eq!(mask[0], mask[4]);
            assert_eq!(mask[3], mask[5]);
            if tie == WordTie::Window {
                assert_eq!(mask[0], mask[3]);
            }
        }
    }
}

/// At the first step nothing is known: the loss is that of a uniform guess.
#[test]
fn the_first_loss_is_the_logarithm_of_the_vocabulary() {
    let device = Device::default();
    let small = RecurrentLmConfig { vocab_size: 1000, ..config() }.with_init_range(0.01);
    let model = small.init(&device);
    let tokens = Tensor::<2, Int>::from_data([[1, 20], [300, 4]], &device);
    let output = model.forward(tokens.clone(), model.zero_state(2));
    let nll = model.nll(output.dropped, tokens).mean().into_scalar::<f32>();
    // Logits are within 0.02 of each other.
    assert!((nll - 1000_f32.ln()).abs() < 0.02, "{nll}");
}

/// Noise is drawn in training only, and in the recurrence it reaches the later steps.
#[test]
fn a_stochastic_output_has_a_mean() {
    let device = Device::default().autodiff();
    for in_recurrence in [false, true] {
        let stochastic = Some(StochasticConfig { initial_sigma: 0.5, in_recurrence });
        let config = config().with_stochastic(stochastic);
        let model = config.init(&device);
        assert_eq!(config.num_params(), model.num_params());
        let words = tokens([3, 2]);
        let masks = model.sample_masks(&words);
        let run =
            |masks: &LmMasks| model.forward_with_masks(words.clone(), model.zero_state(2), masks);
        let (noisy, quiet) = (run(&masks), run(&LmMasks::default()));
        assert!(quiet.mean.is_none());
        let mean = noisy.mean.unwrap().to_data();
        assert_ne!(noisy.hidden[2].to_data(), mean);
        let same = mean == quiet.hidden[2].to_data();
        assert_eq!(same, !in_recurrence, "the recurrence sees the noise if it is told to");
        assert!(model.valid().sample_masks(&words).noise.is_none());
    }
}

#[test]
#[should_panic(expected = "no site layer[3].hidden")]
fn a_site_outside_the_model_panics() {
    let device = Device::default();
    let model = config().init(&device);
    let output = model.forward(Tensor::zeros([1, 1], &device), model.zero_state(1));
    model.activation(&output, Site::LayerHidden(3));
}
