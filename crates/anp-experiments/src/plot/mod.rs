//! Figures as SVG or PNG: panels with axes, series and intervals, described as data.
//!
//! ```
//! use anp_experiments::plot::{Axis, Figure, Panel, Series};
//!
//! let error = Series::line("test error", [(1e-4, 3.1), (1e-3, 2.2), (1e-2, 4.0)]);
//! let panel = Panel::new("", Axis::log("β"), Axis::linear("error, %")).with_series(error);
//! let figure = Figure::new("Error over β").with_panel(panel);
//! let folder = tempfile::tempdir()?;
//! figure.write(&folder.path().join("error.svg"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Nothing is read from the machine: text in PNGs has the embedded DejaVu Sans, text in SVGs stays
//! text. The background is white. Series differ in colour (Okabe & Ito's palette for all kinds of
//! colour vision) and in marker.

mod axis;
mod canvas;
mod draw;
mod figure;
mod png;
mod style;
mod write;

pub use figure::{Axis, Figure, Interval, Panel, Point, Scale, Series};
pub use write::{Format, PlotError};
