//! Measurements as tables and files.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anp_experiments::atomic;
use anyhow::{Context, Result};
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use statrs::statistics::{Data, OrderStatistics};

use crate::case::{Case, Mode};
use crate::measure::{Absent, Measured, Measurement};
use crate::peer::{Engine, Work, value};

const HEADER: [&str; 8] = [
    "peer",
    "ms per step",
    "tokens or images/s",
    "times PyTorch's speed",
    "products",
    "peak MiB",
    "GPU MiB",
    "first step, s",
];

/// Lower quartile, median and upper quartile.
fn quartiles(values: impl IntoIterator<Item = f64>) -> [f64; 3] {
    let mut data = Data::new(values.into_iter().collect::<Vec<_>>());
    [data.lower_quartile(), data.median(), data.upper_quartile()]
}

fn median(peer: &Measured) -> f64 {
    quartiles(peer.seconds.iter().copied())[1]
}

/// Median, then the quartiles in brackets.
fn spread([low, middle, high]: [f64; 3], digits: usize) -> String {
    format!("{middle:.digits$} ({low:.digits$}–{high:.digits$})")
}

fn mebibytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(String::new, |bytes| (bytes >> 20).to_string())
}

impl Measurement {
    fn peer(&self, engine: Engine, work: Work) -> Option<&Measured> {
        self.peers.iter().find(|peer| (peer.engine, peer.work) == (engine, work))
    }

    /// The step of PyTorch's program that is fastest by its median.
    fn best_pytorch(&self) -> Option<&Measured> {
        let of_pytorch = self.peers.iter().filter(|peer| {
            let engines = [Engine::Pytorch, Engine::PytorchTuned, Engine::PytorchLoop];
            engines.contains(&peer.engine) && peer.work == Work::Step
        });
        of_pytorch.min_by(|left, right| median(left).total_cmp(&median(right)))
    }

    /// Quartiles of `peer`'s time over `other`'s, turn by turn.
    fn paired(peer: &Measured, other: &Measured) -> [f64; 3] {
        quartiles(peer.seconds.iter().zip(&other.seconds).map(|(a, b)| a / b))
    }

    fn cells(&self, peer: &Measured) -> [String; HEADER.len()] {
        let milliseconds = peer.seconds.iter().map(|seconds| 1e3 * seconds);
        let is_step = peer.work != Work::Products;
        let tokens = self.case.tokens() as f64 / median(peer);
        let pytorch = self.peer(Engine::Pytorch, Work::Step);
        // The same library multiplies for both.
        let multiplies = match peer.engine {
            Engine::Pytorch | Engine::PytorchTuned | Engine::PytorchLoop => Engine::Pytorch,
            Engine::Fused | Engine::Plain | Engine::Stock => Engine::Stock,
        };
        let products = self.peer(multiplies, Work::Products);
        let products = products.filter(|_| is_step && peer.work != Work::InF32);
        [
            match peer.work {
                Work::Step => title(peer),
                Work::WithoutPenalty => format!("{}, no penalty", title(peer)),
                Work::InF32 => format!("{}, f32", title(peer)),
                Work::Products => peer.name.clone(),
            },
            spread(quartiles(milliseconds), 1),
            if is_step { format!("{tokens:.0}") } else { String::new() },
            pytorch.map_or_else(String::new, |pytorch| spread(Self::paired(pytorch, peer), 2)),
            products.map_or_else(String::new, |products| {
                format!("{:.0} %", 100.0 * median(products) / median(peer))
            }),
            mebibytes(peer.memory.resident_bytes),
            mebibytes(peer.memory.device_bytes),
            format!("{:.1}", peer.first_step_seconds),
        ]
    }

    /// What the table has no column for.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let steps = self.peers.iter().filter(|peer| peer.work == Work::Step);
        for peer in steps.clone() {
            if let Some(without) = self.peer(peer.engine, Work::WithoutPenalty) {
                let percent = Self::paired(peer, without).map(|ratio| 100.0 * (ratio - 1.0));
                let [share, name] = [spread(percent, 1), title(peer)];
                notes.push(format!("The penalty adds {share} % to {name}."));
            }
        }
        if let Some(ours) = self.peer(Engine::Fused, Work::Step)
            && let Some(best) = self.best_pytorch()
        {
            let beside = |peer: &Measured, what: &str| {
                format!("{} {what}", spread(Self::paired(peer, ours), 2))
            };
            let mut speeds = vec![beside(best, &format!("times {}'s", title(best)))];
            for (engine, name) in
                [(Engine::Pytorch, "PyTorch's in f32"), (Engine::Fused, "its own in f32")]
            {
                if let Some(single) = self.peer(engine, Work::InF32) {
                    speeds.push(beside(single, &format!("times {name}")));
                }
            }
            let by_how_much = speeds.join(", ");
            notes.push(format!("The speed of anp: {by_how_much}."));
        }
        let losses: Vec<_> =
            steps.map(|peer| format!("{} {:.1}", title(peer), peer.loss)).collect();
        if !losses.is_empty() {
            notes.push(format!("Loss of the last step: {}.", losses.join(", ")));
        }
        for Absent { engine, work, reason } in &self.absent {
            notes.push(format!("{engine:?} ({work:?}) did not run: {reason}"));
        }
        notes
    }

    /// A section for a reader: Markdown that is also a table in a terminal.
    pub fn section(&self) -> String {
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN).force_no_tty().set_header(HEADER);
        for peer in &self.peers {
            table.add_row(self.cells(peer));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let machine = &self.machine;
        let commit = self.sources.as_ref().map_or_else(String::new, |sources| {
            let changed = if sources.dirty { " with changes" } else { "" };
            format!(", commit {:.10}{changed}", sources.commit)
        });
        let turns = self.peers.first().map_or(0, |peer| peer.seconds.len());
        let mut notes = self.notes();
        notes.push(format!(
            "{}{commit}: {}, {} cores ({}), load {} before; {} threads each, {turns} turns of {} \
             steps.",
            self.started_at,
            machine.cpu.as_deref().unwrap_or(&machine.platform),
            machine.cores,
            machine.instructions.join(" "),
            machine.load.map_or_else(|| "unknown".to_owned(), |load| format!("{load:.1}")),
            self.threads,
            self.steps_per_turn,
        ));
        notes.push(format!("{}.", versions(&self.peers)));
        let notes: String = notes.iter().map(|note| format!("- {note}\n")).collect();
        let [name, description] = [self.case.name(), self.case.description()];
        format!("## {name}\n\n{description}.\n\n{table}\n\n{notes}")
    }
}

fn title(peer: &Measured) -> String {
    match peer.engine {
        Engine::PytorchTuned => format!("{}, tuned", peer.name),
        Engine::Pytorch | Engine::PytorchLoop | Engine::Fused | Engine::Plain | Engine::Stock => {
            peer.name.clone()
        }
    }
}

/// All versions that any peer names, once.
fn versions(peers: &[Measured]) -> String {
    let named = peers.iter().filter_map(|peer| peer.versions.as_object()).flatten();
    let named: BTreeMap<_, _> = named.map(|(name, version)| (name, version.as_str())).collect();
    let named = named.iter().map(|(name, version)| format!("{name} {}", version.unwrap_or("?")));
    named.collect::<Vec<_>>().join(", ")
}

/// The folder of a device's results in `out`: `flex`, `cuda-0-bf16`.
fn folder(out: &Path, measurement: &Measurement) -> PathBuf {
    out.join(format!("{}-{}", measurement.device.replace(':', "-"), value(measurement.dtype)))
}

/// Store a measurement in place of the one before, and write the page of all that are stored for
/// its device anew.
///
/// # Errors
///
/// If files cannot be read or written, or one of them is not a measurement.
pub fn store(out: &Path, measurement: &Measurement) -> Result<PathBuf> {
    let folder = folder(out, measurement);
    let path = folder.join(format!("{}.json", measurement.case.name()));
    write(&path, &format!("{}\n", serde_json::to_string_pretty(measurement)?))?;

    let mut stored = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let measurement: Measurement = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a measurement; move it away", path.display()))?;
        stored.push(measurement);
    }
    stored.sort_by_key(|measurement| order(&measurement.case));
    let sections: String = stored.iter().map(|it| format!("\n{}", it.section())).collect();
    let page = format!(
        "# Beside other programs: {} in {}\n\nWritten by `cargo xtask bench peers`; \
         [README.md](README.md) says how to read it.\n{sections}",
        measurement.device,
        value(measurement.dtype),
    );
    let page_path = folder.with_extension("md");
    write(&page_path, &page)?;
    Ok(page_path)
}

fn order(case: &Case) -> (bool, usize, usize) {
    (case.mode == Mode::Evaluate, case.model as usize, case.d_hidden)
}

fn write(path: &Path, text: &str) -> Result<()> {
    atomic::write(path, |file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
