//! Batches of images: order, augmentation and normalisation, prepared ahead of the device.
//!
//! The order of an epoch is seeded by (run seed, epoch), the augmentation of an image by (run seed,
//! epoch, image). Batches can therefore be prepared in any order by any number of threads, and a
//! resumed run sees the same batches.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::data::{IMAGE_BYTES, IMAGE_SIDE, ImageSet, Images};
use crate::random::{Purpose, seed};

/// Pixels of border from which a crop is cut.
const PADDING: usize = 4;
/// Number of batches that a thread prepares ahead.
const AHEAD: usize = 2;
/// Largest number of threads; one prepares thousands of images per second.
const MOST_THREADS: usize = 4;

/// Augmentation of a training image: a crop of the padded image, possibly mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Augmentation {
    /// First row of the crop in the padded image, 0 to 8; 4 leaves the image where it is.
    pub top: usize,
    /// First column of the crop in the padded image, 0 to 8.
    pub left: usize,
    /// Whether the image is mirrored.
    pub flip: bool,
}

impl Augmentation {
    /// No change.
    pub const NONE: Self = Self { top: PADDING, left: PADDING, flip: false };

    /// The augmentation of image `index` in `epoch` of the run with `run_seed`.
    pub fn draw(run_seed: u64, epoch: usize, index: usize) -> Self {
        let of_epoch = seed(run_seed, Purpose::Augmentation, epoch as u64);
        let bits = seed(of_epoch, Purpose::Augmentation, index as u64);
        let places = 2 * PADDING as u64 + 1;
        // With 64 bits the remainders are nearly uniform.
        Self {
            top: (bits % places) as usize,
            left: (bits / places % places) as usize,
            flip: bits / (places * places) % 2 == 1,
        }
    }

    /// The augmented pixels of one plane, row by row; 0 beyond the border.
    fn plane(self, plane: &[u8], mut put: impl FnMut(u8)) {
        for row in 0..IMAGE_SIDE {
            // The padded image begins `PADDING` before the image.
            let Some(from) = (row + self.top).checked_sub(PADDING).filter(|&row| row < IMAGE_SIDE)
            else {
                (0..IMAGE_SIDE).for_each(|_| put(0));
                continue;
            };
            let pixels = &plane[from * IMAGE_SIDE..][..IMAGE_SIDE];
            for column in 0..IMAGE_SIDE {
                let column = if self.flip { IMAGE_SIDE - 1 - column } else { column };
                let from = (column + self.left).checked_sub(PADDING);
                put(from.and_then(|from| pixels.get(from)).copied().unwrap_or(0));
            }
        }
    }
}

/// Converts bytes to the network's input: `(byte / 255 − mean) / std`, channel by channel.
///
/// The border of a crop is black before this, as in the public code (it pads images, not tensors).
#[derive(Debug, Clone)]
pub struct Normalization {
    /// The input for each byte, by channel.
    values: [[f32; 256]; 3],
}

impl Normalization {
    /// The normalisation of a data set.
    pub fn new(set: &ImageSet) -> Self {
        let value = |channel: usize, byte: usize| {
            (byte as f32 / 255.0 - set.mean[channel]) / set.std[channel]
        };
        Self { values: [0, 1, 2].map(|channel| std::array::from_fn(|byte| value(channel, byte))) }
    }

    fn push(&self, augmentation: Augmentation, image: &[u8], to: &mut Vec<f32>) {
        for (plane, values) in image.chunks_exact(IMAGE_SIDE * IMAGE_SIDE).zip(&self.values) {
            augmentation.plane(plane, |pixel| to.push(values[usize::from(pixel)]));
        }
    }
}

/// A batch in main memory.
#[derive(Debug, Clone, PartialEq)]
pub struct HostBatch {
    /// `[batch_size, 3, 32, 32]`.
    pixels: Vec<f32>,
    labels: Vec<i32>,
}

impl HostBatch {
    /// Images in the batch.
    pub fn num_images(&self) -> usize {
        self.labels.len()
    }

    /// Move the batch to `device`.
    pub fn to_device(self, device: &Device) -> ImageBatch {
        let part = Part { index: 0, batch_size: self.num_images() };
        image_batch(self.pixels, self.labels, part, device)
    }

    /// Move an equal part to each of `devices`, in order. If the images cannot be divided equally,
    /// the last parts are smaller, or there are fewer parts than devices.
    pub fn to_devices(&self, devices: &[Device]) -> Vec<ImageBatch> {
        let batch_size = self.num_images();
        let images = batch_size.div_ceil(devices.len());
        let pixels = self.pixels.chunks(images * IMAGE_BYTES).map(<[f32]>::to_vec);
        let labels = self.labels.chunks(images).map(<[i32]>::to_vec);
        let parts = pixels.zip(labels).zip(devices).enumerate();
        parts
            .map(|(index, ((pixels, labels), device))| {
                image_batch(pixels, labels, Part { index, batch_size }, device)
            })
            .collect()
    }
}

fn image_batch(pixels: Vec<f32>, labels: Vec<i32>, part: Part, device: &Device) -> ImageBatch {
    let images = labels.len();
    let shape = [images, 3, IMAGE_SIDE, IMAGE_SIDE];
    ImageBatch {
        images: Tensor::from_data(TensorData::new(pixels, shape), device),
        labels: Tensor::from_data(TensorData::new(labels, [images]), device),
        part,
    }
}

/// The part of a batch that a device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Index of the part, from 0.
    pub index: usize,
    /// Images of the whole batch.
    pub batch_size: usize,
}

/// Images and their labels on a device: a batch, or a part of one.
#[derive(Debug, Clone)]
pub struct ImageBatch {
    /// `[images, 3, 32, 32]`.
    pub images: Tensor<4>,
    /// `[images]`.
    pub labels: Tensor<1, Int>,
    /// Which part of the batch.
    pub part: Part,
}

impl ImageBatch {
    /// Whether this is the whole batch.
    pub fn is_whole(&self) -> bool {
        self.labels.dims() == [self.part.batch_size]
    }
}

/// Where the batches of an epoch come from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The images.
    pub images: Arc<Images>,
    /// Their normalisation.
    pub normalization: Arc<Normalization>,
    /// Images per batch; the last batch takes the rest.
    pub batch_size: usize,
    /// Whether training images are cropped and mirrored.
    pub augment: bool,
}

impl Source {
    /// Number of batches per epoch.
    pub fn num_batches(&self) -> usize {
        self.images.len().div_ceil(self.batch_size)
    }

    /// Images of each class.
    pub fn class_counts(&self, num_classes: usize) -> Vec<f64> {
        let mut counts = vec![0.0; num_classes];
        self.images.labels.iter().for_each(|&label| counts[label as usize] += 1.0);
        counts
    }

    /// The order of the images in `epoch` of the run with `run_seed`.
    pub fn order(&self, run_seed: u64, epoch: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.images.len() as u32).collect();
        let of_epoch = seed(run_seed, Purpose::Order, epoch as u64);
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(of_epoch));
        order
    }

    /// Batch `batch` of `epoch`, of images in the given order.
    pub fn training_batch(
        &self,
        order: &[u32],
        run_seed: u64,
        epoch: usize,
        batch: usize,
    ) -> HostBatch {
        let indices = order.chunks(self.batch_size).nth(batch).expect("a batch of the epoch");
        let indices = indices.iter().map(|&index| index as usize);
        self.batch(indices, |index| {
            if self.augment {
                Augmentation::draw(run_seed, epoch, index)
            } else {
                Augmentation::NONE
            }
        })
    }

    /// Batch `batch` of the images as they are, in their order.
    pub fn plain_batch(&self, batch: usize) -> HostBatch {
        let start = batch * self.batch_size;
        let end = (start + self.batch_size).min(self.images.len());
        self.batch(start..end, |_| Augmentation::NONE)
    }

    fn batch(
        &self,
        indices: impl Iterator<Item = usize>,
        augmentation: impl Fn(usize) -> Augmentation,
    ) -> HostBatch {
        let mut pixels = Vec::with_capacity(self.batch_size * IMAGE_BYTES);
        let mut labels = Vec::with_capacity(self.batch_size);
        for index in indices {
            let image = self.images.pixels(index);
            self.normalization.push(augmentation(index), image, &mut pixels);
            labels.push(i32::from(self.images.labels[index]));
        }
        HostBatch { pixels, labels }
    }

    /// The batches of an epoch from `first` on, in order, prepared ahead by threads.
    pub fn epoch(&self, run_seed: u64, epoch: usize, first: usize) -> Prepared {
        let order: Arc<[u32]> = self.order(run_seed, epoch).into();
        let num_batches = self.num_batches();
        let threads = thread::available_parallelism().map_or(1, |it| it.get() / 2);
        let threads = threads.clamp(1, MOST_THREADS);
        let receivers = (0..threads).map(|worker| {
            let (sender, receiver) = sync_channel(AHEAD);
            let (source, order) = (self.clone(), Arc::clone(&order));
            thread::spawn(move || {
                for batch in (first + worker..num_batches).step_by(threads) {
                    let batch = source.training_batch(&order, run_seed, epoch, batch);
                    // The receiver is gone.
                    if sender.send(batch).is_err() {
                        break;
                    }
                }
            });
            receiver
        });
        Prepared { receivers: receivers.collect(), next: 0 }
    }
}

/// Batches that threads prepare.
#[derive(Debug)]
pub struct Prepared {
    receivers: Vec<Receiver<HostBatch>>,
    next: usize,
}

impl Iterator for Prepared {
    type Item = HostBatch;

    fn next(&mut self) -> Option<HostBatch> {
        let batch = self.receivers[self.next % self.receivers.len()].recv().ok();
        self.next += 1;
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(index: usize) -> Vec<u8> {
        (0..IMAGE_BYTES).map(|place| (place * 7 + place / 32 + index * 13) as u8).collect()
    }

    /// The bytes that an image becomes.
    fn apply(augmentation: Augmentation, image: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        image.chunks_exact(IMAGE_SIDE * IMAGE_SIDE).for_each(|plane| {
            augmentation.plane(plane, |pixel| bytes.push(pixel));
        });
        bytes
    }

    fn source(count: usize, batch_size: usize) -> Source {
        let images = Images {
            pixels: (0..count).flat_map(image).collect(),
            labels: (0..count).map(|index| (index % 10) as u8).collect(),
        };
        let set = ImageSet {
            train: Images::default(),
            test: Images::default(),
            num_classes: 10,
            mean: [0.5, 0.25, 0.0],
            std: [0.5, 0.25, 1.0],
            variant: None,
        };
        Source {
            images: Arc::new(images),
            normalization: Arc::new(Normalization::new(&set)),
            batch_size,
            augment: true,
        }
    }

    #[test]
    fn a_flip_keeps_the_pixels_of_every_row_and_two_keep_the_image() {
        let image = image(3);
        let flip = Augmentation { flip: true, ..Augmentation::NONE };
        let flipped = apply(flip, &image);
        assert_ne!(flipped, image);
        for (row, flipped) in image.chunks(IMAGE_SIDE).zip(flipped.chunks(IMAGE_SIDE)) {
            assert!(row.iter().eq(flipped.iter().rev()));
        }
        assert_eq!(apply(flip, &flipped), image);
        assert_eq!(apply(Augmentation::NONE, &image), image);
    }

    #[test]
    fn a_crop_is_the_image_moved_with_zeros_behind() {
        let image = image(1);
        for (top, left) in [(0, 0), (8, 8), (0, 8), (3, 5)] {
            let crop = apply(Augmentation { top, left, flip: false }, &image);
            for (place, &pixel) in crop.iter().enumerate() {
                let (plane, row, column) = (place / 1024, place / 32 % 32, place % 32);
                let [y, x] = [(row + top) as isize - 4, (column + left) as isize - 4];
                let inside = (0..32).contains(&y) && (0..32).contains(&x);
                let at = plane * 1024 + (y * 32 + x).max(0) as usize;
                assert_eq!(pixel, if inside { image[at] } else { 0 }, "{top} {left} {place}");
            }
        }
    }

    #[test]
    fn all_crops_and_both_flips_come_about_equally_often() {
        let mut counts = [[0; 9]; 2];
        let mut flips = 0;
        let draws = 9000;
        for index in 0..draws {
            let drawn = Augmentation::draw(5, 2, index);
            counts[0][drawn.top] += 1;
            counts[1][drawn.left] += 1;
            flips += usize::from(drawn.flip);
        }
        // 1000 each, standard deviation 30; half of them, 47.
        assert!(counts.iter().flatten().all(|count| (850..1150).contains(count)), "{counts:?}");
        assert!((4265..4735).contains(&flips), "{flips}");
    }

    #[test]
    fn a_seed_repeats_its_epoch_and_other_epochs_differ() {
        let source = source(37, 8);
        let epoch = |seed, epoch| source.epoch(seed, epoch, 0).collect::<Vec<_>>();
        let first = epoch(7, 1);
        assert_eq!(first.iter().map(HostBatch::num_images).collect::<Vec<_>>(), [8, 8, 8, 8, 5]);
        assert_eq!(first, epoch(7, 1));
        assert_ne!(first, epoch(7, 2));
        assert_ne!(first, epoch(8, 1));
        // From the middle on they are the same, and so they are if one is asked for by itself.
        assert_eq!(source.epoch(7, 1, 3).collect::<Vec<_>>(), first[3..]);
        assert_eq!(source.training_batch(&source.order(7, 1), 7, 1, 4), first[4]);
        // Every image is there once.
        let mut order = source.order(7, 1);
        order.sort_unstable();
        assert!(order.into_iter().eq(0..37));
    }

    #[test]
    fn pixels_are_normalised_by_channel() {
        let batch = source(2, 2).plain_batch(0);
        let image = image(1);
        for (channel, mean, std) in [(0, 0.5, 0.5), (1, 0.25, 0.25), (2, 0.0, 1.0)] {
            let place = channel * 1024 + 77;
            let expected = (f32::from(image[place]) / 255.0 - mean) / std;
            assert_eq!(batch.pixels[IMAGE_BYTES + place], expected);
        }
        assert_eq!(batch.labels, [0, 1]);
    }
}
