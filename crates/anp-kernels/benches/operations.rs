//! Operations, fused and as their compositions, on the CPU at the sizes of the paper's language models and of WRN-16-4.
//!
//! Two threads against one: `RAYON_NUM_THREADS=1 cargo xtask bench`.

use anp_kernels::Kernels;
use anp_kernels::batch_norm::BatchNormInputs;
use anp_kernels::conv2d::{Conv2dInputs, Conv2dOptions};
use anp_kernels::lstm::{LstmInputs, LstmState};
use burn::tensor::{Device, Distribution, Tensor};
use divan::Bencher;
use divan::counter::ItemsCount;

/// Penn Treebank, as all of the paper's language models take it.
const BATCH_SIZE: usize = 20;
const SEQ_LENGTH: usize = 35;

fn main() {
    divan::main();
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Uniform(-0.05, 0.05), device)
}

/// All steps of one layer, forward and backward; throughput in tokens.
#[divan::bench(args = [200, 512, 1500], consts = [true, false])]
fn lstm<const FUSED: bool>(bencher: Bencher, d_hidden: usize) {
    let kernels = if FUSED { Kernels::Fused } else { Kernels::Plain };
    let device = Device::flex().autodiff();
    device.seed(0);
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
        });
        sequence.hidden.sum().backward()
    });
}

/// Images in a batch of the residual network: a quarter of the paper's.
const IMAGES: usize = 32;
/// Channels and side of the maps of WRN-16-4's three groups.
const MAPS: [(usize, usize); 3] = [(64, 32), (128, 16), (256, 8)];

/// A 3 × 3 convolution between two maps of a group, forward and backward; throughput in images.
#[divan::bench(args = MAPS, consts = [true, false])]
fn conv2d<const FUSED: bool>(bencher: Bencher, (channels, side): (usize, usize)) {
    let kernels = if FUSED { Kernels::Fused } else { Kernels::Plain };
    let device = Device::flex().autodiff();
    device.seed(0);
    let input = random([IMAGES, channels, side, side], &device).require_grad();
    let weight = random([channels, channels, 3, 3], &device).require_grad();
    let options = Conv2dOptions { stride: [1; 2], padding: [1; 2] };
    bencher.counter(ItemsCount::new(IMAGES)).bench_local(|| {
        let (input, weight) = (input.clone(), weight.clone());
        kernels.conv2d(Conv2dInputs { input, weight, bias: None, options }).sum().backward()
    });
}

/// Batch normalisation and ReLU of such a map, forward and backward; throughput in images.
#[divan::bench(args = MAPS, consts = [true, false])]
fn batch_norm_relu<const FUSED: bool>(bencher: Bencher, (channels, side): (usize, usize)) {
    let kernels = if FUSED { Kernels::Fused } else { Kernels::Plain };
    let device = Device::flex().autodiff();
    device.seed(0);
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
