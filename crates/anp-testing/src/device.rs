//! Where tests run.

use std::io::Write;
use std::panic::catch_unwind;
use std::sync::OnceLock;

use burn::tensor::{DType, Device, DeviceType, Tensor, TensorData};

use crate::random::noise;

/// Set where a test run must have a GPU and accepts software that stands in for one, as in CI.
const DEMAND: &str = "ANP_TEST_WGPU";

/// Where to compute in a test, and in which precision.
#[derive(Debug, Clone)]
pub struct TestDevice {
    /// The device.
    pub device: Device,
    /// Type of the floating-point tensors.
    pub dtype: DType,
}

impl TestDevice {
    /// Every device of this build that is present; flex also in double precision.
    ///
    /// A backend that is compiled in but has no device is named on stderr. [`Self::wgpu`] says when
    /// software stands in for a GPU.
    ///
    /// # Panics
    ///
    /// If no backend is compiled in, or as [`Self::wgpu`].
    pub fn all() -> &'static [Self] {
        static DEVICES: OnceLock<Vec<TestDevice>> = OnceLock::new();
        DEVICES.get_or_init(|| {
            let mut devices = Vec::new();
            for (device_type, dtypes) in compiled_in() {
                let Some(device) = enumerate(&device_type).into_iter().next() else {
                    skip(&format!("{device_type:?}: compiled in, but not present"));
                    continue;
                };
                devices.extend(dtypes.iter().map(|&dtype| Self { device: device.clone(), dtype }));
            }
            devices.extend(Self::wgpu());
            assert!(!devices.is_empty(), "no backend is compiled in");
            devices
        })
    }

    /// Flex and ndarray, on which hundreds of cases take no time.
    pub fn cpus() -> impl Iterator<Item = &'static Self> {
        Self::all().iter().filter(|device| device.is_cpu())
    }

    /// The first device of the feature `wgpu`; `None`, with a line on stderr, if there is no GPU.
    ///
    /// Software on the CPU that stands in for a GPU, such as lavapipe, is accepted only if the
    /// variable `ANP_TEST_WGPU` is set: it is slow, and a desktop that happens to have it need not
    /// wait for it.
    ///
    /// # Panics
    ///
    /// If `ANP_TEST_WGPU` is set and there is neither, or the feature is not compiled in.
    pub fn wgpu() -> Option<Self> {
        let is_demanded = std::env::var_os(DEMAND).is_some_and(|value| !value.is_empty());
        #[cfg(not(feature = "wgpu"))]
        let found = {
            assert!(!is_demanded, "{DEMAND} is set, but the feature `wgpu` is not compiled in");
            None
        };
        #[cfg(feature = "wgpu")]
        let found = {
            let software = Device::wgpu(burn::tensor::DeviceKind::Cpu);
            let is_usable = |device: &Device| is_demanded || *device != software;
            let found = enumerate(&DeviceType::Wgpu).into_iter().find(is_usable);
            assert!(
                found.is_some() || !is_demanded,
                "{DEMAND} is set, but there is neither a GPU nor software that stands in for one; \
                 VK_ICD_FILENAMES names the driver of such software, for lavapipe \
                 /usr/share/vulkan/icd.d/lvp_icd.x86_64.json"
            );
            if found.is_none() {
                skip(&format!("wgpu: no GPU is present; {DEMAND}=1 accepts software"));
            }
            found
        };
        found.map(|device| Self { device, dtype: DType::F32 })
    }

    /// Whether the backend is flex or ndarray.
    pub fn is_cpu(&self) -> bool {
        let name = format!("{:?}", self.device);
        name.contains("Flex") || name.contains("NdArray")
    }

    /// The same with gradients.
    pub fn autodiff(&self) -> Self {
        Self { device: self.device.clone().autodiff(), dtype: self.dtype }
    }

    /// The largest relative error of results in which the errors of `count` roundings add up.
    ///
    /// Eight times as much is granted to other devices than CPUs: shaders may approximate
    /// exponentials more coarsely than the CPU's library does.
    pub fn roundings(&self, count: f64) -> f64 {
        match (self.dtype, self.is_cpu()) {
            (DType::F64, _) => count * f64::EPSILON,
            (_, true) => count * f64::from(f32::EPSILON),
            (_, false) => 8.0 * count * f64::from(f32::EPSILON),
        }
    }

    /// [`Self::roundings`] of an operation over a sequence: some hundreds.
    pub fn tolerance(&self) -> f64 {
        self.roundings(512.0)
    }

    /// A tensor of these elements, row by row.
    pub fn tensor<const D: usize>(&self, values: Vec<f64>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values, shape), (&self.device, self.dtype))
    }

    /// A tensor of noise between `−scale` and `scale`, the same on every device.
    pub fn random<const D: usize>(&self, seed: u64, shape: [usize; D], scale: f64) -> Tensor<D> {
        let values = noise(seed)(shape.iter().product());
        self.tensor(values.into_iter().map(|x| scale * x).collect(), shape)
    }

    /// The same, as an input that gradients are asked for if the device computes them.
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

fn enumerate(device_type: &DeviceType) -> Vec<Device> {
    // A missing driver is a panic in some backends.
    catch_unwind(|| Device::enumerate(device_type.clone()).to_vec()).unwrap_or_default()
}

fn skip(reason: &str) {
    // Past the test harness, which would hide it.
    let line = format!("SKIPPED {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("stderr is open");
}

/// The types of devices but wgpu, and the precisions to test them in.
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
