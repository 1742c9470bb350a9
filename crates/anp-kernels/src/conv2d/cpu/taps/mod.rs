//! Convolutions as sums over the taps of the kernel, without an im2col matrix.
//!
//! A tap `(dy, dx)` of the kernel multiplies the image shifted by it. In a *plane*, the image of a
//! channel shifted by `dx` and written without padding between its rows, a shift by `dy` is one by
//! whole rows, so that for each tap all positions of the output read consecutive numbers, however
//! small the map is. Planes are `kernel width` copies of the image, where im2col makes
//! `kernel height · kernel width`; they are made for a few channels at a time and stay in the
//! L2 cache.

mod correlation;
mod input_gradient;
mod planes;
mod tile;
mod weight_gradient;

pub(super) use correlation::correlation;
pub(super) use input_gradient::strided_input_gradient;
pub(super) use weight_gradient::weight_gradient;
