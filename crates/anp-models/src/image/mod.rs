//! Wide residual networks for small images.

mod config;
mod site;
mod wide_resnet;

pub use config::{ResidualLayout, WideResNetConfig};
pub use site::ImageSite;
pub use wide_resnet::{ImageOutput, ResidualBlock, WideResNet};
