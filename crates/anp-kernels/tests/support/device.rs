use std::io::Write;
use std::panic::catch_unwind;
use std::sync::OnceLock;

use burn::tensor::{DType, Device, DeviceType, Tensor, TensorData};

use super::gpu;

/// Where to compute in a test, and how precisely.
#[derive(Debug, Clone)]
pub struct TestDevice {
    pub device: Device,
    pub dtype: DType,
}

impl TestDevice {
    /// Every device of this build that is present; CPUs also in double precision.
    ///
    /// A backend that is compiled in but has no device is named on stderr. [`gpu::wgpu`] says when
    /// software stands in for a GPU.
    pub fn all() -> &'static [Self] {
        static DEVICES: OnceLock<Vec<TestDevice>> = OnceLock::new();
        DEVICES.get_or_init(|| {
            let mut devices = Vec::new();
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
                    devices.push(Self { device: device.clone(), dtype });
                }
            }
            devices.extend(gpu::wgpu().map(|device| Self { device, dtype: DType::F32 }));
            assert!(!devices.is_empty(), "no backend is compiled in");
            devices
        })
    }

    /// The CPU backends, on which hundreds of cases take no time.
    pub fn cpus() -> impl Iterator<Item = &'static Self> {
        Self::all().iter().filter(|device| device.is_cpu())
    }

    pub fn is_cpu(&self) -> bool {
        let name = format!("{:?}", self.device);
        name.contains("Flex") || name.contains("NdArray")
    }

    pub fn autodiff(&self) -> Self {
        Self { device: self.device.clone().autodiff(), dtype: self.dtype }
    }

    /// Largest error that rounding explains, relative to the largest magnitude: some hundred units
    /// of the last place.
    ///
    /// Shaders may approximate exponentials more coarsely than the CPU's library does.
    pub fn tolerance(&self) -> f64 {
        match (self.dtype, self.is_cpu()) {
            (DType::F64, _) => 512.0 * f64::EPSILON,
            (_, true) => 512.0 * f64::from(f32::EPSILON),
            (_, false) => 4096.0 * f64::from(f32::EPSILON),
        }
    }

    pub fn tensor<const D: usize>(&self, values: Vec<f64>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values, shape), (&self.device, self.dtype))
    }

    /// A tensor of noise between `-scale` and `scale`, the same on every device.
    pub fn random<const D: usize>(&self, seed: u64, shape: [usize; D], scale: f64) -> Tensor<D> {
        self.tensor(noise(seed, shape.iter().product(), scale), shape)
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
}

/// Numbers between `-scale` and `scale`, by xorshift64*.
fn noise(seed: u64, len: usize, scale: f64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
    let number = |_| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let bits = state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        scale * (bits as f64 / (1_u64 << 52) as f64 - 1.0)
    };
    (0..len).map(number).collect()
}

/// The types of devices, and the precisions to test them in.
fn compiled_in() -> Vec<(DeviceType, &'static [DType])> {
    vec![
        #[cfg(feature = "flex")]
        (DeviceType::Flex, &[DType::F64, DType::F32]),
        // Its activations compute in single precision, whatever the type.
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
