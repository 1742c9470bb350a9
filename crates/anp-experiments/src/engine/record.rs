use serde::{Deserialize, Serialize};

use crate::provenance::Provenance;
use crate::recipe::scale::Scale;

/// Version of the schema this build writes and reads.
pub const SCHEMA_VERSION: u32 = 1;

/// A finished run of one kind, with its recipe `R`, its epochs `E` and its result `S`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord<R, E, S> {
    /// [`SCHEMA_VERSION`] at the time of writing.
    pub schema_version: u32,
    /// Table that the row belongs to, for example `table2`.
    pub table: String,
    /// Row, the stem of its file's name, for example `lstm_anp`.
    pub row: String,
    /// Scale of the run.
    pub scale: Scale,
    /// Seed of the run.
    pub seed: u64,
    /// The recipe, after `--set`.
    pub recipe: R,
    /// SHA-256 of the recipe's canonical JSON, in hexadecimal.
    pub recipe_hash: String,
    /// What was built and where it ran.
    pub provenance: Provenance,
    /// Trainable parameters of the model.
    pub num_params: usize,
    /// What each penalty amounts to in the conventions of the literature.
    pub penalties: Vec<PenaltyEquivalent>,
    /// One entry per epoch, in order.
    pub curve: Vec<E>,
    /// The numbers that go into the table.
    pub result: S,
}

/// A penalty in other conventions; `docs/theory.md` derives them ("What η means").
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PenaltyEquivalent {
    /// Site of the penalty.
    pub site: String,
    /// Strength η, as in the recipe.
    pub eta: f64,
    /// λ of `mean nll + λ · mean over tokens of ‖h‖²`; `None` for other norms than the squared L2.
    pub lambda: Option<f64>,
    /// The α of AWD-LSTM's activation regularisation; `None` for other norms than the squared L2.
    pub awd_alpha: Option<f64>,
}
