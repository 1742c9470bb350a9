//! `training.mixed_precision`.

use std::fmt;

use anp_models::MatmulPrecision;
use burn::tensor::FloatDType;
use serde::{Deserialize, Serialize};

use crate::device::{DeviceName, Devices};

/// A type of half the size of single precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MixedPrecision {
    /// bfloat16: the range of single precision with 8 of its 24 bits. float16 has a smaller range
    /// and would need a scaled loss.
    Bf16,
}

impl MixedPrecision {
    /// Burn's name.
    fn dtype(self) -> FloatDType {
        match self {
            Self::Bf16 => FloatDType::BF16,
        }
    }

    /// How a model with this precision, or without any, rounds the operands of its products.
    pub(crate) fn of_products(precision: Option<Self>) -> MatmulPrecision {
        match precision {
            None => MatmulPrecision::Full,
            Some(Self::Bf16) => MatmulPrecision::Bf16,
        }
    }

    /// Check that these devices have the type.
    ///
    /// # Errors
    ///
    /// [`NoSuchPrecision`] for the first that does not.
    pub(crate) fn check(self, devices: &Devices) -> Result<(), NoSuchPrecision> {
        let mut named = devices.named().iter();
        match named.find(|(_, device)| !device.supports_dtype(self.dtype())) {
            Some(&(device, _)) => Err(NoSuchPrecision { precision: self, device }),
            None => Ok(()),
        }
    }
}

impl fmt::Display for MixedPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bf16 => f.write_str("bf16"),
        }
    }
}

/// A device lacks the type for mixed precision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "training.mixed_precision is {precision}, which {device} does not have; choose another device, \
     or a recipe without it"
)]
pub struct NoSuchPrecision {
    /// The type.
    precision: MixedPrecision,
    /// The first device that lacks it.
    device: DeviceName,
}
