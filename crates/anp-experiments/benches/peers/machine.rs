//! Where a measurement was made.

use std::fs;
use std::thread::available_parallelism;

use serde::{Deserialize, Serialize};

/// Instruction sets that decide how fast a CPU multiplies matrices.
const INSTRUCTIONS: [&str; 6] = ["avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "asimd"];

/// The machine, as far as the system says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    pub platform: String,
    pub cpu: Option<String>,
    pub instructions: Vec<String>,
    pub cores: usize,
    pub memory_bytes: Option<u64>,
    /// Processes that wanted a core over the last minute before the measurement; with more than
    /// none, the machine had something else to do.
    pub load: Option<f64>,
}

impl Machine {
    pub fn current() -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = cpu.lines().find(|line| line.starts_with(name))?;
            line.split_once(':').map(|(_, value)| value.trim())
        };
        let flags = field("flags").or_else(|| field("Features")).unwrap_or_default();
        let has = |name: &str| flags.split(' ').any(|flag| flag == name);
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let load = fs::read_to_string("/proc/loadavg").ok();
        Self {
            platform: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
            cpu: field("model name").map(str::to_owned),
            instructions: INSTRUCTIONS
                .into_iter()
                .filter(|name| has(name))
                .map(str::to_owned)
                .collect(),
            cores: available_parallelism().map_or(1, usize::from),
            memory_bytes: memory
                .and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok())
                .map(|kibibytes| kibibytes * 1024),
            load: load.and_then(|text| text.split(' ').next()?.parse().ok()),
        }
    }
}
