//! Memory over many steps.

/// Pages of the process that are in memory, in bytes.
#[cfg(target_os = "linux")]
fn resident(process: u32) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kilobytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024
}

/// A graph that is kept from step to step holds a window's logits, 10 MB here; even the few hundred tensor
/// headers of a graph would come to 100 MB in a thousand steps. The slack is for the allocator, which keeps
/// pages for a while.
#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_over_a_thousand_steps() {
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use crate::support::{PATIENCE, Running, Workplace, say};

    const SLACK: usize = 24 << 20;
    let workplace = Workplace::new();
    let words = ["--set", "data.batch_size=4", "--set", "data.bptt=5", "--only", "lstm_anp"];
    let often = ["--checkpoint-every", "0.2"];
    let mut running = Running::start(&mut workplace.reproduce(&[&words[..], &often].concat()));

    let started = Instant::now();
    let mut samples: Vec<(usize, usize)> = Vec::new();
    while samples.last().is_none_or(|&(step, _)| step < 1400) {
        assert!(running.is_running(), "ended early: {:?}", running.output());
        assert!(started.elapsed() < PATIENCE, "too slow: {samples:?}");
        sleep(Duration::from_millis(50));
        // The run's folder is the only one; the name of a checkpoint tells the step.
        let Ok(mut runs) = std::fs::read_dir(workplace.path("runs")) else { continue };
        let Some(Ok(run)) = runs.next() else { continue };
        let newest = anp_experiments::train::CheckpointFolder::new(&run.path()).newest().unwrap();
        let Some(newest) = newest else { continue };
        let name = newest.file_name().unwrap().to_string_lossy().into_owned();
        let step = name.rsplit('w').next().unwrap().parse().unwrap();
        samples.push((step, resident(running.id())));
    }
    running.kill();

    let most = |range: std::ops::Range<usize>| {
        let inside = samples.iter().filter(|(step, _)| range.contains(step));
        inside.map(|&(_, bytes)| bytes).max().unwrap()
    };
    let (early, late) = (most(0..401), most(1001..usize::MAX));
    say(&format!(
        "resident memory: {} MiB up to step 400, {} MiB after step 1000",
        early >> 20,
        late >> 20
    ));
    assert!(late < early + SLACK, "{samples:?}");
}
