use std::sync::Arc;

use super::batches::{Normalization, Source};
use super::recipe::ImageDataConfig;
use crate::data::{self, ImageSet, Images, Split};

/// The data of an image classifier.
#[derive(Debug, Clone)]
pub struct ImageData {
    pub(crate) train: Source,
    pub(crate) test: Source,
    pub(crate) num_classes: usize,
    /// A note on images that are not the official ones.
    pub(crate) variant: Option<String>,
}

impl ImageData {
    /// The images of `set` that a recipe uses.
    pub fn new(set: ImageSet, config: &ImageDataConfig) -> Self {
        let normalization = Arc::new(Normalization::new(&set));
        let source = |mut images: Images, used: Option<usize>, augment| {
            images.truncate(used.unwrap_or(images.len()));
            Source {
                images: Arc::new(images),
                normalization: Arc::clone(&normalization),
                batch_size: config.batch_size,
                augment,
            }
        };
        Self {
            train: source(set.train, config.train_images, config.augment),
            test: source(set.test, config.test_images, false),
            num_classes: set.num_classes,
            variant: set.variant,
        }
    }

    /// Black images instead of this share of those that a recipe uses, but at least a batch of each
    /// split.
    ///
    /// # Panics
    ///
    /// If there is no such data set.
    pub(crate) fn made_up(config: &ImageDataConfig, share: f64) -> Self {
        let manifest = data::manifest(&config.images).expect("a valid recipe");
        let images = |split, used: Option<usize>| {
            let images = used.unwrap_or(manifest.images(split)) as f64;
            Images::blank(config.batch_size.max((share * images) as usize))
        };
        let set = ImageSet {
            train: images(Split::Train, config.train_images),
            test: images(Split::Test, config.test_images),
            num_classes: manifest.classes,
            mean: [0.5; 3],
            std: [0.25; 3],
            variant: None,
        };
        Self::new(set, config)
    }

    /// Training images of each class.
    pub(crate) fn class_counts(&self) -> Vec<f64> {
        self.train.class_counts(self.num_classes)
    }
}
