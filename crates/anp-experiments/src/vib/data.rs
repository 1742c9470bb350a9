use burn::tensor::Tensor;

use crate::data::{self, IMAGE_SIDE, ImageSet};
use crate::image::ImageData;
use crate::image::recipe::ImageDataConfig;

/// The data of a run with a bottleneck.
#[derive(Debug, Clone)]
pub struct VibData {
    pub(super) images: ImageData,
    /// Channels, height and width of what the network reads.
    pub(super) shape: [usize; 3],
}

impl VibData {
    /// The images of `set` that a recipe uses, scaled to [−1, 1].
    pub fn new(mut set: ImageSet, config: &ImageDataConfig) -> Self {
        (set.mean, set.std) = ([0.5; 3], [0.5; 3]);
        Self::of(ImageData::new(set, config), config)
    }

    /// See [`ImageData::made_up`].
    pub(super) fn made_up(config: &ImageDataConfig, share: f64) -> Self {
        Self::of(ImageData::made_up(config, share), config)
    }

    fn of(images: ImageData, config: &ImageDataConfig) -> Self {
        let manifest = data::manifest(&config.images).expect("a valid recipe");
        Self { images, shape: manifest.image_shape() }
    }
}

/// The part of each image that the file has: its first channels, without a black border.
///
/// # Shapes
///
/// - `images`: `[batch_size, 3, 32, 32]`
/// - returns: `[batch_size, elements of shape]`
pub(super) fn flatten(images: Tensor<4>, [channels, height, width]: [usize; 3]) -> Tensor<2> {
    let [top, left] = [height, width].map(|side| (IMAGE_SIDE - side) / 2);
    let images = images.narrow(1, 0, channels).narrow(2, top, height).narrow(3, left, width);
    images.flatten(1, 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Store;
    use crate::vib::recipe::test_vib_recipe;
    use burn::tensor::Device;

    /// The 28 × 28 pixels of the file, from −1 (black) to 1.
    #[test]
    fn grey_images_are_read_without_border_from_minus_one_to_one() {
        let recipe = test_vib_recipe();
        let set = Store::locate(None).load_images(&recipe.data.images).unwrap();
        let red = &set.train.pixels(0)[..1024];
        let mut expected = Vec::new();
        for row in 2..30 {
            let pixels = &red[32 * row + 2..][..28];
            expected.extend(pixels.iter().map(|&pixel| 2.0 * f64::from(pixel) / 255.0 - 1.0));
        }
        let border = red.iter().map(|&pixel| u64::from(pixel)).sum::<u64>();
        let inside = expected.iter().map(|it| (it + 1.0) / 2.0 * 255.0).sum::<f64>();
        assert_eq!(border as f64, inside.round(), "the border is not black");

        let data = VibData::new(set, &recipe.data);
        assert_eq!(data.shape, [1, 28, 28]);
        let batch = data.images.train.plain_batch(0).to_device(&Device::default());
        let flat = flatten(batch.images, data.shape);
        assert_eq!(flat.dims(), [8, 784]);
        let first: Vec<f64> = flat.narrow(0, 0, 1).into_data().iter::<f64>().collect();
        for (pixel, expected) in first.iter().zip(&expected) {
            assert!((pixel - expected).abs() < 1e-6, "{pixel}, {expected}");
        }
    }
}
