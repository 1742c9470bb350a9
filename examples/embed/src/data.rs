//! The digits: 8 × 8 pixels and what they show.

use std::io::Read;

use burn::data::dataloader::batcher::Batcher;
use burn::tensor::{Device, Int, Tensor, TensorData};
use flate2::read::GzDecoder;

/// Pixels of an image.
pub const NUM_PIXELS: usize = 64;
/// Digits to tell apart.
pub const NUM_CLASSES: usize = 10;

/// Largest grey value in the file.
const WHITE: f32 = 16.0;

/// One handwritten digit.
#[derive(Debug, Clone)]
pub struct Digit {
    /// Grey values from 0 to 1, row by row.
    pub pixels: [f32; NUM_PIXELS],
    /// The digit.
    pub label: u8,
}

/// All digits, for training and for testing: every fifth one.
pub fn digits() -> (Vec<Digit>, Vec<Digit>) {
    let mut text = String::new();
    GzDecoder::new(include_bytes!("../data/digits.csv.gz").as_slice())
        .read_to_string(&mut text)
        .expect("the file comes with the program");
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let mut values = line.split(',').map(|value| value.parse::<u8>().expect("a small number"));
        let pixels = std::array::from_fn(|_| f32::from(values.next().expect("64 pixels")) / WHITE);
        let digit = Digit { pixels, label: values.next().expect("a label") };
        if index % 5 == 0 { test.push(digit) } else { train.push(digit) }
    }
    (train, test)
}

/// Several digits on a device.
#[derive(Debug, Clone)]
pub struct DigitBatch {
    /// `[batch_size, NUM_PIXELS]`.
    pub images: Tensor<2>,
    /// `[batch_size]`.
    pub labels: Tensor<1, Int>,
}

/// Makes [`DigitBatch`]es.
#[derive(Debug, Clone)]
pub struct DigitBatcher;

impl Batcher<Digit, DigitBatch> for DigitBatcher {
    fn batch(&self, digits: Vec<Digit>, device: &Device) -> DigitBatch {
        let pixels: Vec<f32> = digits.iter().flat_map(|digit| digit.pixels).collect();
        let labels: Vec<i32> = digits.iter().map(|digit| i32::from(digit.label)).collect();
        let batch_size = digits.len();
        DigitBatch {
            images: Tensor::from_data(TensorData::new(pixels, [batch_size, NUM_PIXELS]), device),
            labels: Tensor::from_data(TensorData::new(labels, [batch_size]), device),
        }
    }
}
