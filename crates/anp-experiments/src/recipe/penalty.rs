use serde::{Deserialize, Serialize};

/// One `[[penalty]]`: a term of the training loss on one site of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PenaltyConfig {
    /// The activation that is penalised, for example `output_dropped`; see `anp_models::Site`.
    pub site: String,
    /// The norm.
    pub norm: anp_core::Norm,
    /// How the norm of a minibatch becomes one number.
    pub reduction: anp_core::Reduction,
    /// Strength η.
    pub eta: f64,
    /// Whether it is on the difference between a step and the one before (AWD-LSTM's temporal activation
    /// regularisation).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub temporal: bool,
}
