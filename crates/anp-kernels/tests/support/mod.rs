//! The devices that operations are tested on, and how two results are compared.
#![allow(dead_code, unused_imports)]

mod compare;
mod device;
pub mod gpu;

pub use compare::{Values, assert_close, assert_gradient, gradient, values};
pub use device::TestDevice;
