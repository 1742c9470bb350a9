use serde::{Deserialize, Serialize};

/// How large a run is. Only `paper` is compared with the paper.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// The embedded data and small models: a whole table within ten minutes on two cores.
    Demo,
    /// The real data, with models that a laptop CPU trains in less than half an hour per run.
    Small,
    /// As published.
    Paper,
}

impl Scale {
    /// All scales, the cheapest first.
    pub const ALL: [Self; 3] = [Self::Demo, Self::Small, Self::Paper];
}

impl std::fmt::Display for Scale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Demo => "demo",
            Self::Small => "small",
            Self::Paper => "paper",
        })
    }
}
