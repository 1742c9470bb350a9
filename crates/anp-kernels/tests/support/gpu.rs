//! The GPU that tests run on, besides the CPU.

use burn::tensor::Device;

/// Set where a test run must have a GPU and accepts software that stands in for one, as in CI.
const DEMAND: &str = "ANP_TEST_WGPU";

fn is_demanded() -> bool {
    std::env::var_os(DEMAND).is_some_and(|value| !value.is_empty())
}

/// The first device of the feature `wgpu`; `None`, with a line on stderr, if there is no GPU.
///
/// Software on the CPU that stands in for a GPU, such as lavapipe, is accepted only if
/// `ANP_TEST_WGPU` is set: it is slow, and a desktop that happens to have it need not wait for it.
///
/// # Panics
///
/// If `ANP_TEST_WGPU` is set and there is neither.
#[cfg(feature = "wgpu")]
pub fn wgpu() -> Option<Device> {
    use std::io::Write;

    use burn::tensor::{DeviceKind, DeviceType};

    // A missing driver is a panic in some backends.
    let found = std::panic::catch_unwind(|| Device::enumerate(DeviceType::Wgpu).to_vec());
    let software = Device::wgpu(DeviceKind::Cpu);
    let usable = |device: &Device| is_demanded() || *device != software;
    let found = found.unwrap_or_default().into_iter().find(usable);
    if found.is_none() {
        assert!(
            !is_demanded(),
            "{DEMAND} is set, but there is neither a GPU nor software that stands in for one; \
             VK_ICD_FILENAMES names the driver of such software, for lavapipe \
             /usr/share/vulkan/icd.d/lvp_icd.x86_64.json"
        );
        // Past the test harness, which would hide it.
        let line = format!("SKIPPED wgpu: no GPU is present; {DEMAND}=1 accepts software\n");
        std::io::stderr().write_all(line.as_bytes()).expect("stderr is open");
    }
    found
}

/// There is none to look for.
///
/// # Panics
///
/// If `ANP_TEST_WGPU` is set.
#[cfg(not(feature = "wgpu"))]
pub fn wgpu() -> Option<Device> {
    assert!(!is_demanded(), "{DEMAND} is set, but the feature `wgpu` is not compiled in");
    None
}
