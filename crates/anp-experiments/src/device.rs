//! Devices by name: what is compiled in, what is present, what would have to be added.

use std::fmt;
use std::panic::catch_unwind;
use std::str::FromStr;

#[cfg(feature = "wgpu")]
use burn::tensor::DeviceKind;
use burn::tensor::{Device, DeviceType};

/// A backend of Burn that anp can be built with; the feature has the same name. The one to prefer
/// comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Backend {
    /// NVIDIA GPUs.
    Cuda,
    /// AMD GPUs.
    Rocm,
    /// Apple GPUs.
    Metal,
    /// Any GPU through Vulkan and SPIR-V shaders.
    Vulkan,
    /// The GPU of a web browser, in a build for WebAssembly.
    Webgpu,
    /// Any GPU through WGSL shaders and the interface that wgpu chooses: Vulkan, Metal, DirectX 12
    /// or OpenGL.
    Wgpu,
    /// The CPU, pure Rust.
    Flex,
    /// The CPU, through kernels compiled by LLVM.
    Cpu,
    /// The CPU, as Burn did it before flex.
    Ndarray,
}

/// All backends in the order of [`Backend`], each with its name and what [`Backend::description`]
/// says.
const BACKENDS: [(Backend, &str, &str); 9] = [
    (Backend::Cuda, "cuda", "NVIDIA GPUs; needs the NVIDIA driver"),
    (Backend::Rocm, "rocm", "AMD GPUs; needs ROCm"),
    (Backend::Metal, "metal", "Apple GPUs"),
    (Backend::Vulkan, "vulkan", "any GPU with a Vulkan driver, through SPIR-V shaders"),
    (Backend::Webgpu, "webgpu", "the GPU of a web browser; none in a native build"),
    (Backend::Wgpu, "wgpu", "any GPU with a Vulkan, Metal, DirectX 12 or OpenGL driver"),
    (Backend::Flex, "flex", "CPU, pure Rust"),
    (Backend::Cpu, "cpu", "CPU, kernels compiled by LLVM"),
    (Backend::Ndarray, "ndarray", "CPU, deprecated by Burn"),
];

impl Backend {
    /// All backends, the one to prefer first.
    pub fn all() -> impl Iterator<Item = Self> {
        BACKENDS.into_iter().map(|(backend, ..)| backend)
    }

    /// Name of the backend and of its Cargo feature.
    pub fn name(self) -> &'static str {
        BACKENDS[self as usize].1
    }

    /// What the backend is for, and what it needs on the machine.
    pub fn description(self) -> &'static str {
        BACKENDS[self as usize].2
    }

    /// Whether the backend computes on the CPU, which is then its only device.
    pub fn is_cpu(self) -> bool {
        matches!(self, Self::Flex | Self::Cpu | Self::Ndarray)
    }

    /// Burn's name for the backend; `None` if it is not compiled in.
    fn device_type(self) -> Option<DeviceType> {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda => Some(DeviceType::Cuda),
            #[cfg(feature = "rocm")]
            Self::Rocm => Some(DeviceType::Rocm),
            #[cfg(feature = "metal")]
            Self::Metal => Some(DeviceType::Metal),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => Some(DeviceType::Vulkan),
            #[cfg(feature = "webgpu")]
            Self::Webgpu => Some(DeviceType::WebGpu),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Some(DeviceType::Wgpu),
            #[cfg(feature = "flex")]
            Self::Flex => Some(DeviceType::Flex),
            #[cfg(feature = "cpu")]
            Self::Cpu => Some(DeviceType::Cpu),
            #[cfg(feature = "ndarray")]
            Self::Ndarray => Some(DeviceType::NdArray),
            #[allow(unreachable_patterns)]
            _ => None,
        }
    }

    /// Whether this build can use the backend.
    pub fn is_compiled_in(self) -> bool {
        self.device_type().is_some()
    }

    /// The backend's devices on this machine, in the order of their numbers.
    ///
    /// None if the backend is not compiled in, or its driver is not there.
    pub fn devices(self) -> Vec<Device> {
        let Some(device_type) = self.device_type() else { return Vec::new() };
        // A missing driver is a panic in some backends; for the question asked here it means no
        // device.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        let found = catch_unwind(|| Device::enumerate(device_type).to_vec());
        std::panic::set_hook(hook);
        found.unwrap_or_default()
    }

    /// Whether one of the backend's devices is not a GPU, but a program on the CPU that stands in
    /// for one, as lavapipe and SwiftShader do: good for tests, too slow for anything else.
    pub fn is_software(self, device: &Device) -> bool {
        // Devices of one graphics interface compare by kind; none is opened for it.
        let stand_in: Option<Device> = match self {
            #[cfg(feature = "metal")]
            Self::Metal => Some(Device::metal(DeviceKind::Cpu)),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => Some(Device::vulkan(DeviceKind::Cpu)),
            #[cfg(feature = "webgpu")]
            Self::Webgpu => Some(Device::webgpu(DeviceKind::Cpu)),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Some(Device::wgpu(DeviceKind::Cpu)),
            _ => None,
        };
        stand_in.is_some_and(|stand_in| stand_in == *device)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A device as `--device` names it: `flex`, `cuda:0`, `vulkan:1`. Without a number it is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceName {
    /// The backend.
    pub backend: Backend,
    /// Number among the backend's devices.
    pub index: usize,
}

/// Why there is no such device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The text does not name a device.
    #[error(
        "`{0}` is not a device; a device is a backend and perhaps a number, as in flex, cuda:0 or \
         vulkan:1 (`anp devices` lists them)"
    )]
    Unknown(String),
    /// The backend is not part of this build.
    #[error(
        "{0} is not compiled in; build with `--features {backend}` (with xtask: `cargo xtask \
         --features {backend} …`)",
        backend = .0.backend
    )]
    NotCompiledIn(DeviceName),
    /// The backend has no such device here.
    #[error(
        "{name} is not present; devices that {backend} finds here: {found} (`anp devices` lists \
         what there is)",
        backend = .name.backend
    )]
    NotPresent {
        /// The device.
        name: DeviceName,
        /// Devices that the backend finds.
        found: usize,
    },
    /// A device cannot share work with itself.
    #[error("{0} is named twice")]
    Twice(DeviceName),
    /// Nothing at all.
    #[error("no backend is compiled in; build with `--features flex`, or another backend's name")]
    NoBackend,
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backend, index } = self;
        if backend.is_cpu() { write!(f, "{backend}") } else { write!(f, "{backend}:{index}") }
    }
}

impl FromStr for DeviceName {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || DeviceError::Unknown(text.to_owned());
        let (backend, index) = match text.split_once(':') {
            Some((backend, index)) => (backend, index.parse().map_err(|_| unknown())?),
            None => (text, 0),
        };
        let backend = Backend::all().find(|it| it.name() == backend).ok_or_else(unknown)?;
        Ok(Self { backend, index })
    }
}

impl DeviceName {
    /// The best device that is compiled in and present; [software](Backend::is_software) only where
    /// there is nothing else.
    ///
    /// # Errors
    ///
    /// [`DeviceError::NoBackend`].
    pub fn best() -> Result<Self, DeviceError> {
        let present = Backend::all().flat_map(|backend| {
            let named =
                move |(index, device)| (Self { backend, index }, backend.is_software(&device));
            backend.devices().into_iter().enumerate().map(named)
        });
        first_hardware(present).ok_or(DeviceError::NoBackend)
    }

    /// The device itself.
    ///
    /// # Errors
    ///
    /// [`DeviceError::NotCompiledIn`] or [`DeviceError::NotPresent`].
    pub fn open(self) -> Result<Device, DeviceError> {
        if !self.backend.is_compiled_in() {
            return Err(DeviceError::NotCompiledIn(self));
        }
        let devices = self.backend.devices();
        let found = devices.len();
        let device = devices.into_iter().nth(self.index);
        device.ok_or(DeviceError::NotPresent { name: self, found })
    }
}

/// The devices of a run, each with its name; the model is on the first.
#[derive(Debug, Clone)]
pub struct Devices(Vec<(DeviceName, Device)>);

impl Devices {
    /// Open the devices of these names, in order.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] for the first that is wrong, or is there twice.
    ///
    /// # Panics
    ///
    /// If there is no name.
    pub fn open(names: &[DeviceName]) -> Result<Self, DeviceError> {
        for (index, &name) in names.iter().enumerate() {
            if names[..index].contains(&name) {
                return Err(DeviceError::Twice(name));
            }
        }
        names.iter().map(|&name| Ok((name, name.open()?))).collect::<Result<_, _>>().map(Self::new)
    }

    /// These devices.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn new(named: Vec<(DeviceName, Device)>) -> Self {
        assert!(!named.is_empty(), "a run needs a device");
        Self(named)
    }

    /// The device that the model is on.
    pub fn first(&self) -> &Device {
        &self.0[0].1
    }

    /// All of them, in order, with their names.
    pub fn named(&self) -> &[(DeviceName, Device)] {
        &self.0
    }

    /// Whether work is shared.
    pub fn are_several(&self) -> bool {
        self.0.len() > 1
    }
}

/// The names with commas between them, as `--device` takes them.
impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&list(self.0.iter().map(|(name, _)| name)))
    }
}

/// The names with commas between them, as `--device` takes them.
pub fn list<'a>(names: impl IntoIterator<Item = &'a DeviceName>) -> String {
    names.into_iter().map(DeviceName::to_string).collect::<Vec<_>>().join(",")
}

/// The first device that is not software, else the first; each comes with whether it is. Backends
/// after the one that is taken are not asked for theirs.
fn first_hardware(mut present: impl Iterator<Item = (DeviceName, bool)>) -> Option<DeviceName> {
    let mut first = None;
    let hardware = present.find(|&(name, is_software)| {
        first = first.or(Some(name));
        !is_software
    });
    hardware.map(|(name, _)| name).or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_backends_is_in_their_order() {
        for (index, backend) in Backend::all().enumerate() {
            assert_eq!(backend as usize, index, "{backend}");
        }
    }

    #[test]
    fn names_read_back_and_default_to_the_first() {
        for text in ["flex", "ndarray", "cuda:0", "vulkan:3"] {
            assert_eq!(text.parse::<DeviceName>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceName { backend: Backend::Cuda, index: 0 }));
    }

    #[test]
    fn what_is_no_device_is_named_in_the_error() {
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:0:1", "Flex"] {
            let err = text.parse::<DeviceName>().unwrap_err();
            assert!(err.to_string().contains(&format!("`{text}`")), "{err}");
        }
    }

    #[test]
    fn a_backend_that_is_not_compiled_in_names_its_feature() {
        // ROCm is the one backend that no test build has.
        let err = "rocm:0".parse::<DeviceName>().unwrap().open().unwrap_err();
        assert!(err.to_string().contains("--features rocm"), "{err}");
    }

    #[cfg(feature = "flex")]
    #[test]
    fn flex_is_always_present_but_only_once() {
        assert!("flex".parse::<DeviceName>().unwrap().open().is_ok());
        let err = "flex:1".parse::<DeviceName>().unwrap().open().unwrap_err();
        assert!(matches!(err, DeviceError::NotPresent { found: 1, .. }));
        let best = DeviceName::best().unwrap();
        assert!(!best.backend.is_software(&best.open().unwrap()), "{best} although there is flex");
    }

    #[cfg(feature = "flex")]
    #[test]
    fn several_devices_are_different_ones() {
        let open = |text: &str| {
            let names: Vec<DeviceName> = text.split(',').map(|it| it.parse().unwrap()).collect();
            assert_eq!(list(&names), text);
            Devices::open(&names).map(|devices| devices.named().len())
        };
        assert_eq!(open("flex"), Ok(1));
        assert_eq!(open("flex,flex").unwrap_err().to_string(), "flex is named twice");
        // ROCm is the one backend that no test build has.
        assert!(matches!(open("flex,rocm:0"), Err(DeviceError::NotCompiledIn(_))));
    }

    #[test]
    fn software_is_taken_only_where_there_is_nothing_else() {
        let best = |present: &[(&str, bool)]| {
            let present = present.iter().map(|&(name, software)| (name.parse().unwrap(), software));
            first_hardware(present).map(|name| name.to_string())
        };
        let lavapipe = ("vulkan:0", true);
        assert_eq!(best(&[lavapipe, ("flex", false)]).as_deref(), Some("flex"));
        assert_eq!(
            best(&[lavapipe, ("vulkan:1", false), ("flex", false)]).as_deref(),
            Some("vulkan:1")
        );
        assert_eq!(best(&[lavapipe, ("wgpu:0", true)]).as_deref(), Some("vulkan:0"));
        assert_eq!(best(&[]), None);
    }

    /// Burn lists a software adapter as the device of this kind.
    #[cfg(feature = "vulkan")]
    #[test]
    fn software_is_told_from_gpus_without_opening_either() {
        let stand_in = Device::vulkan(DeviceKind::Cpu);
        assert!(Backend::Vulkan.is_software(&stand_in));
        assert!(Backend::Vulkan.is_software(&stand_in.autodiff()));
        for kind in
            [DeviceKind::DiscreteGpu(0), DeviceKind::IntegratedGpu(0), DeviceKind::VirtualGpu(0)]
        {
            assert!(!Backend::Vulkan.is_software(&Device::vulkan(kind)));
        }
    }
}
