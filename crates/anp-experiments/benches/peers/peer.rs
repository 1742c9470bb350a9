//! A peer: one case in one process, so that its memory is its own, whoever wrote the program.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anp_experiments::device::DeviceName;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::case::{Case, Mode, Model};

/// Whose program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// PyTorch as it is installed.
    Pytorch,
    /// PyTorch told to keep the memory that it frees, and with torch.compile where that is faster.
    PytorchTuned,
    /// PyTorch with a loop over cells in place of its fused LSTM, tuned likewise.
    PytorchLoop,
    /// This project.
    Fused,
    /// This project without fused operations.
    Plain,
    /// burn-nn and burn-optim.
    Stock,
}

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// The case's step.
    Step,
    /// The step with η = 0.
    WithoutPenalty,
    /// The step in single precision, beside that of another type.
    InF32,
    /// Only the step's matrix products.
    Products,
}

/// How exact the arithmetic has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dtype {
    F32,
    /// f32 whose products round their factors to TF32.
    Tf32,
    Bf16,
}

/// Where peers run.
#[derive(Debug, Clone)]
pub struct Place {
    pub device: DeviceName,
    pub torch_device: String,
    pub dtype: Dtype,
    pub threads: usize,
    pub python: PathBuf,
}

impl Place {
    /// Whether products are of bfloat16 and all else of single precision: on a CPU, where whole
    /// models of bfloat16 would be slower.
    pub fn is_mixed(&self) -> bool {
        self.dtype == Dtype::Bf16 && self.device.backend.is_cpu()
    }
}

/// Who takes part in a case.
pub fn entrants(case: &Case, place: &Place) -> impl Iterator<Item = (Engine, Work)> {
    let has_penalty = case.mode == Mode::Train && case.eta > 0.0;
    // Its products are convolutions, which are what is compared.
    let has_products = case.model != Model::WideResNet;
    let is_mixed = place.is_mixed();
    let entrants = [
        (Engine::Fused, Work::Step),
        (Engine::Fused, Work::WithoutPenalty),
        (Engine::Fused, Work::InF32),
        (Engine::Plain, Work::Step),
        (Engine::Stock, Work::Step),
        (Engine::Stock, Work::Products),
        (Engine::Pytorch, Work::Step),
        (Engine::Pytorch, Work::WithoutPenalty),
        (Engine::PytorchTuned, Work::Step),
        (Engine::PytorchLoop, Work::Step),
        (Engine::Pytorch, Work::InF32),
        (Engine::Pytorch, Work::Products),
    ];
    let takes_part = move |&(engine, work): &(Engine, Work)| match (engine, work) {
        // Burn's own layers and products know no mixed precision.
        (Engine::Stock, _) if is_mixed => false,
        (Engine::Stock, Work::Step) => case.model == Model::Lstm,
        // In single precision the fused LSTM is the faster one.
        (Engine::PytorchLoop, _) => is_mixed && case.model == Model::Lstm,
        (_, Work::Step) => true,
        (_, Work::WithoutPenalty) => has_penalty,
        (_, Work::InF32) => is_mixed,
        (_, Work::Products) => has_products,
    };
    entrants.into_iter().filter(takes_part)
}

/// What a peer says of itself.
#[derive(Debug, Deserialize)]
pub struct Ready {
    pub name: String,
    pub versions: Value,
}

/// What a turn gave.
#[derive(Debug, Deserialize)]
pub struct Turn {
    /// Of all steps of the turn together.
    pub seconds: f64,
    /// Loss of the last step, without the penalty.
    pub loss: f64,
}

/// Largest memory that a peer has held.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Resident in main memory, the program itself included; `None` where the system does not say.
    pub resident_bytes: Option<u64>,
    /// On a GPU.
    pub device_bytes: Option<u64>,
}

/// A process that is ready for steps.
pub struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    errors: fs::File,
}

impl Peer {
    /// Start the process and wait until it is ready.
    ///
    /// # Errors
    ///
    /// If it is not, with the end of what it wrote to stderr.
    pub fn start(case: &Case, engine: Engine, work: Work, place: &Place) -> Result<(Self, Ready)> {
        let case = match work {
            Work::WithoutPenalty => &Case { eta: 0.0, ..case.clone() },
            Work::Step | Work::InF32 | Work::Products => case,
        };
        let dtype = if work == Work::InF32 { Dtype::F32 } else { place.dtype };
        let (mut command, device) = match engine {
            Engine::Pytorch | Engine::PytorchTuned | Engine::PytorchLoop => {
                (python(case, engine, work, place)?, place.torch_device.clone())
            }
            Engine::Fused | Engine::Plain | Engine::Stock => {
                (rust(engine, work)?, place.device.to_string())
            }
        };
        command.arg(serde_json::to_string(case)?);
        command.args(["--device", &device, "--dtype", &value(dtype)]);
        let threads = place.threads.to_string();
        for name in ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"] {
            command.env(name, &threads);
        }
        let errors = tempfile::tempfile().context("no temporary file")?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.try_clone()?)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let input = child.stdin.take().expect("stdin is piped");
        let output = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut peer = Self { child, input, output, errors };
        let ready = peer.answer()?;
        Ok((peer, ready))
    }

    /// Take `count` steps.
    ///
    /// # Errors
    ///
    /// If the process has ended.
    pub fn step(&mut self, count: usize) -> Result<Turn> {
        self.ask(&format!("step {count}"))
    }

    /// Ask for the memory, and end the process.
    ///
    /// # Errors
    ///
    /// If it has ended before.
    pub fn finish(mut self) -> Result<Memory> {
        #[derive(Deserialize)]
        struct Quit {
            device_bytes: Option<u64>,
        }
        let resident_bytes = peak_resident_bytes(self.child.id());
        let Quit { device_bytes } = self.ask("quit")?;
        Ok(Memory { resident_bytes, device_bytes })
    }

    fn ask<T: DeserializeOwned>(&mut self, line: &str) -> Result<T> {
        // That the pipe is closed says less than what stands in stderr, which reading finds.
        let _ = writeln!(self.input, "{line}").and_then(|()| self.input.flush());
        self.answer()
    }

    fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        if self.output.read_line(&mut line).context("cannot read a peer's answer")? == 0 {
            let mut text = String::new();
            self.errors.rewind()?;
            self.errors.read_to_string(&mut text)?;
            // The last line of Python's traceback, or of a panic's message.
            let is_said = |line: &&str| !line.is_empty() && !line.starts_with("note:");
            let last = text.lines().map(str::trim).rfind(is_said);
            bail!("it ended: {}", last.unwrap_or("without a word"));
        }
        serde_json::from_str(&line).with_context(|| format!("not an answer: {line}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn python(case: &Case, engine: Engine, work: Work, place: &Place) -> Result<Command> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/python/peer.py");
    let mut command = Command::new(&place.python);
    command.arg(program).arg("--threads").arg(place.threads.to_string());
    if work == Work::Products {
        command.arg("--products");
    }
    if engine == Engine::PytorchLoop {
        command.arg("--loop");
    }
    if engine != Engine::Pytorch {
        // On a CPU it gains nothing where products take most of the step, and SRU's scan has none.
        let has_scan = case.model == Model::Sru;
        if engine == Engine::PytorchTuned && (has_scan || place.torch_device != "cpu") {
            command.arg("--compile");
        }
        // glibc gives blocks of megabytes back at once, and takes a page fault for each page of the
        // next.
        command.env("MALLOC_MMAP_THRESHOLD_", (1_u64 << 30).to_string());
        command.env("MALLOC_TRIM_THRESHOLD_", (1_u64 << 32).to_string());
    }
    // Compiling finds ninja beside the interpreter.
    let folders = place.python.parent().map(Path::to_path_buf).into_iter();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path: OsString = std::env::join_paths(folders.chain(std::env::split_paths(&path)))?;
    command.env("PATH", path);
    Ok(command)
}

fn rust(engine: Engine, work: Work) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("where is this program?")?);
    command.args(["serve", "--engine", &value(engine), "--work", &value(work)]);
    // A panic's message is then the last that it says.
    command.env("RUST_BACKTRACE", "0");
    Ok(command)
}

/// A value as the command line spells it.
pub fn value(value: impl ValueEnum) -> String {
    value.to_possible_value().expect("no value is skipped").get_name().to_owned()
}

/// Linux keeps the peak of each process.
fn peak_resident_bytes(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}
