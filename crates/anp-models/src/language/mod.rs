//! Recurrent language models.

mod config;
mod dropout;
mod output;
mod pointer;
mod posterior;
mod recurrent_lm;
mod site;
mod stochastic;
#[cfg(test)]
mod tests;
mod weight_draw;

pub use config::{LayerInitRange, RecurrentLmConfig};
pub use dropout::{Dropout, GateMasks, LmMasks, MaskSpan, WordTie};
pub use output::{LmOutput, LmState};
pub use pointer::{PointerConfig, PointerSentinel, PointerState, PointerTerms, Pointing};
pub use posterior::{MixtureOver, ScaleMixture, WeightPosterior};
pub use recurrent_lm::RecurrentLm;
pub use site::Site;
pub use stochastic::{StochasticConfig, StochasticOutput};
pub use weight_draw::WeightDraw;
