//! The activation norm penalty in somebody's own Burn project: a classifier of handwritten digits,
//! trained through burn-train without and with the penalty on its last hidden layer.
//!
//! `cargo run` takes seconds once it is built.

mod data;
mod metric;
mod model;
mod renderer;
mod train;

use std::error::Error;

/// λ of `mean cross-entropy + λ · mean over images of ‖h‖²`.
const STRENGTH: f64 = 1e-2;
const NUM_EPOCHS: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let rows = [("without", 0.0), ("with", STRENGTH)]
        .map(|(name, strength)| (name, strength, train::train_and_evaluate(strength, NUM_EPOCHS)));

    println!("{:9}{:>10}{:>16}{:>18}", "penalty", "strength", "test accuracy", "mean norm of h");
    for (name, strength, evaluation) in rows {
        let train::Evaluation { accuracy, activation_norm } = evaluation?;
        println!("{name:9}{strength:>10}{:>14.1} %{activation_norm:>18.2}", 100.0 * accuracy);
    }
    Ok(())
}
