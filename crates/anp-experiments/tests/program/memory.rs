//! Memory over many steps.

/// Memory of the process that is no part of a file, in bytes: pages of its program come and go.
#[cfg(target_os = "linux")]
fn anonymous_memory(process: u32) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    let kilobytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024
}

/// A step makes some hundred tensors, of which the logits alone have half a megabyte here, so whatever is kept
/// from step to step shows. Measured, memory stays where it is to within 0.1 MiB over three thousand steps; the
/// slack of 4 KiB a step is for allocators that differ.
#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_over_a_thousand_steps() {
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use anp_experiments::engine::CheckpointFolder;

    use crate::support::{PATIENCE, Running, Workplace, say};

    const SLACK: usize = 4 << 20;
    let workplace = Workplace::new();
    let words = ["--set", "data.batch_size=4", "--set", "data.bptt=5", "--only", "lstm_anp"];
    let often = ["--checkpoint-every", "0.2"];
    let mut running = Running::start(&mut workplace.reproduce(&[&words[..], &often].concat()));

    let started = Instant::now();
    let mut samples: Vec<(usize, usize)> = Vec::new();
    // The first steps fill the caches of the allocator.
    let first = |samples: &[(usize, usize)]| samples.iter().copied().find(|&(step, _)| step >= 200);
    let (first, last) = loop {
        assert!(running.is_running(), "ended early: {:?}", running.output());
        assert!(started.elapsed() < PATIENCE, "too slow: {samples:?}");
        sleep(Duration::from_millis(50));
        // The run's folder is the only one; the name of a checkpoint tells the step.
        let Ok(mut runs) = std::fs::read_dir(workplace.path("runs")) else { continue };
        let Some(Ok(run)) = runs.next() else { continue };
        let Some(newest) = CheckpointFolder::new(&run.path()).newest().unwrap() else { continue };
        let name = newest.file_name().unwrap().to_string_lossy().into_owned();
        let sample =
            (name.rsplit('w').next().unwrap().parse().unwrap(), anonymous_memory(running.id()));
        samples.push(sample);
        if let Some(first) = first(&samples).filter(|first| sample.0 >= first.0 + 1000) {
            break (first, sample);
        }
    };
    running.kill();

    let kib = |(step, bytes): (usize, usize)| format!("{} KiB at step {step}", bytes >> 10);
    say(&format!("memory: {}, {}", kib(first), kib(last)));
    assert!(last.1 < first.1 + SLACK, "{samples:?}");
}
