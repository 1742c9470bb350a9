//! `anp reproduce`: run what has no record, then print the tables.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Duration;

use indicatif::{FormattedDuration, HumanCount};

use super::display;
use super::globals::Globals;
use super::interrupt;
use super::output::{complain, note, print, table};
use super::report::{Loaded, TableArgs};
use super::session::{CheckpointArgs, DeviceArgs, Session};
use crate::device::{self, DeviceName};
use crate::engine::{Outcome, RunRequest, TrainError};
use crate::recipe::Scale;
use crate::record;
use crate::record::StoredRecord;
use crate::report::LINES;
use crate::reproduce::{
    self, Cost, Ended, FailedRun, Interrupted, Plan, PlannedRun, Selection, execute,
};
use crate::runs;

/// Arguments of `anp reproduce`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  anp reproduce table2                              demo scale: minutes, no data needed
  anp reproduce table2 --scale small --dry-run      what would be run, and about how long it takes
  anp reproduce table2 --scale small --only lstm_anp --seeds 1
  anp reproduce all                                 every table of the paper: a quarter of an hour
  anp reproduce table1 table2 --scale paper --device cuda:0
  anp reproduce baselines --scale paper --only zaremba_small
  anp reproduce table2 --set training.max_epochs=1 --records trial --runs trial/runs
  anp reproduce table2 --scale paper --checkpoint-every 60    where a machine may go away

Each finished run leaves a record, and runs with a record are skipped. If a run is stopped (Ctrl-C,
kill, power), rerun the command to resume it. If a run fails, the others still run, and the table
shows which one failed. Tables go to stdout, progress to stderr.

Exit codes: 0 all runs are done; 1 a row misses its tolerance at paper scale; 2 something could not
be done; 130 interrupted.")]
pub(super) struct ReproduceArgs {
    /// Tables, each a folder of `experiments`
    #[arg(value_name = "TABLE", required = true)]
    tables: Vec<String>,

    #[command(flatten)]
    common: TableArgs,

    /// Run this row only; may be repeated
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,

    /// Number of seeds per row, instead of those of its recipe
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    seeds: Option<u16>,

    #[command(flatten)]
    device: DeviceArgs,

    /// Folder of checkpoints [default: `runs` beside the experiments folder]
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    runs: Option<PathBuf>,

    #[command(flatten)]
    checkpoints: CheckpointArgs,

    /// List the runs and their cost, estimated by a few steps of each recipe; make no run
    #[arg(long)]
    dry_run: bool,

    /// Make runs again that have a record; the new record replaces the old one
    ///
    /// The checkpoints of a finished run are deleted when it begins again. A stopped run resumes.
    #[arg(long)]
    force: bool,
}

/// Run `anp reproduce`.
///
/// # Errors
///
/// If tables or records cannot be read, the device or the data is missing, or a record cannot be
/// written. A failed run is not an error: once the other runs are done and the tables printed, the
/// exit code is 2.
pub(super) fn run(args: &ReproduceArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let scale = args.common.recipe.scale;
    let Loaded { experiments, tables, records_dir, records } = args.common.load(&args.tables)?;
    let selection = Selection {
        rows: args.only.clone(),
        num_seeds: args.seeds.map(usize::from),
        overrides: args.common.recipe.overrides.clone(),
        force: args.force,
    };
    let mut plan = reproduce::plan(&tables, scale, &selection, &records)?;
    if args.dry_run {
        let Some(costs) = measured_costs(&plan, args, globals, &records)? else {
            return Ok(interrupt::exit_code());
        };
        let machine = machine(&args.device.names()?);
        print(dry_run(&plan, &costs, scale, &machine))?;
        return Ok(ExitCode::SUCCESS);
    }

    let mut failed = Vec::new();
    globals.note(summary(&plan, scale));
    if !plan.runs.is_empty() {
        let session = Session::for_records(&records_dir, &args.device, globals)?;
        let runs_dir = args.runs.clone().unwrap_or_else(|| experiments.runs());
        let mut made = HashSet::new();
        // Records of the candidates of a sweep decide which runs follow.
        while !plan.runs.is_empty() {
            let ended = make(&plan.runs, &session, args, globals, &records_dir, &runs_dir)?;
            if let Some(Interrupted { checkpoint, remaining }) = ended.interrupted {
                note(how_to_go_on(checkpoint.as_deref(), remaining + plan.later, args.force));
                return Ok(interrupt::exit_code());
            }
            failed.extend(ended.failed);
            made.extend(plan.runs.iter().map(PlannedRun::name));
            plan =
                reproduce::plan(&tables, scale, &selection, &record::load_folder(&records_dir)?)?;
            plan.runs.retain(|run| !made.contains(&run.name()));
            if !plan.runs.is_empty() {
                globals.note(summary(&plan, scale));
            }
        }
        if !failed.is_empty() {
            let [failed, all] = [failed.len(), made.len()];
            note(format!("failed: {failed} of {all} runs; the same command tries again"));
        }
    }
    args.common.print(&tables, &record::load_folder(&records_dir)?, &failed)
}

/// Make the runs, one after another.
fn make(
    runs: &[PlannedRun],
    session: &Session,
    args: &ReproduceArgs,
    globals: &Globals,
    records_dir: &Path,
    runs_dir: &Path,
) -> anyhow::Result<Ended> {
    for name in runs.iter().map(|run| run.recipe.data_set()).collect::<BTreeSet<_>>() {
        session.place.store.check_readable(name)?;
    }
    let start = |index: usize, run: &PlannedRun| {
        if session.asked.to_stop() {
            return Ok(Outcome::Interrupted { checkpoint: None });
        }
        globals.note(format!("run {} of {}: {}", index + 1, runs.len(), run.name()));
        let run_dir = runs_dir.join(run.name());
        runs::run(RunRequest {
            recipe: run.recipe.clone(),
            id: run.id.clone(),
            place: session.place.clone(),
            control: session.control(run_dir, args.checkpoints, args.force),
        })
    };
    let on_failure = |failed: &FailedRun| {
        complain(failed);
        // What stopped this run must not stop the next one; `asked` remembers signals.
        session.interrupter.reset();
    };
    Ok(execute(runs, records_dir, start, on_failure)?)
}

/// The costs of all runs, or `None` after Ctrl-C.
fn measured_costs(
    plan: &Plan,
    args: &ReproduceArgs,
    globals: &Globals,
    records: &[StoredRecord],
) -> anyhow::Result<Option<Vec<Result<Cost, TrainError>>>> {
    if plan.runs.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let session = Session::open(&args.device, globals)?;
    let bar = display::measurements(globals.quiet);
    let costs = reproduce::costs(&plan.runs, &session.place, records, |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        !session.asked.to_stop()
    });
    bar.finish_and_clear();
    Ok(costs)
}

/// What the runs were measured on.
fn machine(devices: &[DeviceName]) -> String {
    let name = device::list(devices);
    match devices.iter().all(|name| name.backend.is_cpu()) {
        true => {
            let threads = available_parallelism().map_or(1, usize::from);
            format!("{name}, {threads} threads, {}", anp_kernels::instructions())
        }
        false => name,
    }
}

/// What is about to happen, in one line.
fn summary(plan: &Plan, scale: Scale) -> String {
    let recorded = match plan.recorded {
        0 => String::new(),
        1 => "; one has a record".to_owned(),
        recorded => format!("; {recorded} have a record"),
    };
    let later = match plan.later {
        0 => String::new(),
        1 => "; one follows, of the best value of a sweep".to_owned(),
        later => format!("; {later} follow, of the best values of sweeps"),
    };
    match plan.runs.len() {
        0 => format!("{scale} scale: nothing to run{recorded}{later}"),
        1 => format!("{scale} scale: one run to make{recorded}{later}"),
        runs => format!("{scale} scale: {runs} runs to make{recorded}{later}"),
    }
}

pub(super) fn how_to_go_on(checkpoint: Option<&Path>, remaining: usize, force: bool) -> String {
    let saved = match checkpoint {
        Some(path) => format!("stopped; saved in {}", path.display()),
        None => "stopped before there was anything to save".to_owned(),
    };
    let remaining = match remaining {
        1 => "one run is left".to_owned(),
        _ => format!("{remaining} runs are left"),
    };
    // With --force nothing tells a run that was made again from one that is still to come.
    let finished = if force { "; --force begins again with the runs that are done" } else { "" };
    format!("{saved}. {remaining}; run the same command again to go on{finished}")
}

/// The runs with their estimated cost, as a table with a total, and those that cannot be made.
fn dry_run(plan: &Plan, costs: &[Result<Cost, TrainError>], scale: Scale, machine: &str) -> String {
    let mut text = format!("dry run, {}\n", summary(plan, scale));
    if plan.runs.is_empty() {
        return text;
    }
    let header = ["table", "row", "seed", "epochs", "tokens, images", "step", "GFLOP/s", "run"];
    let rows = plan.runs.iter().zip(costs).map(|(run, cost)| {
        let mut cells = [const { String::new() }; 8];
        cells[0].clone_from(&run.id.table);
        cells[1].clone_from(&run.id.row);
        cells[2] = run.id.seed.to_string();
        match cost {
            Ok(cost) => {
                cells[3] = cost.epochs.to_string();
                [cells[4], cells[7]] = amounts(cost.items, cost.seconds);
                cells[5] = format!("{:.0} ms", 1e3 * cost.pilot.step);
                cells[6] = format!("{:.0}", 1e-9 * cost.rate());
            }
            Err(_) => cells[7] = "cannot run".to_owned(),
        }
        cells
    });
    let possible = || costs.iter().filter_map(|cost| cost.as_ref().ok());
    let [items, seconds] =
        amounts(possible().map(|cost| cost.items).sum(), possible().map(|cost| cost.seconds).sum());
    let mut total = [const { String::new() }; 8];
    (total[0], total[4], total[7]) = ("total".to_owned(), items, seconds);
    text.push_str(&table(LINES, header, 2..8, rows.chain([total])));
    if plan.later > 0 {
        text.push_str("The total leaves out the runs that follow, of the best values of sweeps.\n");
    }
    for (run, cost) in plan.runs.iter().zip(costs) {
        if let Err(err) = cost {
            text.push_str(&format!("{} cannot run: {err}\n", run.name()));
        }
    }
    text.push_str(&format!(
        "Estimated from a few steps of each recipe on this machine ({machine}).\nA run that ends \
         early, or a machine that is busy now or later, makes the times wrong.\n"
    ));
    text
}

/// Tokens or images, and their time: days if there are any, hours, minutes and seconds.
fn amounts(items: u64, seconds: f64) -> [String; 2] {
    let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    [HumanCount(items).to_string(), FormattedDuration(time).to_string()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Pilot, RunId};
    use crate::recipe::{content_hash, test_recipe};

    fn runs() -> Vec<PlannedRun> {
        let recipe = test_recipe();
        let run = |row: &str, seed| PlannedRun {
            id: RunId { table: "table2".to_owned(), row: row.to_owned(), scale: Scale::Demo, seed },
            recipe_hash: content_hash(&recipe),
            recipe: recipe.clone().into(),
        };
        vec![run("lstm", 1), run("lstm_anp", 2)]
    }

    #[test]
    fn a_dry_run_lists_runs_costs_and_a_total() {
        let pilot = Pilot { steps: 10, step: 0.5, validation: 3.0, last_evaluation: 44.0 };
        let costs: Vec<_> = runs().iter().map(|run| Ok(Cost::new(run, pilot, &[]))).collect();
        let plan = Plan { runs: runs(), recorded: 3, later: 0 };
        let text = dry_run(&plan, &costs, Scale::Demo, "flex, 2 threads");
        assert!(
            text.starts_with("dry run, demo scale: 2 runs to make; 3 have a record\n"),
            "{text}"
        );
        for phrase in ["lstm_anp", "total", "500 ms", "00:01:00", "00:02:00", "(flex, 2 threads)"] {
            assert!(text.contains(phrase), "`{phrase}` is missing:\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        let plan = Plan { runs: Vec::new(), recorded: 1, later: 0 };
        let nothing = dry_run(&plan, &[], Scale::Paper, "flex");
        assert_eq!(nothing, "dry run, paper scale: nothing to run; one has a record\n");
    }

    #[test]
    fn a_stopped_run_says_how_to_resume() {
        assert_eq!(
            how_to_go_on(Some(Path::new("runs/x/step-7")), 2, false),
            "stopped; saved in runs/x/step-7. 2 runs are left; run the same command again to go on"
        );
        assert!(how_to_go_on(None, 1, true).contains("one run is left"));
    }
}
