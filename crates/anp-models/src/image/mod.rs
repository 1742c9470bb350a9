//! Networks for small images.

mod config;
mod site;
mod vib;
mod wide_resnet;

pub use config::{ResidualLayout, WideResNetConfig};
pub use site::ImageSite;
pub use vib::{VibClassifier, VibClassifierConfig};
pub use wide_resnet::{ImageOutput, ResidualBlock, WideResNet};
