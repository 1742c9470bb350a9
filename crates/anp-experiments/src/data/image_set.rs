//! Images and their labels, as the files of a data set hold them.

use std::io::Read;
use std::path::PathBuf;

use flate2::read::MultiGzDecoder;

use super::manifest::{GREY_SIDE, IMAGE_SIDE, ImageFormat, Manifest, Split};

/// Bytes of an image: red, green and blue planes, row by row.
pub const IMAGE_BYTES: usize = 3 * IMAGE_SIDE * IMAGE_SIDE;

/// Training and test images of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageSet {
    /// To train on.
    pub train: Images,
    /// To measure.
    pub test: Images,
    /// Classes; labels are below.
    pub num_classes: usize,
    /// What is taken off each channel of a pixel in [0, 1].
    pub mean: [f32; 3],
    /// What each channel is divided by then.
    pub std: [f32; 3],
    /// What is to be said of files that are not the official ones, if any is not.
    pub variant: Option<String>,
}

/// Images of 32 × 32 with their labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Images {
    /// [`IMAGE_BYTES`] per image.
    pub pixels: Vec<u8>,
    /// One per image.
    pub labels: Vec<u8>,
}

impl Images {
    /// So many black images of the first class.
    pub fn blank(count: usize) -> Self {
        Self { pixels: vec![0; count * IMAGE_BYTES], labels: vec![0; count] }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The bytes of an image.
    ///
    /// # Panics
    ///
    /// If there is no such image.
    pub fn pixels(&self, index: usize) -> &[u8] {
        &self.pixels[index * IMAGE_BYTES..][..IMAGE_BYTES]
    }

    /// The first `count` of them.
    pub fn truncate(&mut self, count: usize) {
        self.pixels.truncate(count * IMAGE_BYTES);
        self.labels.truncate(count);
    }
}

impl ImageSet {
    /// The images in the bytes of a manifest's files, each with its path for what is said about it.
    ///
    /// # Errors
    ///
    /// The path of the file that does not hold what it should, and why.
    pub(super) fn from_files(
        manifest: &Manifest,
        files: &[(PathBuf, Vec<u8>)],
        variant: Option<String>,
    ) -> Result<Self, (PathBuf, String)> {
        let split = |split: Split| {
            let mut images = Images::default();
            let of_split = manifest.files.iter().zip(files).filter(|(file, _)| file.split == split);
            for (file, (path, bytes)) in of_split {
                let before = images.len();
                let wrong = |reason| (path.clone(), reason);
                let pushed = match manifest.image_format {
                    Some(ImageFormat::Cifar10) => images.push_records(bytes, 1),
                    Some(ImageFormat::Cifar100) => images.push_records(bytes, 2),
                    Some(ImageFormat::Idx) => images.push_idx(bytes),
                    None => Err("its data set has no image format".to_owned()),
                };
                pushed.map_err(wrong)?;
                // Labels have files of their own in some formats.
                let found = images.pixels.len() / IMAGE_BYTES;
                if file.images > 0 && found != before + file.images {
                    let [found, expected] = [found - before, file.images];
                    return Err(wrong(format!("it has {found} images instead of {expected}")));
                }
                images.check_labels(manifest.classes, before).map_err(wrong)?;
            }
            let (pixels, labels) = (images.pixels.len() / IMAGE_BYTES, images.labels.len());
            if pixels != labels {
                let path = files.first().map(|(path, _)| path.clone()).unwrap_or_default();
                let reason = format!("the {split} split has {pixels} images and {labels} labels");
                return Err((path, reason));
            }
            Ok(images)
        };
        Ok(Self {
            train: split(Split::Train)?,
            test: split(Split::Test)?,
            num_classes: manifest.classes,
            mean: manifest.mean,
            std: manifest.std,
            variant,
        })
    }
}

impl Images {
    /// Records of labels, the last of which counts, and an image.
    fn push_records(&mut self, bytes: &[u8], num_labels: usize) -> Result<(), String> {
        let record = num_labels + IMAGE_BYTES;
        if !bytes.len().is_multiple_of(record) {
            return Err(format!(
                "its {} bytes are not a whole number of records of {record} (cut off, or \
                 another data set?)",
                bytes.len()
            ));
        }
        for record in bytes.chunks_exact(record) {
            self.labels.push(record[num_labels - 1]);
            self.pixels.extend_from_slice(&record[num_labels..]);
        }
        Ok(())
    }

    /// A gzipped IDX file: images, grey, put into the middle of three equal channels; or labels.
    fn push_idx(&mut self, packed: &[u8]) -> Result<(), String> {
        let mut bytes = Vec::new();
        MultiGzDecoder::new(packed)
            .read_to_end(&mut bytes)
            .map_err(|err| format!("it cannot be unpacked ({err})"))?;
        let number = |place: usize| {
            let bytes = bytes.get(place..place + 4)?.try_into().ok()?;
            usize::try_from(u32::from_be_bytes(bytes)).ok()
        };
        let cut_off = || "it is cut off".to_owned();
        match (number(0), number(4)) {
            (Some(0x0801), Some(count)) if bytes.len() == 8 + count => {
                self.labels.extend_from_slice(&bytes[8..]);
                Ok(())
            }
            (Some(0x0803), Some(count)) => {
                if (number(8), number(12)) != (Some(GREY_SIDE), Some(GREY_SIDE)) {
                    return Err(format!("its images are not {GREY_SIDE} × {GREY_SIDE}"));
                }
                let data = &bytes[16..];
                if data.len() != count * GREY_SIDE * GREY_SIDE {
                    return Err(cut_off());
                }
                data.chunks_exact(GREY_SIDE * GREY_SIDE).for_each(|image| self.push_grey(image));
                Ok(())
            }
            (Some(0x0801), _) | (None, _) => Err(cut_off()),
            _ => Err("it is not an IDX file of images or labels".to_owned()),
        }
    }

    fn push_grey(&mut self, image: &[u8]) {
        let border = (IMAGE_SIDE - GREY_SIDE) / 2;
        let mut plane = [0; IMAGE_SIDE * IMAGE_SIDE];
        for (row, pixels) in image.chunks_exact(GREY_SIDE).enumerate() {
            plane[(row + border) * IMAGE_SIDE + border..][..GREY_SIDE].copy_from_slice(pixels);
        }
        for _ in 0..3 {
            self.pixels.extend_from_slice(&plane);
        }
    }

    fn check_labels(&self, classes: usize, from: usize) -> Result<(), String> {
        let labels = self.labels.iter().enumerate().skip(from);
        match labels.clone().find(|&(_, &label)| usize::from(label) >= classes) {
            None => Ok(()),
            Some((index, label)) => Err(format!(
                "its image {} (from 0) has the label {label}, but there are {classes} classes, \
                 counted from 0",
                index - from
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::catalogue::manifest;
    use crate::data::store::Store;

    /// Records of CIFAR-10 with these labels; pixels count up from the label.
    fn records(labels: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for &label in labels {
            bytes.push(label);
            bytes.extend((0..IMAGE_BYTES).map(|place| (place + usize::from(label)) as u8));
        }
        bytes
    }

    fn cifar_10(labels: &[u8], cut: usize) -> Result<ImageSet, (PathBuf, String)> {
        let mut manifest = manifest("cifar_10").unwrap();
        manifest
            .files
            .retain(|file| matches!(file.name.as_str(), "data_batch_1.bin" | "test_batch.bin"));
        manifest.files.iter_mut().for_each(|file| file.images = labels.len());
        let mut train = records(labels);
        train.truncate(train.len() - cut);
        let files = [("train".into(), train), ("test".into(), records(labels))];
        ImageSet::from_files(&manifest, &files, None)
    }

    #[test]
    fn records_are_labels_and_planes() {
        let set = cifar_10(&[3, 9], 0).unwrap();
        assert_eq!((set.train.labels.as_slice(), set.num_classes), ([3, 9].as_slice(), 10));
        assert_eq!(set.train.pixels(1)[..3], [9, 10, 11]);
        assert_eq!(set.test, set.train);
    }

    #[test]
    fn of_two_labels_the_fine_one_counts() {
        let mut images = Images::default();
        let mut bytes = vec![7, 42];
        bytes.resize(2 + IMAGE_BYTES, 5);
        images.push_records(&bytes, 2).unwrap();
        assert_eq!(images.labels, [42]);
        assert!(images.pixels.iter().all(|&pixel| pixel == 5));
    }

    #[test]
    fn damaged_files_are_named_with_what_is_wrong() {
        let (path, reason) = cifar_10(&[3, 9], 100).unwrap_err();
        assert_eq!(path, PathBuf::from("train"));
        assert!(
            reason.starts_with("its 6046 bytes are not a whole number of records of 3073"),
            "{reason}"
        );
        let (_, reason) = cifar_10(&[3, 10], 0).unwrap_err();
        assert_eq!(
            reason,
            "its image 1 (from 0) has the label 10, but there are 10 classes, counted from 0"
        );
        let (_, reason) = cifar_10(&[3, 9], 3073).unwrap_err();
        assert_eq!(reason, "it has 1 images instead of 2");
    }

    #[test]
    fn the_embedded_images_need_no_folder() {
        let set = Store::locate(None).load_images("fashion_mnist_small").unwrap();
        assert_eq!((set.train.len(), set.test.len()), (3000, 1000));
        assert_eq!(set.train.labels[..4], [9, 0, 0, 3]);
        let image = set.train.pixels(0);
        assert!(image[..2 * IMAGE_SIDE].iter().all(|&pixel| pixel == 0), "there is a border");
        assert!(image[..1024].iter().any(|&pixel| pixel > 100));
        assert_eq!(image[..1024], image[2048..]);
        // The mean of the pixels is near the manifest's: there is a border, and fewer images.
        let sum: f64 = set.train.pixels.iter().map(|&pixel| f64::from(pixel) / 255.0).sum();
        let mean = sum / set.train.pixels.len() as f64 * (32.0 / 28.0_f64).powi(2);
        assert!((mean - 0.286).abs() < 0.01, "{mean}");
    }
}
