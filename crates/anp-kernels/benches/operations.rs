//! Each operation, fused and as its composition, on the CPU at the sizes of the paper's language models.
//!
//! Two threads against one: `RAYON_NUM_THREADS=1 cargo xtask bench`.

use anp_kernels::Kernels;
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
