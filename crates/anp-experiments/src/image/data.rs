use std::sync::Arc;

use super::batches::{Normalization, Source};
use super::recipe::ImageRecipe;
use crate::data::{ImageSet, Images};

/// The data of an image classifier.
#[derive(Debug, Clone)]
pub struct ImageData {
    pub(super) train: Source,
    pub(super) test: Source,
    pub(super) num_classes: usize,
    /// A note on images that are not the official ones.
    pub(super) variant: Option<String>,
}

impl ImageData {
    /// The images of `set` that `recipe` uses.
    pub fn new(set: ImageSet, recipe: &ImageRecipe) -> Self {
        let normalization = Arc::new(Normalization::new(&set));
        let source = |mut images: Images, used: Option<usize>, augment| {
            images.truncate(used.unwrap_or(images.len()));
            Source {
                images: Arc::new(images),
                normalization: Arc::clone(&normalization),
                batch_size: recipe.data.batch_size,
                augment,
            }
        };
        Self {
            train: source(set.train, recipe.data.train_images, recipe.data.augment),
            test: source(set.test, recipe.data.test_images, false),
            num_classes: set.num_classes,
            variant: set.variant,
        }
    }

    /// Training images of each class.
    pub(super) fn class_counts(&self) -> Vec<f64> {
        let mut counts = vec![0.0; self.num_classes];
        self.train.images.labels.iter().for_each(|&label| counts[label as usize] += 1.0);
        counts
    }
}
