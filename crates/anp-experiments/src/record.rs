//! Records: one JSON file per finished run. `docs/records.md` describes the schema.

mod kinds;
mod store;
#[cfg(test)]
mod tests;

pub use kinds::{Head, Record};
pub(crate) use store::run_name;
pub use store::{RecordError, StoredRecord, load_folder};
#[cfg(test)]
pub(crate) use tests::{test_image_record, test_record, test_vib_record};

pub use crate::engine::{PenaltyEquivalent, RunRecord, SCHEMA_VERSION};
pub use crate::image::record::{
    FeatureStatistics, ImageEpochRecord, ImageRecord, ImageResult, ImageScore,
};
pub use crate::provenance::Provenance;
pub use crate::text::record::{ActivationStatistics, EpochRecord, RunResult, Score, TextRecord};
pub use crate::vib::record::{Prediction, VibEpochRecord, VibRecord, VibResult, VibScore};
