//! Recurrent layers of a language model, whatever their kind.
//!
//! A kind of layer is a file here that implements [`Cell`], and a line of `cells!` in `layer.rs`.

mod layer;
mod lstm;
mod nas;
mod rhn;
mod sru;
mod traits;

pub use layer::{CellConfig, RecurrentLayer};
pub use lstm::LstmCellConfig;
pub use nas::{Nas, NasCellConfig};
pub use rhn::RhnCellConfig;
pub use sru::SruCellConfig;
pub use traits::{Cell, CellTraits, LayerInit, LayerOutput, LayerState, ParamCount};
