//! Tables from records: the published numbers, ours, and the difference.
//!
//! A report is a fold over records, so a run made on another machine last week counts the same as
//! one made now. [`fold`] makes a [`TableReport`] of a table and the existing records; [`render`]
//! writes it.

mod csv;
mod figure;
mod fold;
mod json;
mod markdown;
mod notes;
mod text;

pub use figure::{NoFigure, figure};
pub use fold::{
    Failure, Measured, Readings, RowReport, RowState, Statistic, TableReport, Uncounted,
    UncountedReason, Verdict, fold,
};
pub(crate) use text::LINES;

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
#[non_exhaustive]
pub enum Format {
    /// A table for people.
    #[default]
    Text,
    /// A table for a document.
    Markdown,
    /// A list of rows, as `docs/records.md` describes.
    Json,
    /// One line per row.
    Csv,
}

/// Write reports in `format`, for a terminal `width` columns wide where that matters.
pub fn render(reports: &[TableReport], format: Format, width: u16) -> String {
    match format {
        Format::Text => {
            let tables: Vec<_> = reports.iter().map(|report| text::render(report, width)).collect();
            tables.join("\n")
        }
        Format::Markdown => {
            let tables: Vec<_> = reports.iter().map(markdown::render).collect();
            tables.join("\n")
        }
        Format::Json => json::render(reports),
        Format::Csv => csv::render(reports),
    }
}

#[cfg(test)]
mod tests;
