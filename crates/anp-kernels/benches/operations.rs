//! Fused operations and their references on Flex, at the sizes of the paper's language models and
//! of WRN-16-4, with gradients if there are any.
//!
//! Two threads against one: `RAYON_NUM_THREADS=1 cargo xtask bench`.

use anp_kernels::batch_norm::BatchNormInputs;
use anp_kernels::conv2d::{Conv2dInputs, Conv2dOptions};
use anp_kernels::cross_entropy::LinearCrossEntropyInputs;
use anp_kernels::lstm::{LstmInputs, LstmState};
use anp_kernels::random::{
    dropout_mask, dropout_mask_reference, standard_normal, standard_normal_reference,
};
use anp_kernels::rhn::RhnInputs;
use anp_kernels::sampled_weight::{MixtureOver, SampledWeightInputs, ScaleMixture};
use anp_kernels::sgd::{ClippedSgd, Momentum, RowGradient, SgdInputs, SgdOptions};
use anp_kernels::sru::{Activation, SruInputs};
use anp_kernels::{Kernels, MatmulPrecision};
use burn::nn::EmbeddingConfig;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorCreationOptions};
use divan::Bencher;
use divan::counter::ItemsCount;

/// Penn Treebank, as all of the paper's language models take it.
const BATCH_SIZE: usize = 20;
const SEQ_LENGTH: usize = 35;
const VOCAB_SIZE: usize = 10_000;

fn main() {
    divan::main();
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Uniform(-0.05, 0.05), device)
}

fn kernels(fused: bool) -> Kernels {
    if fused { Kernels::Fused } else { Kernels::Plain }
}

/// The device, with gradients.
fn training() -> Device {
    let device = Device::flex().autodiff();
    device.seed(0);
    device
}

/// All steps of one layer, forward and backward; throughput in tokens.
#[divan::bench(args = [200, 512, 1500], consts = [true, false])]
fn lstm<const FUSED: bool>(bencher: Bencher, d_hidden: usize) {
    let (kernels, device) = (kernels(FUSED), training());
    let gates = random([SEQ_LENGTH, BATCH_SIZE, 4 * d_hidden], &device).require_grad();
    let bias = random([4 * d_hidden], &device).require_grad();
    let weight_hidden = random([d_hidden, 4 * d_hidden], &device).require_grad();
    bencher.counter(ItemsCount::new(BATCH_SIZE * SEQ_LENGTH)).bench_local(|| {
        let sequence = kernels.lstm_sequence(LstmInputs {
            gates: gates.clone(),
            bias: bias.clone(),
            weight_hidden: weight_hidden.clone(),
            mask: None,
            state: LstmState::zeros(BATCH_SIZE, d_hidden, &device),
            forget_bias: 0.0,
            precision: MatmulPrecision::Full,
        });
        sequence.hidden.sum().backward()
    });
}

/// The scan of one layer, forward and backward; throughput in tokens.
#[divan::bench(args = [910, 980], consts = [true, false])]
fn sru<const FUSED: bool>(bencher: Bencher, d_hidden: usize) {
    let (kernels, device) = (kernels(FUSED), training());
    let product = random([SEQ_LENGTH, BATCH_SIZE, 3 * d_hidden], &device).require_grad();
    let highway = random([SEQ_LENGTH, BATCH_SIZE, d_hidden], &device).require_grad();
    let bias = random([2 * d_hidden], &device).require_grad();
    let cell = Tensor::zeros([BATCH_SIZE, d_hidden], &device);
    bencher.counter(ItemsCount::new(BATCH_SIZE * SEQ_LENGTH)).bench_local(|| {
        let sequence = kernels.sru_sequence(SruInputs {
            product: product.clone(),
            highway: Some(highway.clone()),
            bias: bias.clone(),
            mask: None,
            cell: cell.clone(),
            activation: Activation::Tanh,
        });
        sequence.hidden.sum().backward()
    });
}

/// All micro-steps of a sequence, forward and backward, by depth and width; throughput in tokens.
#[divan::bench(args = [(8, 890), (10, 830)], consts = [true, false], sample_count = 5)]
fn rhn<const FUSED: bool>(bencher: Bencher, (depth, d_hidden): (usize, usize)) {
    let (kernels, device) = (kernels(FUSED), training());
    let gates = random([SEQ_LENGTH, BATCH_SIZE, 2 * d_hidden], &device).require_grad();
    let weight_hidden = random([depth, d_hidden, 2 * d_hidden], &device).require_grad();
    let bias = random([depth, 2 * d_hidden], &device).require_grad();
    let mask = dropout_mask([1, BATCH_SIZE, d_hidden], 0.3, &device);
    let state = Tensor::zeros([BATCH_SIZE, d_hidden], &device);
    bencher.counter(ItemsCount::new(BATCH_SIZE * SEQ_LENGTH)).bench_local(|| {
        let hidden = kernels.rhn_sequence(RhnInputs {
            gates: gates.clone(),
            weight_hidden: weight_hidden.clone(),
            bias: bias.clone(),
            mask: Some(mask.clone()),
            state: state.clone(),
            precision: MatmulPrecision::Full,
        });
        hidden.sum().backward()
    });
}

/// The product that computes a layer's gates, forward and backward; throughput in tokens.
#[divan::bench(args = [200, 512, 1500], consts = [true, false], sample_count = 20)]
fn product<const FUSED: bool>(bencher: Bencher, d_hidden: usize) {
    let (kernels, device) = (kernels(FUSED), training());
    let num_tokens = BATCH_SIZE * SEQ_LENGTH;
    let input = random([num_tokens, d_hidden], &device).require_grad();
    let weight = random([d_hidden, 4 * d_hidden], &device).require_grad();
    bencher.counter(ItemsCount::new(num_tokens)).bench_local(|| {
        kernels.matmul(input.clone(), weight.clone(), MatmulPrecision::Full).sum().backward()
    });
}

/// A decoder of a window with its targets.
fn decoder(d_hidden: usize, device: &Device) -> LinearCrossEntropyInputs {
    let num_tokens = BATCH_SIZE * SEQ_LENGTH;
    let words = Distribution::Uniform(0.0, VOCAB_SIZE as f64);
    LinearCrossEntropyInputs {
        hidden: random([num_tokens, d_hidden], device).require_grad(),
        weight: random([d_hidden, VOCAB_SIZE], device).require_grad(),
        tied: false,
        bias: random([VOCAB_SIZE], device).require_grad(),
        targets: Tensor::<1, Int>::random([num_tokens], words, device),
        precision: MatmulPrecision::Full,
    }
}

/// Decoder, softmax and loss of a window, forward and backward; throughput in tokens.
#[divan::bench(args = [512, 1500], consts = [true, false], sample_count = 20)]
fn cross_entropy<const FUSED: bool>(bencher: Bencher, d_hidden: usize) {
    let (kernels, device) = (kernels(FUSED), training());
    let inputs = decoder(d_hidden, &device);
    bencher
        .counter(ItemsCount::new(BATCH_SIZE * SEQ_LENGTH))
        .bench_local(|| kernels.linear_cross_entropy(inputs.clone()).sum().backward());
}

/// The same with the logits' squared norm and the softmax's entropy.
#[divan::bench(args = [512, 1500], consts = [true, false], sample_count = 20)]
fn logit_terms<const FUSED: bool>(bencher: Bencher, d_hidden: usize) {
    let (kernels, device) = (kernels(FUSED), training());
    let inputs = decoder(d_hidden, &device);
    bencher.counter(ItemsCount::new(BATCH_SIZE * SEQ_LENGTH)).bench_local(|| {
        let terms = kernels.logit_terms(inputs.clone());
        (terms.nll + terms.square * 1e-4 - terms.entropy * 1e-2).sum().backward()
    });
}

/// The penalty on a layer's activations, forward and backward; throughput in tokens.
#[divan::bench(args = [512, 1500], consts = [true, false])]
fn square_norm<const FUSED: bool>(bencher: Bencher, d_hidden: usize) {
    let (kernels, device) = (kernels(FUSED), training());
    let hidden = random([SEQ_LENGTH, BATCH_SIZE, d_hidden], &device).require_grad();
    bencher
        .counter(ItemsCount::new(BATCH_SIZE * SEQ_LENGTH))
        .bench_local(|| kernels.square_norm(hidden.clone()).backward());
}

/// Elements of a decoder's weight and of all weights of the LSTM of two layers of 512 units.
const WEIGHTS: [usize; 2] = [512 * VOCAB_SIZE, 14_437_200];

/// Clipped gradient, decay and step of one parameter, which is kept; throughput in elements.
#[divan::bench(args = WEIGHTS, consts = [true, false], sample_count = 20)]
fn sgd<const FUSED: bool>(bencher: Bencher, len: usize) {
    step_one(bencher, len, kernels(FUSED), None);
}

/// The same with momentum.
#[divan::bench(args = WEIGHTS, consts = [true, false], sample_count = 20)]
fn sgd_momentum<const FUSED: bool>(bencher: Bencher, len: usize) {
    let momentum = Momentum { factor: 0.9, dampening: 0.0, nesterov: true };
    step_one(bencher, len, kernels(FUSED), Some(momentum));
}

fn step_one(bencher: Bencher, len: usize, kernels: Kernels, momentum: Option<Momentum>) {
    let options =
        SgdOptions { learning_rate: 0.1, coupled_decay: 5e-4, decoupled_decay: 0.0, momentum };
    let device = Device::flex();
    let gradient = random([len], &device);
    let scale = Tensor::full([1], 0.5, &device);
    let mut state = Some((random([len], &device), momentum.map(|_| random([len], &device))));
    bencher.counter(ItemsCount::new(len)).bench_local(|| {
        let (tensor, velocity) = state.take().expect("the last step left it");
        let (gradient, scale) = (gradient.clone(), scale.clone());
        state = Some(kernels.sgd_step(SgdInputs { tensor, gradient, scale, velocity, options }));
    });
}

/// Norm, clip and step of an embedding of which a window has looked up some rows, against the dense
/// gradient that these make; throughput in lookups.
#[divan::bench(args = [512, 1500], consts = [true, false], sample_count = 20)]
fn sgd_rows<const FUSED: bool>(bencher: Bencher, d_embed: usize) {
    let device = Device::flex();
    device.seed(0);
    let num_lookups = BATCH_SIZE * SEQ_LENGTH;
    let embedding = EmbeddingConfig::new(VOCAB_SIZE, d_embed).init(&device);
    let words = Distribution::Uniform(0.0, VOCAB_SIZE as f64);
    let gradient = RowGradient {
        id: embedding.weight.id,
        rows: Tensor::random([num_lookups], words, &device),
        values: random([num_lookups, d_embed], &device),
    };
    let kernels = kernels(FUSED);
    let mut optimizer = ClippedSgd { kernels, max_norm: Some(5.0), ..ClippedSgd::default() };
    let mut module = Some(embedding);
    bencher.counter(ItemsCount::new(num_lookups)).bench_local(|| {
        let rows = vec![gradient.clone()];
        let embedding = module.take().expect("the last step left it");
        let (updated, _) = optimizer.step(0.1, embedding, GradientsParams::new(), rows);
        module = Some(updated);
    });
}

/// The masks of a window: one place in the network, and all of two layers of 512 units and 10,000
/// words for 20 sequences.
#[divan::bench(args = [SEQ_LENGTH * BATCH_SIZE * 512, 1 << 20], consts = [true, false])]
fn mask<const FUSED: bool>(bencher: Bencher, len: usize) {
    type Draw = fn([usize; 1], f64, TensorCreationOptions) -> Tensor<1>;
    let draw: Draw = if FUSED { dropout_mask } else { dropout_mask_reference };
    let device = training();
    bencher.counter(ItemsCount::new(len)).bench_local(|| draw([len], 0.5, (&device).into()));
}

/// The noise of Bayes by Backprop.
#[divan::bench(args = WEIGHTS, consts = [true, false], sample_count = 20)]
fn normal<const FUSED: bool>(bencher: Bencher, len: usize) {
    type Draw = fn([usize; 1], TensorCreationOptions) -> Tensor<1>;
    let draw: Draw = if FUSED { standard_normal } else { standard_normal_reference };
    let device = training();
    bencher.counter(ItemsCount::new(len)).bench_local(|| draw([len], (&device).into()));
}

/// Weights drawn with noise, and their divergence from the prior, forward and backward; throughput
/// in weights.
#[divan::bench(args = WEIGHTS, consts = [true, false], sample_count = 5)]
fn sampled_weight<const FUSED: bool>(bencher: Bencher, len: usize) {
    let (kernels, device) = (kernels(FUSED), training());
    let mean = random([len / 400, 400], &device).require_grad();
    let rho = (random([len], &device) - 3.0).detach().require_grad();
    let noise = standard_normal([len], &device);
    let over = MixtureOver::Weight;
    let prior = ScaleMixture { pi: 0.25, log_sigma1: -1.0, log_sigma2: -7.0, over };
    bencher.counter(ItemsCount::new(len)).bench_local(|| {
        let (mean, rho, noise) = (mean.clone(), rho.clone(), noise.clone());
        let (weights, divergence) =
            kernels.sampled_weight(SampledWeightInputs { mean, rho, noise, prior });
        (weights.sum() + divergence).backward()
    });
}

/// Images in a batch of the residual network: a quarter of the paper's.
const IMAGES: usize = 32;
/// Channels and side of the maps behind WRN-16-4's first convolution and of its three groups.
const MAPS: [(usize, usize); 4] = [(16, 32), (64, 32), (128, 16), (256, 8)];

/// A 3 × 3 convolution between two such maps, forward and backward; throughput in images.
#[divan::bench(args = MAPS, consts = [true, false])]
fn conv2d<const FUSED: bool>(bencher: Bencher, (channels, side): (usize, usize)) {
    let (kernels, device) = (kernels(FUSED), training());
    let input = random([IMAGES, channels, side, side], &device).require_grad();
    let weight = random([channels, channels, 3, 3], &device).require_grad();
    let options = Conv2dOptions { stride: [1; 2], padding: [1; 2] };
    bencher.counter(ItemsCount::new(IMAGES)).bench_local(|| {
        let (input, weight) = (input.clone(), weight.clone());
        kernels
            .conv2d(Conv2dInputs {
                input,
                weight,
                bias: None,
                options,
                precision: MatmulPrecision::Full,
            })
            .sum()
            .backward()
    });
}

/// Batch normalisation and ReLU of such a map, forward and backward; throughput in images.
#[divan::bench(args = MAPS, consts = [true, false])]
fn batch_norm_relu<const FUSED: bool>(bencher: Bencher, (channels, side): (usize, usize)) {
    let (kernels, device) = (kernels(FUSED), training());
    let input = random([IMAGES, channels, side, side], &device).require_grad();
    let gamma = random([channels], &device).require_grad();
    let beta = random([channels], &device).require_grad();
    bencher.counter(ItemsCount::new(IMAGES)).bench_local(|| {
        let (input, gamma, beta) = (input.clone(), gamma.clone(), beta.clone());
        let inputs =
            BatchNormInputs { input, gamma, beta, statistics: None, epsilon: 1e-5, relu: true };
        let (output, _) = kernels.batch_norm(inputs);
        output.sum().backward()
    });
}
