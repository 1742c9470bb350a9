//! The text that every peer trains on: drawn by a rule that is the same in every language
//! (python/text.py).

use std::iter::Cycle;
use std::vec::IntoIter;

use anp_experiments::text::batches::{Tail, TokenStreams, Window};
use burn::tensor::Device;

use crate::case::Case;

const WINDOWS: usize = 64;

/// `count` words, the frequent ones first in the vocabulary: the commonest is one in V^(1/3), as in
/// a newspaper.
fn words(count: usize, vocab_size: usize) -> Vec<u32> {
    let mut state = 0_u64;
    (0..count)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let uniform = (state >> 40) as f64 / f64::from(1_u32 << 24);
            (vocab_size as f64 * uniform * uniform * uniform) as u32
        })
        .collect()
}

/// The windows of a case, on the device, over and over again.
pub type Windows = Cycle<IntoIter<Window>>;

/// The windows of a case, on the device.
pub fn windows(case: &Case, device: &Device) -> Windows {
    let length = WINDOWS * case.seq_length + 1;
    let text = words(case.batch_size * length, case.vocab_size);
    let streams = TokenStreams::new(&text, case.batch_size, case.seq_length, Tail::Drop)
        .expect("the text was made long enough");
    let windows: Vec<_> = (0..WINDOWS).map(|index| streams.window(index, device)).collect();
    windows.into_iter().cycle()
}
