//! `--scale` and `--set`: which recipe of a row, and what to change in it.

use crate::recipe::Scale;

/// The options of every command that takes rows.
#[derive(Debug, clap::Args)]
pub(super) struct RecipeArgs {
    /// How large the runs are; only `paper` is compared with the paper
    #[arg(long, value_enum, default_value_t = Scale::Demo)]
    pub scale: Scale,

    /// Change a key of every recipe, as in training.max_epochs=3; may be repeated
    ///
    /// KEY is a path with dots, with numbers for positions in a list (penalty.0.eta=1e-3). VALUE is
    /// TOML; words need no quotes.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}
