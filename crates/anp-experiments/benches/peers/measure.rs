//! Steps of all peers in turn: A B C A B C …, so that what the machine does meanwhile hits all of
//! them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anp_experiments::provenance::{Sources, now};
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::case::Case;
use crate::machine::Machine;
use crate::peer::{Dtype, Engine, Memory, Peer, Place, Ready, Work, entrants};

/// Steps before the first that counts: compiling, tuning, the first touch of memory.
const WARM_UP: usize = 3;

/// A turn of the fastest peer takes at least this long.
const SHORTEST_TURN: Duration = Duration::from_millis(100);

/// Between turns: threads of the last peer that wait for work in a loop give up.
const PAUSE: Duration = Duration::from_millis(20);

/// A case, measured.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    pub case: Case,
    /// Burn's device; PyTorch's is the same hardware.
    pub device: String,
    pub dtype: Dtype,
    pub threads: usize,
    /// Steps between two looks at the clock.
    pub steps_per_turn: usize,
    pub machine: Machine,
    /// RFC 3339, UTC.
    pub started_at: String,
    pub sources: Option<Sources>,
    pub peers: Vec<Measured>,
    pub absent: Vec<Absent>,
}

/// A peer's part.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    pub engine: Engine,
    pub work: Work,
    pub name: String,
    pub versions: Value,
    /// From starting the process to the end of its first step.
    pub first_step_seconds: f64,
    /// Of a step, by turn; the same turn of all peers is near in time.
    pub seconds: Vec<f64>,
    /// Loss of the last step, which has the same number at every peer.
    pub loss: f64,
    pub memory: Memory,
}

/// A peer that could not take part.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absent {
    pub engine: Engine,
    pub work: Work,
    pub reason: String,
}

struct Running {
    peer: Peer,
    /// Of a warm step.
    estimate: f64,
    measured: Measured,
}

/// Measure a case.
///
/// # Errors
///
/// If a peer ends after its first steps, or none can start.
pub fn measure(
    case: &Case,
    place: &Place,
    engines: &[Engine],
    turns: usize,
    machine: &Machine,
) -> Result<Measurement> {
    let started_at = now();
    let mut running = Vec::new();
    let mut absent = Vec::new();
    for (engine, work) in entrants(case, place).filter(|(engine, _)| engines.contains(engine)) {
        eprintln!("{}: starting {engine:?}, {work:?}", case.name());
        match start(case, engine, work, place) {
            Ok(peer) => running.push(peer),
            Err(err) => {
                eprintln!("{}: without {engine:?}, {work:?}: {err:#}", case.name());
                absent.push(Absent { engine, work, reason: format!("{err:#}") });
            }
        }
    }
    if running.is_empty() {
        bail!("no peer can run {}", case.name());
    }

    let steps = running.iter().filter(|running| running.measured.work != Work::Products);
    let fastest = steps.map(|running| running.estimate).fold(f64::INFINITY, f64::min);
    let steps_per_turn = (SHORTEST_TURN.as_secs_f64() / fastest).ceil().max(1.0) as usize;
    for turn in 1..=turns {
        eprintln!("{}: turn {turn} of {turns}", case.name());
        for Running { peer, measured, .. } in &mut running {
            sleep(PAUSE);
            let turn = peer.step(steps_per_turn)?;
            measured.seconds.push(turn.seconds / steps_per_turn as f64);
            measured.loss = turn.loss;
        }
    }

    let peers = running.into_iter().map(|Running { peer, mut measured, .. }| {
        measured.memory = peer.finish()?;
        Ok(measured)
    });
    Ok(Measurement {
        case: case.clone(),
        device: place.device.to_string(),
        dtype: place.dtype,
        threads: place.threads,
        steps_per_turn,
        machine: machine.clone(),
        started_at,
        sources: Sources::current(),
        peers: peers.collect::<Result<_>>()?,
        absent,
    })
}

fn start(case: &Case, engine: Engine, work: Work, place: &Place) -> Result<Running> {
    let start = Instant::now();
    let (mut peer, Ready { name, versions }) = Peer::start(case, engine, work, place)?;
    peer.step(1)?;
    let measured = Measured {
        engine,
        work,
        name,
        versions,
        first_step_seconds: start.elapsed().as_secs_f64(),
        seconds: Vec::new(),
        loss: f64::NAN,
        memory: Memory::default(),
    };
    let mut estimate = f64::INFINITY;
    for _ in 1..WARM_UP {
        estimate = peer.step(1)?.seconds;
    }
    Ok(Running { peer, estimate, measured })
}
