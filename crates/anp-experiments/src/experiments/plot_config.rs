use serde::{Deserialize, Serialize};

/// `[plot]` of a `table.toml`: what `anp report --plot` draws of the rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlotConfig {
    /// Key of the recipe whose number is on the horizontal axis, as `--set` takes it. A row without
    /// the key is a horizontal line. Without a key here the rows stand below each other, and the
    /// numbers are on the horizontal axis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    /// Label of the axis of `x`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// Scale of that axis; on a logarithmic one a row with 0 is left out.
    #[serde(default, skip_serializing_if = "AxisScale::is_linear")]
    pub scale: AxisScale,
    /// The panels, from left to right.
    #[serde(rename = "panel")]
    pub panels: Vec<PanelConfig>,
}

/// `[[plot.panel]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PanelConfig {
    /// Label of the axis of the numbers, with its unit.
    pub label: String,
    /// Scale of that axis.
    #[serde(default, skip_serializing_if = "AxisScale::is_linear")]
    pub scale: AxisScale,
    /// What is drawn, in the order of the legend.
    pub series: Vec<SeriesConfig>,
}

/// A line of a panel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeriesConfig {
    /// The number.
    pub value: PlotValue,
    /// Name in the legend.
    pub name: String,
}

/// A mean over the seeds of a row; see `ours` in `docs/records.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlotValue {
    /// The table's metric on validation.
    Valid,
    /// The table's metric on test.
    Test,
    /// The table's metric on test, from one drawn code.
    OneSample,
    /// Loss on test, nats per image.
    Nll,
    /// Upper bound on I(X; Z), nats.
    InformationX,
    /// Lower bound on I(Z; Y), nats.
    InformationY,
    /// What the penalties add to the loss.
    Penalty,
    /// Mean ‖h‖₂.
    ActivationNorm,
}

/// How numbers become places on an axis.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AxisScale {
    /// Equal differences are equally far.
    #[default]
    Linear,
    /// Equal ratios are equally far.
    Log,
}

impl AxisScale {
    fn is_linear(&self) -> bool {
        *self == Self::Linear
    }
}
