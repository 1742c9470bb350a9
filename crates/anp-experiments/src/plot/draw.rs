//! Where everything in a figure goes.

use plotters_backend::DrawingBackend;

use super::axis::{Range, Tick};
use super::canvas::{Canvas, Drawn, Place, Text};
use super::figure::{Figure, Interval, Panel, Point, Scale, Series};
use super::style::{GRID, PAPER, look};

/// Width of a panel with its labels, in points.
const PANEL_WIDTH: f64 = 560.0;
/// Height of a panel without its legend, in points.
const PANEL_HEIGHT: f64 = 380.0;
/// Distance between things.
const GAP: f64 = 8.0;
const TITLE_EM: f64 = 17.0;
const PANEL_TITLE_EM: f64 = 14.0;
const LABEL_EM: f64 = 13.0;
const TICK_EM: f64 = 12.0;
const LINE: f64 = 1.5 * TICK_EM;
/// Width of the sample of a line in the legend.
const SAMPLE: f64 = 30.0;

/// Size of a figure, in points.
pub(super) fn size(figure: &Figure) -> (f64, f64) {
    let columns = columns(figure);
    let height = figure.panels.chunks(columns).map(row_height).sum::<f64>();
    (columns as f64 * PANEL_WIDTH, title_height(figure) + height.max(1.0))
}

fn columns(figure: &Figure) -> usize {
    figure.columns.clamp(1, figure.panels.len().max(1))
}

fn title_height(figure: &Figure) -> f64 {
    if figure.title.is_empty() { 0.0 } else { 2.0 * GAP + TITLE_EM }
}

fn row_height(panels: &[Panel]) -> f64 {
    let legends = panels.iter().map(|panel| legend_rows(panel).len());
    PANEL_HEIGHT + LINE * legends.max().unwrap_or(0) as f64
}

/// Draw `figure`.
pub(super) fn draw<B: DrawingBackend>(figure: &Figure, canvas: &mut Canvas<B>) -> Drawn {
    let (width, height) = size(figure);
    canvas.rectangle((0.0, 0.0), (width, height), PAPER)?;
    let title = Text { bold: true, ..Text::new(&figure.title, TITLE_EM) };
    canvas.text(&title, (width / 2.0, GAP), Place::Below)?;
    let mut top = title_height(figure);
    for row in figure.panels.chunks(columns(figure)) {
        for (index, panel) in row.iter().enumerate() {
            draw_panel(panel, (index as f64 * PANEL_WIDTH, top), canvas)?;
        }
        top += row_height(row);
    }
    Ok(())
}

/// The rectangle between the axes, and the ranges along it.
struct Area<'a> {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    x: Range<'a>,
    y: Range<'a>,
}

impl<'a> Area<'a> {
    fn new(panel: &'a Panel, (left, top): (f64, f64)) -> Self {
        // Values of the points, and the ends of the intervals along this axis.
        let values = |of: fn(&Point) -> f64, is_along: fn(Interval) -> bool| {
            panel.series.iter().flat_map(move |series| {
                series.points.iter().flat_map(move |point| {
                    let interval = point.interval.filter(|_| is_along(series.interval));
                    let (low, high) = interval.unwrap_or((of(point), of(point)));
                    [of(point), low, high]
                })
            })
        };
        let x = Range::new(&panel.x, values(|it| it.x, |it| it == Interval::Across));
        let y = Range::new(&panel.y, values(|it| it.y, |it| it != Interval::Across));
        let widths = y.ticks().into_iter().map(|tick| Text::new(&tick.label, TICK_EM).width());
        let labels = LABEL_EM + widths.fold(0.0, f64::max) + 4.0 * GAP;
        let title = if panel.title.is_empty() { GAP } else { PANEL_TITLE_EM + 2.0 * GAP };
        Self {
            left: left + labels,
            right: left + PANEL_WIDTH - 2.0 * GAP,
            top: top + title,
            bottom: top + PANEL_HEIGHT - 2.0 * LINE - LABEL_EM - 2.0 * GAP,
            x,
            y,
        }
    }

    fn across(&self, place: f64) -> f64 {
        self.left + place * (self.right - self.left)
    }

    fn up(&self, place: f64) -> f64 {
        self.bottom - place * (self.bottom - self.top)
    }

    /// Where a point is, if it is anywhere.
    fn at(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        Some((self.across(self.x.place(x)?), self.up(self.y.place(y)?)))
    }
}

fn draw_panel<B: DrawingBackend>(
    panel: &Panel,
    corner: (f64, f64),
    canvas: &mut Canvas<B>,
) -> Drawn {
    let area = Area::new(panel, corner);
    let middle = (area.left + area.right) / 2.0;
    let title = Text { bold: true, ..Text::new(&panel.title, PANEL_TITLE_EM) };
    canvas.text(&title, (middle, corner.1 + GAP), Place::Below)?;
    draw_axes(panel, &area, corner, canvas)?;
    for (index, series) in panel.series.iter().enumerate() {
        draw_series(series, index, &area, canvas)?;
    }
    draw_legend(panel, (area.left, corner.1 + PANEL_HEIGHT), canvas)
}

fn draw_axes<B: DrawingBackend>(
    panel: &Panel,
    area: &Area<'_>,
    (left, _): (f64, f64),
    canvas: &mut Canvas<B>,
) -> Drawn {
    let &Area { left: from, right: to, top, bottom, .. } = area;
    let x_ticks = area.x.ticks();
    let is_named = matches!(panel.x.scale, Scale::Named(_));
    for Tick { place, .. } in x_ticks.iter().filter(|_| !is_named) {
        let x = area.across(*place);
        canvas.line(&[(x, top), (x, bottom)], GRID, 1.0)?;
    }
    for Tick { place, label } in area.y.ticks() {
        let y = area.up(place);
        canvas.line(&[(from, y), (to, y)], GRID, 1.0)?;
        canvas.ink_line((from - 4.0, y), (from, y))?;
        canvas.text(&Text::new(&label, TICK_EM), (from - GAP, y), Place::Left)?;
    }
    // Labels that would touch stand in two rows.
    let room = (to - from) / x_ticks.len().max(1) as f64 - GAP;
    let is_tight = x_ticks.iter().any(|tick| Text::new(&tick.label, TICK_EM).width() > room);
    for (index, Tick { place, label }) in x_ticks.iter().enumerate() {
        let x = area.across(*place);
        let row = if is_tight && index % 2 == 1 { LINE } else { 0.0 };
        canvas.ink_line((x, bottom), (x, bottom + 4.0 + row))?;
        canvas.text(&Text::new(label, TICK_EM), (x, bottom + GAP + row), Place::Below)?;
    }
    canvas.ink_line((from, top), (from, bottom))?;
    canvas.ink_line((from, bottom), (to, bottom))?;
    let below = bottom + GAP + if is_tight { 2.0 * LINE } else { 1.25 * LINE };
    canvas.text(&Text::new(&panel.x.label, LABEL_EM), ((from + to) / 2.0, below), Place::Below)?;
    let beside = (left + GAP, (top + bottom) / 2.0);
    canvas.text(&Text::new(&panel.y.label, LABEL_EM), beside, Place::Upwards)
}

fn draw_series<B: DrawingBackend>(
    series: &Series,
    index: usize,
    area: &Area<'_>,
    canvas: &mut Canvas<B>,
) -> Drawn {
    let (color, marker) = look(index);
    let at = |point: &Point| area.at(point.x, point.y);
    let ends = |point: &Point| {
        let (low, high) = point.interval?;
        match series.interval {
            Interval::Across => Some((area.at(low, point.y)?, area.at(high, point.y)?)),
            Interval::Bars | Interval::Band => {
                Some((area.at(point.x, low)?, area.at(point.x, high)?))
            }
        }
    };
    // Parts between points that have no place.
    let parts = || series.points.split(|point| at(point).is_none());
    if series.interval == Interval::Band {
        for part in parts() {
            let ends: Vec<_> = part.iter().filter_map(ends).collect();
            let (low, high): (Vec<_>, Vec<_>) = ends.into_iter().unzip();
            let outline: Vec<_> = low.into_iter().chain(high.into_iter().rev()).collect();
            if outline.len() > 2 {
                canvas.fill(&outline, color.mix(0.2))?;
            }
        }
    }
    if series.line {
        for part in parts() {
            let places: Vec<_> = part.iter().filter_map(at).collect();
            canvas.line(&places, color, 1.75)?;
        }
    }
    for point in &series.points {
        let Some(place) = at(point) else { continue };
        if let Some((low, high)) = ends(point).filter(|_| series.interval != Interval::Band) {
            let (dx, dy) =
                if series.interval == Interval::Across { (0.0, 4.0) } else { (4.0, 0.0) };
            canvas.line(&[low, high], color, 1.25)?;
            for (x, y) in [low, high] {
                canvas.line(&[(x - dx, y - dy), (x + dx, y + dy)], color, 1.25)?;
            }
        }
        if series.markers {
            canvas.marker(marker, place, color)?;
        }
    }
    Ok(())
}

/// The named series, by index, as many per row as have room.
fn legend_rows(panel: &Panel) -> Vec<Vec<usize>> {
    let mut rows: Vec<Vec<usize>> = Vec::new();
    let mut room = 0.0;
    for (index, series) in panel.series.iter().enumerate().filter(|it| !it.1.name.is_empty()) {
        let width = entry_width(series);
        if width > room || rows.is_empty() {
            rows.push(Vec::new());
            room = PANEL_WIDTH - 12.0 * GAP;
        }
        room -= width;
        rows.last_mut().expect("there is a row").push(index);
    }
    rows
}

fn entry_width(series: &Series) -> f64 {
    SAMPLE + 3.0 * GAP + Text::new(&series.name, TICK_EM).width()
}

fn draw_legend<B: DrawingBackend>(
    panel: &Panel,
    (left, top): (f64, f64),
    canvas: &mut Canvas<B>,
) -> Drawn {
    for (row, indices) in legend_rows(panel).iter().enumerate() {
        let (mut x, y) = (left, top + LINE * (row as f64 + 0.25));
        for &index in indices {
            let series = &panel.series[index];
            let (color, marker) = look(index);
            if series.line {
                canvas.line(&[(x, y), (x + SAMPLE, y)], color, 1.75)?;
            }
            if series.markers {
                canvas.marker(marker, (x + SAMPLE / 2.0, y), color)?;
            }
            canvas.text(&Text::new(&series.name, TICK_EM), (x + SAMPLE + GAP, y), Place::Right)?;
            x += entry_width(series);
        }
    }
    Ok(())
}
