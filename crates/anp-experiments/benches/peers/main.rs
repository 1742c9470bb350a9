//! Whole training steps beside other programs: `cargo xtask bench peers`.
//!
//! Every peer is a process of its own that takes the same steps on the same text: python/peer.py
//! for PyTorch, this program itself for Burn. One turn each, round and round; medians, quartiles,
//! and ratios turn by turn.

mod case;
mod images;
mod machine;
mod measure;
mod ours;
mod peer;
mod products;
mod report;
mod serve;
mod steps;
mod stock;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;

use anp_experiments::device::DeviceName;
use anyhow::{Result, bail};
use clap::{Parser, Subcommand, ValueEnum};

use crate::case::Case;
use crate::machine::Machine;
use crate::peer::{Dtype, Engine, Place, Work};

/// As in the `anp` program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Above this, something else is at work on the machine.
const QUIET: f64 = 0.5;

/// Measure training steps beside other programs.
#[derive(Debug, Parser)]
#[command(name = "peers", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Request>,
    /// Cases whose name contains this text; else all of them
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Print the names of the cases
    #[arg(long)]
    list: bool,
    /// Turns of each peer
    #[arg(long, value_name = "N", default_value_t = 15)]
    steps: usize,
    /// Threads of each peer [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Burn's device, as in `anp devices` [default: the best]
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceName>,
    /// PyTorch's device [default: cpu or cuda, as Burn's is]
    #[arg(long, value_name = "DEVICE")]
    torch_device: Option<String>,
    /// How exact the arithmetic is
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
    /// Peers that take part
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',')]
    peers: Vec<Engine>,
    /// Another strength of the penalty
    #[arg(long, value_name = "NUMBER")]
    eta: Option<f64>,
    /// Another probability of dropping, at all places that drop
    #[arg(long, value_name = "P")]
    dropout: Option<f64>,
    /// Python with the packages of benches/peers/python/requirements.txt
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: PathBuf,
    /// Where results are stored; those with --eta or --dropout are not, unless this is given
    /// [default: docs/benchmarks]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Cargo says this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum Request {
    /// Be a peer
    #[command(hide = true)]
    Serve {
        case: String,
        #[arg(long, value_enum)]
        engine: Engine,
        #[arg(long, value_enum)]
        work: Work,
        #[arg(long)]
        device: DeviceName,
        #[arg(long, value_enum)]
        dtype: Dtype,
    },
}

impl Cli {
    fn cases(&self) -> Result<Vec<Case>> {
        let mut cases = Case::all();
        cases.retain(|case| {
            self.only.is_empty() || self.only.iter().any(|text| case.name().contains(text))
        });
        if cases.is_empty() {
            bail!("no case is called like that; --list prints their names");
        }
        for case in &mut cases {
            if let Some(eta) = self.eta {
                case.eta = eta;
            }
            for dropout in case.dropouts_mut() {
                *dropout = self.dropout.filter(|_| *dropout > 0.0).unwrap_or(*dropout);
            }
        }
        Ok(cases)
    }

    fn place(&self) -> Result<Place> {
        let device = self.device.map_or_else(DeviceName::best, Ok)?;
        let torch_device = if device.backend.is_cpu() { "cpu" } else { "cuda" };
        Ok(Place {
            device,
            torch_device: self.torch_device.clone().unwrap_or_else(|| torch_device.to_owned()),
            dtype: self.dtype,
            threads: match self.threads {
                Some(threads) => threads,
                None => available_parallelism()?.get(),
            },
            python: self.python.clone(),
        })
    }

    fn out(&self) -> Option<PathBuf> {
        let as_it_is = self.eta.is_none() && self.dropout.is_none();
        self.out.clone().or_else(|| as_it_is.then(|| PathBuf::from("docs/benchmarks")))
    }

    fn run(self) -> Result<()> {
        if let Some(Request::Serve { case, engine, work, device, dtype }) = self.command {
            return serve::serve(&serde_json::from_str(&case)?, engine, work, device, dtype);
        }
        let cases = self.cases()?;
        if self.list {
            for case in cases {
                println!("{:<16} {}", case.name(), case.description());
            }
            return Ok(());
        }
        let place = self.place()?;
        let engines = if self.peers.is_empty() { Engine::value_variants() } else { &self.peers };
        // Before the first case: afterwards the load is our own.
        let machine = Machine::current();
        if machine.load.is_some_and(|load| load > QUIET) {
            eprintln!("warning: the machine is busy with something else; do not quote these times");
        }
        for case in &cases {
            let measurement = measure::measure(case, &place, engines, self.steps, &machine)?;
            println!("{}", measurement.section());
            if let Some(out) = self.out() {
                let page = report::store(&out, &measurement)?;
                eprintln!("{}: stored, see {}", case.name(), page.display());
            }
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    anp_experiments::startup::prepare();
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {err:#}");
            ExitCode::from(2)
        }
    }
}
