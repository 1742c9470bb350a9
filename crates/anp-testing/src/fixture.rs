//! Files in `tests/fixtures` and the arrays in them.

use std::fs;
use std::path::PathBuf;

use burn::module::Param;
use burn::tensor::{Int, Tensor, TensorData};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::compare::{assert_close, values};
use crate::device::TestDevice;

/// A tensor in a fixture: its shape, and its elements row by row.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Array<T = f64> {
    /// Sizes of the dimensions.
    pub shape: Vec<usize>,
    /// The elements.
    pub data: Vec<T>,
}

impl Array {
    /// Shape and elements of a tensor.
    pub fn of<const D: usize>(tensor: Tensor<D>) -> Self {
        Self { shape: tensor.dims().to_vec(), data: values(tensor) }
    }

    /// The tensor, in the precision of `device`.
    pub fn tensor<const D: usize>(&self, device: &TestDevice) -> Tensor<D> {
        let data = TensorData::new(self.data.clone(), self.shape.clone());
        Tensor::from_data(data, (&device.device, device.dtype))
    }

    /// The tensor as a parameter of a module.
    pub fn param<const D: usize>(&self, device: &TestDevice) -> Param<Tensor<D>> {
        Param::from_tensor(self.tensor(device))
    }

    /// Compare a tensor with this array, as [`assert_close`] does.
    ///
    /// # Panics
    ///
    /// If it differs from this array in shape, or in an element.
    #[track_caller]
    pub fn assert_close<const D: usize>(&self, what: &str, actual: Tensor<D>, tolerance: f64) {
        assert_eq!(actual.dims().as_slice(), self.shape, "{what} has another shape");
        assert_close(what, &values(actual), &self.data, tolerance);
    }
}

impl Array<i64> {
    /// The tensor.
    pub fn tensor<const D: usize>(&self, device: &TestDevice) -> Tensor<D, Int> {
        let data = TensorData::new(self.data.clone(), self.shape.clone());
        Tensor::from_data(data, &device.device)
    }
}

/// The folder of the package under test.
///
/// # Panics
///
/// If Cargo does not run the test.
pub fn package() -> PathBuf {
    // Asked at run time: checkouts may share a target folder, and with it what one has compiled.
    std::env::var_os("CARGO_MANIFEST_DIR").expect("Cargo runs the tests").into()
}

/// A file in the folder `tests/fixtures` of the package under test.
///
/// # Panics
///
/// If Cargo does not run the test.
pub fn fixture_path(name: &str) -> PathBuf {
    package().join("tests/fixtures").join(name)
}

/// Read a JSON file in the folder `tests/fixtures` of the package under test.
///
/// # Panics
///
/// If there is no such file, or it holds something else.
#[track_caller]
pub fn fixture<T: DeserializeOwned>(name: &str) -> T {
    let path = fixture_path(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}
