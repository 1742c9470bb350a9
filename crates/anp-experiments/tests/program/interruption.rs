//! Runs that are killed or stopped, and go on. (Runs that are stopped within this process are in `tests/run.rs`.)

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anp_experiments::engine::Outcome;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::{Running, Workplace, essence, say, stderr, stdout};

const KILLS: usize = 10;

/// The seed of the moments at which runs are killed: another one each time, unless `ANP_TEST_SEED` gives it.
fn seed() -> u64 {
    match std::env::var("ANP_TEST_SEED") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
    }
}

/// Dropout is on, there are two epochs, the schedule may decay, and a checkpoint is being written for a good
/// part of the time.
#[test]
fn a_run_killed_at_ten_random_moments_ends_with_the_same_bits() {
    let workplace = Workplace::with_epochs(2);
    let row = "lstm_anp";
    workplace.begin(row, 1, 100);
    let run_dir = workplace.run_dir(row, 1);
    let checkpoints = run_dir.join("checkpoints");
    let beginning = crate::support::contents(&checkpoints);
    let records = workplace.path("experiments/records");
    let rewind = || {
        fs::remove_dir_all(&records).unwrap();
        fs::remove_dir_all(&run_dir).unwrap();
        for (path, bytes) in &beginning {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    };
    let start = || {
        let words = ["--only", row, "--quiet", "--checkpoint-every", "0.04"];
        Running::start(&mut workplace.reproduce(&words))
    };

    let started = Instant::now();
    let output = start().output();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let mut duration = started.elapsed();
    let uninterrupted = workplace.record();
    assert_eq!(uninterrupted.provenance.resumed, 1);
    rewind();

    let seed = seed();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut kills, mut half_written, mut places) = (0, 0, Vec::new());
    while kills < KILLS {
        let mut running = start();
        sleep(duration.mul_f64(random.random_range(0.0..0.16)));
        if kills % 2 == 1 {
            // Every other one dies somewhere in the middle of a checkpoint.
            while running.is_running() && scratch_folders(&checkpoints) == 0 {
                sleep(Duration::from_micros(200));
            }
            sleep(Duration::from_micros(random.random_range(0..5000)));
        }
        if running.is_running() {
            kills += usize::from(running.kill());
            half_written += scratch_folders(&checkpoints);
            let newest = workplace.newest(row, 1).unwrap();
            places.push(newest.file_name().unwrap().to_string_lossy().into_owned());
            continue;
        }
        // Done before the last kill: the machine is faster now. Begin again, with shorter lives.
        let output = running.output();
        assert_eq!(output.status.code(), Some(0), "seed {seed}: {}", stderr(&output));
        assert_eq!(essence(&workplace.record()), essence(&uninterrupted), "seed {seed}");
        rewind();
        duration /= 2;
    }
    say(&format!(
        "seed {seed}: killed at {}; {half_written} times while a checkpoint was written or removed",
        places.join(", ")
    ));

    let output = start().output();
    assert_eq!(output.status.code(), Some(0), "seed {seed}: {}", stderr(&output));
    let record = workplace.record();
    assert_eq!(essence(&record), essence(&uninterrupted), "seed {seed}");
    assert!(record.provenance.resumed > 1);
    assert_eq!(scratch_folders(&checkpoints), 0, "leftovers of killed processes");
}

/// Folders of checkpoints that are being written or removed, or were when their process died.
fn scratch_folders(checkpoints: &Path) -> usize {
    let names = fs::read_dir(checkpoints).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with('.')).count()
}

#[cfg(unix)]
#[test]
fn a_signal_saves_says_how_to_go_on_and_the_same_command_goes_on() {
    let workplace = Workplace::new();
    workplace.begin("lstm", 1, 120);
    let command = || workplace.reproduce(&["--only", "lstm", "--checkpoint-every", "0"]);
    for signal in ["TERM", "INT"] {
        let mut running = workplace.start_and_wait_for_a_checkpoint(command(), "lstm");
        running.signal(signal);
        let output = running.output();
        assert_eq!(output.status.code(), Some(130), "{signal}: {}", stderr(&output));
        assert_eq!(stdout(&output), "");
        let newest = workplace.newest("lstm", 1).unwrap();
        let newest = newest.strip_prefix(workplace.path("")).unwrap().display().to_string();
        for phrase in [&*newest, "saved in", "one run is left", "run the same command again"] {
            assert!(stderr(&output).contains(phrase), "{phrase}: {}", stderr(&output));
        }
        assert!(workplace.records().is_empty());
    }
    let output = command().output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(workplace.record().provenance.resumed >= 3);
}

#[cfg(unix)]
#[test]
fn a_second_signal_ends_at_once_and_the_checkpoint_before_is_good() {
    let workplace = Workplace::new();
    workplace.begin("lstm", 1, 500);
    let command = workplace.reproduce(&["--only", "lstm", "--checkpoint-every", "0"]);
    let mut running = workplace.start_and_wait_for_a_checkpoint(command, "lstm");
    running.signal("INT");
    running.signal("INT");
    assert_eq!(running.output().status.code(), Some(130));
    let outcome = workplace.train("lstm", 1, Duration::from_secs(3600), |_| true);
    assert!(matches!(outcome, Outcome::Interrupted { checkpoint: Some(_) }));
}

/// Who reads the progress may go away; a run of hours must not fail for that.
#[cfg(unix)]
#[test]
fn a_run_goes_on_when_nobody_reads_its_progress() {
    let workplace = Workplace::new();
    workplace.begin("lstm", 1, 40);
    let mut command = workplace.reproduce(&["--only", "lstm"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = command.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
    drop(command);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    workplace.record();
}
