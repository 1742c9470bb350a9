//! What the terms of the loss cost: training steps of the rows of tables, beside the first row's.
//! `cargo xtask bench rows`.
//!
//! All rows train in this process on made-up data and take turns, round and round; medians, and
//! ratios to the first row turn by turn.

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Instant;

use anp_experiments::device::{DeviceName, Devices};
use anp_experiments::engine::{Context, Place, Position, Task};
use anp_experiments::experiments::Experiments;
use anp_experiments::image::ImageTask;
use anp_experiments::recipe::{Recipe, Scale, content_hash};
use anp_experiments::text::TextTask;
use anp_experiments::vib::VibTask;
use anp_models::Kernels;
use anyhow::{Context as _, Result, bail};
use clap::Parser;
use comfy_table::{CellAlignment, Table};
use indicatif::{ProgressBar, ProgressStyle};
use statrs::statistics::{Data, OrderStatistics};

/// As in the `anp` program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Lines above and below the header and the table, in comfy-table's notation.
const LINES: &str = "  ── ══      ──    ";

/// Turns of each row that do not count.
const WARM_UP: usize = 2;

/// A turn of the first row takes at least this long.
const SHORTEST_TURN: f64 = 0.1;

/// Share of the training data that is made up: enough for steps of every kind.
const SHARE: f64 = 0.05;

/// Measure training steps of the rows of tables beside the first row's.
#[derive(Debug, Parser)]
#[command(
    name = "rows",
    after_help = "\
Examples:
  cargo xtask bench rows rivals bound                 what each term of the loss costs
  cargo xtask bench rows rivals --scale small --only bound
  cargo xtask bench rows table1 --device vulkan:0"
)]
struct Cli {
    /// Tables, each a folder of `experiments`
    #[arg(value_name = "TABLE", default_values_t = ["rivals".to_owned(), "bound".to_owned()])]
    tables: Vec<String>,
    /// Scale of the recipes
    #[arg(long, value_enum, default_value = "paper")]
    scale: Scale,
    /// These rows, beside the first of all; may be repeated
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// Turns of each row
    #[arg(long, value_name = "N", default_value_t = 11)]
    turns: usize,
    /// Device, as in `anp devices` [default: the best]
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceName>,
    /// Cargo says this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// A row that trains.
struct Row {
    name: String,
    /// Make so many steps; seconds of one.
    turn: Box<dyn FnMut(usize) -> Result<f64>>,
    /// Seconds of a step, by turn.
    seconds: Vec<f64>,
}

/// Steps of one recipe.
fn turns<T: Task + 'static>(
    recipe: T::Recipe,
    place: &Place,
) -> Result<Box<dyn FnMut(usize) -> Result<f64>>> {
    T::check(&recipe, &place.devices)?;
    let devices = place.devices.named().iter().map(|(_, device)| device.clone().autodiff());
    let context = Context { devices: devices.collect(), kernels: place.kernels, seed: 1 };
    context.devices[0].seed(1);
    let data = T::made_up(&recipe, SHARE)?;
    let mut task = T::new(recipe, data, context);
    let mut at = Position::START;
    let mut steps = task.start_epoch(at);
    Ok(Box::new(move |count| {
        let start = Instant::now();
        for _ in 0..count {
            if at.done == steps {
                at = Position { step: at.step, ..Position::START };
                steps = task.start_epoch(at);
            }
            let scalars = task.step(at).map_err(|err| anyhow::anyhow!("{err}"))?;
            // Waits for the device.
            scalars.grad_norm.into_scalar::<f64>();
            at = Position { done: at.done + 1, step: at.step + 1, ..at };
        }
        Ok(start.elapsed().as_secs_f64() / count as f64)
    }))
}

/// The rows that were asked for, each recipe once; of a sweep the first value.
fn rows(cli: &Cli, place: &Place) -> Result<Vec<Row>> {
    let experiments = Experiments::locate(None)?;
    let tables = cli.tables.iter().map(|name| experiments.table(name));
    let tables = tables.collect::<Result<Vec<_>, _>>()?;
    let known = || tables.iter().flat_map(|table| &table.rows).map(|row| &row.id);
    if let Some(unknown) = cli.only.iter().find(|only| known().all(|it| it != *only)) {
        let known: Vec<_> = known().map(String::as_str).collect();
        bail!("there is no row `{unknown}`; there are {}", known.join(", "));
    }
    let mut seen = HashSet::new();
    let mut rows = Vec::new();
    for (table, name) in tables.iter().zip(&cli.tables) {
        for row in &table.rows {
            let is_wanted = rows.is_empty() || cli.only.is_empty() || cli.only.contains(&row.id);
            let Some(runs) = row.runs(cli.scale, &[])?.filter(|_| is_wanted) else { continue };
            if !seen.insert(content_hash(&runs.recipe)) {
                continue;
            }
            let turn = match runs.recipe {
                Recipe::Text(recipe) => turns::<TextTask>(recipe, place),
                Recipe::Image(recipe) => turns::<ImageTask>(recipe, place),
                Recipe::Vib(recipe) => turns::<VibTask>(recipe, place),
            };
            let name = format!("{name}/{}", row.id);
            let turn = turn.with_context(|| format!("{name} cannot run"))?;
            rows.push(Row { name, turn, seconds: Vec::new() });
        }
    }
    Ok(rows)
}

fn measure(rows: &mut [Row], turns: usize) -> Result<()> {
    let style = ProgressStyle::with_template("{bar:40} turn {pos} of {len}, {eta} left")?;
    let bar = ProgressBar::new((WARM_UP + turns) as u64).with_style(style);
    let mut steps = 1;
    for turn in 0..WARM_UP + turns {
        for (index, row) in rows.iter_mut().enumerate() {
            let seconds = (row.turn)(steps)?;
            if turn + 1 == WARM_UP && index == 0 {
                steps = (SHORTEST_TURN / seconds).ceil().max(1.0) as usize;
            }
            if turn >= WARM_UP {
                row.seconds.push(seconds);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Median and quartiles.
fn quartiles(values: Vec<f64>) -> [f64; 3] {
    let mut data = Data::new(values);
    [data.median(), data.lower_quartile(), data.upper_quartile()]
}

fn report(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(LINES);
    table.set_header(["row", "ms per step", "times the first row's"]);
    let first = &rows[0].seconds;
    for row in rows {
        let [median, low, high] = quartiles(row.seconds.iter().map(|it| 1e3 * it).collect());
        let ratios = row.seconds.iter().zip(first).map(|(ours, first)| ours / first).collect();
        let [ratio, ratio_low, ratio_high] = quartiles(ratios);
        table.add_row([
            row.name.clone(),
            format!("{median:.1} [{low:.1}, {high:.1}]"),
            format!("{ratio:.3} [{ratio_low:.3}, {ratio_high:.3}]"),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn run(cli: &Cli) -> Result<()> {
    if cli.turns == 0 {
        bail!("--turns 0 measures nothing");
    }
    let name = cli.device.map_or_else(DeviceName::best, Ok)?;
    let place = Place {
        devices: Devices::new(vec![(name, name.open()?)]),
        kernels: Kernels::Fused,
        store: anp_experiments::data::Store::locate(None),
    };
    let mut rows = rows(cli, &place)?;
    if rows.is_empty() {
        bail!("no row of {} can run at {} scale", cli.tables.join(", "), cli.scale);
    }
    measure(&mut rows, cli.turns)?;
    println!("{}", report(&rows).trim_fmt());
    let threads = std::thread::available_parallelism()?;
    let instructions = anp_kernels::instructions();
    println!("{name}, {threads} threads, {instructions}, {} scale; median [quartiles]", cli.scale);
    Ok(())
}

fn main() -> ExitCode {
    anp_experiments::startup::prepare();
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {err:#}");
            ExitCode::from(2)
        }
    }
}
