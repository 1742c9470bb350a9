//! The devices that operations are tested on, and how two results are compared.
#![allow(dead_code)]

pub mod gpu;

use std::io::Write;
use std::panic::catch_unwind;
use std::sync::OnceLock;

use burn::tensor::{DType, Device, DeviceType, Tensor, TensorData};

/// Where and how precisely to compute.
#[derive(Debug, Clone)]
pub struct Place {
    pub device: Device,
    pub dtype: DType,
}

impl Place {
    /// Every device of this build that is present, on the host in double precision, too.
    ///
    /// A backend that is compiled in but has no device is named on stderr. [`gpu::wgpu`] says when software stands in for a GPU.
    pub fn all() -> &'static [Self] {
        static PLACES: OnceLock<Vec<Place>> = OnceLock::new();
        PLACES.get_or_init(|| {
            let mut places = Vec::new();
            for (device_type, dtypes) in compiled_in() {
                // A missing driver is a panic in some backends.
                let found = catch_unwind(|| Device::enumerate(device_type.clone()).to_vec());
                let Some(device) = found.unwrap_or_default().into_iter().next() else {
                    // Past the test harness, which would hide it.
                    let line = format!("SKIPPED {device_type:?}: compiled in, but not present\n");
                    std::io::stderr().write_all(line.as_bytes()).expect("stderr is open");
                    continue;
                };
                for &dtype in dtypes {
                    places.push(Self { device: device.clone(), dtype });
                }
            }
            places.extend(gpu::wgpu().map(|device| Self { device, dtype: DType::F32 }));
            assert!(!places.is_empty(), "no backend is compiled in");
            places
        })
    }

    /// Those in the host's memory, where hundreds of cases take no time.
    pub fn host() -> impl Iterator<Item = &'static Self> {
        Self::all().iter().filter(|place| place.is_cpu())
    }

    pub fn is_cpu(&self) -> bool {
        let name = format!("{:?}", self.device);
        name.contains("Flex") || name.contains("NdArray")
    }

    pub fn autodiff(&self) -> Self {
        Self { device: self.device.clone().autodiff(), dtype: self.dtype }
    }

    /// Largest error that rounding explains, relative to the largest magnitude: some hundred units of the last place.
    ///
    /// Shaders may approximate exponentials more coarsely than the CPU's library does.
    pub fn tolerance(&self) -> f64 {
        match (self.dtype, self.is_cpu()) {
            (DType::F64, _) => 512.0 * f64::EPSILON,
            (_, true) => 512.0 * f64::from(f32::EPSILON),
            (_, false) => 4096.0 * f64::from(f32::EPSILON),
        }
    }

    /// A tensor from a generator of its own, the same on every device.
    pub fn random<const D: usize>(&self, seed: u64, shape: [usize; D], scale: f64) -> Tensor<D> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
        let values: Vec<f64> = (0..shape.iter().product())
            .map(|_| {
                // xorshift64*
                state ^= state >> 12;
                state ^= state << 25;
                state ^= state >> 27;
                let bits = state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
                scale * (bits as f64 / (1_u64 << 52) as f64 - 1.0)
            })
            .collect();
        self.tensor(values, shape)
    }

    /// The same, as an input that gradients are asked for.
    pub fn leaf<const D: usize>(&self, seed: u64, shape: [usize; D], scale: f64) -> Tensor<D> {
        let tensor = self.random(seed, shape, scale);
        if self.device.is_autodiff() { tensor.require_grad() } else { tensor }
    }

    /// A dropout mask: zero with probability 1/4, else 4/3.
    pub fn mask<const D: usize>(&self, seed: u64, shape: [usize; D]) -> Tensor<D> {
        let noise = self.random(seed, shape, 1.0);
        noise.greater_elem(-0.5).float().cast(self.dtype) * (4.0 / 3.0)
    }

    pub fn tensor<const D: usize>(&self, values: Vec<f64>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values, shape), (&self.device, self.dtype))
    }
}

fn compiled_in() -> Vec<(DeviceType, &'static [DType])> {
    vec![
        #[cfg(feature = "flex")]
        (DeviceType::Flex, &[DType::F64, DType::F32]),
        // Its activations compute in single precision whatever the type.
        #[cfg(feature = "ndarray")]
        (DeviceType::NdArray, &[DType::F32]),
        #[cfg(feature = "cuda")]
        (DeviceType::Cuda, &[DType::F32]),
        #[cfg(feature = "rocm")]
        (DeviceType::Rocm, &[DType::F32]),
        #[cfg(feature = "metal")]
        (DeviceType::Metal, &[DType::F32]),
        #[cfg(feature = "vulkan")]
        (DeviceType::Vulkan, &[DType::F32]),
        #[cfg(feature = "webgpu")]
        (DeviceType::WebGpu, &[DType::F32]),
        #[cfg(feature = "cpu")]
        (DeviceType::Cpu, &[DType::F32]),
    ]
}

/// Named values, to be compared one by one.
pub type Values = Vec<(&'static str, Vec<f64>)>;

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// Panic if two results differ by more than `tolerance` times the largest magnitude of the expected one.
#[track_caller]
pub fn assert_close(what: &str, actual: &Values, expected: &Values, tolerance: f64) {
    assert_eq!(actual.len(), expected.len(), "{what}: other results");
    for ((name, actual), (expected_name, expected)) in actual.iter().zip(expected) {
        assert_eq!(name, expected_name, "{what}: other results");
        assert_eq!(actual.len(), expected.len(), "{what}: {name} has another size");
        let scale = expected.iter().fold(1e-30, |max: f64, x| max.max(x.abs()));
        for (index, (a, e)) in actual.iter().zip(expected).enumerate() {
            let error = (a - e).abs() / scale;
            assert!(
                error <= tolerance,
                "{what}: {name}[{index}] is {a}, expected {e} ({error:e} > {tolerance:e})"
            );
        }
    }
}

/// Check `gradients` (of the sum of `loss`) by central differences in double precision, at every element.
#[track_caller]
pub fn assert_gradient(
    what: &str,
    point: &[f64],
    gradient: &[f64],
    loss: impl Fn(Vec<f64>) -> f64,
) {
    const STEP: f64 = 1e-5;
    let scale = gradient.iter().fold(1e-3, |max: f64, x| max.max(x.abs()));
    for (index, &expected) in gradient.iter().enumerate() {
        let shifted = |step: f64| {
            let mut point = point.to_vec();
            point[index] += step;
            loss(point)
        };
        let actual = (shifted(STEP) - shifted(-STEP)) / (2.0 * STEP);
        let error = (actual - expected).abs() / scale;
        assert!(error < 1e-7, "{what}[{index}]: gradient {expected}, by differences {actual}");
    }
}
