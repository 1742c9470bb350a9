/// A figure: panels in a grid, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Title above all panels; may be empty.
    pub title: String,
    /// The panels.
    pub panels: Vec<Panel>,
    /// Panels per row, at least 1.
    pub columns: usize,
}

impl Figure {
    /// A figure without panels, with two of them per row.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), panels: Vec::new(), columns: 2 }
    }

    /// Add a panel.
    #[must_use]
    pub fn with_panel(mut self, panel: Panel) -> Self {
        self.panels.push(panel);
        self
    }
}

/// Two axes and what is drawn between them.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// Title; may be empty.
    pub title: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// The series, in the order of the legend.
    pub series: Vec<Series>,
}

impl Panel {
    /// A panel without series.
    pub fn new(title: impl Into<String>, x: Axis, y: Axis) -> Self {
        Self { title: title.into(), x, y, series: Vec::new() }
    }

    /// Add a series.
    #[must_use]
    pub fn with_series(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }
}

/// An axis. Its range is that of the data.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// What it shows, with the unit.
    pub label: String,
    /// How values become places.
    pub scale: Scale,
}

impl Axis {
    /// A linear axis.
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Linear }
    }

    /// A logarithmic axis.
    pub fn log(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Log }
    }

    /// An axis of named places: value 0 is the first, 1 the second, and so on.
    pub fn named(
        label: impl Into<String>,
        names: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        Self { label: label.into(), scale: Scale::Named(names) }
    }
}

/// How values become places on an axis.
#[derive(Debug, Clone, PartialEq)]
pub enum Scale {
    /// Equal differences are equally far.
    Linear,
    /// Equal ratios are equally far. Values that are not positive are left out.
    Log,
    /// Names at 0, 1, 2, …
    Named(Vec<String>),
}

/// Points of one kind. A point that is not finite is left out and breaks the line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name in the legend; without a name it is not there.
    pub name: String,
    /// The points.
    pub points: Vec<Point>,
    /// Whether points are joined.
    pub line: bool,
    /// Whether points have markers.
    pub markers: bool,
    /// How the points' intervals are drawn.
    pub interval: Interval,
}

impl Series {
    /// Joined points with markers.
    pub fn line(
        name: impl Into<String>,
        points: impl IntoIterator<Item = impl Into<Point>>,
    ) -> Self {
        let points = points.into_iter().map(Into::into).collect();
        let (line, markers, interval) = (true, true, Interval::Bars);
        Self { name: name.into(), points, line, markers, interval }
    }

    /// Points with markers.
    pub fn points(
        name: impl Into<String>,
        points: impl IntoIterator<Item = impl Into<Point>>,
    ) -> Self {
        Self { line: false, ..Self::line(name, points) }
    }

    /// A line without markers, for many points.
    pub fn curve(
        name: impl Into<String>,
        points: impl IntoIterator<Item = impl Into<Point>>,
    ) -> Self {
        Self { markers: false, ..Self::line(name, points) }
    }

    /// Intervals along the horizontal axis.
    #[must_use]
    pub fn across(self) -> Self {
        Self { interval: Interval::Across, ..self }
    }

    /// Intervals as a band around the line.
    #[must_use]
    pub fn with_band(self) -> Self {
        Self { interval: Interval::Band, ..self }
    }
}

/// How intervals are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    /// A vertical error bar at each point: the interval is of `y`.
    Bars,
    /// A horizontal error bar at each point: the interval is of `x`.
    Across,
    /// A band.
    Band,
}

/// A point, with an interval if it is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Value on the horizontal axis.
    pub x: f64,
    /// Value on the vertical axis.
    pub y: f64,
    /// Ends of the interval, the lower one first; of `y`, unless the series has
    /// [`Interval::Across`].
    pub interval: Option<(f64, f64)>,
}

impl Point {
    /// A point with an interval.
    pub fn within(x: f64, y: f64, interval: (f64, f64)) -> Self {
        Self { x, y, interval: Some(interval) }
    }
}

impl From<(f64, f64)> for Point {
    fn from((x, y): (f64, f64)) -> Self {
        Self { x, y, interval: None }
    }
}
