//! Drawing in points, with fractions, on backends that know pixels.

use std::error::Error;
use std::fmt;

use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{BackendColor, DrawingBackend, DrawingErrorKind};

use super::style::{INK, Marker, Stroke, TextStyle};

/// A backend on which a point has `scale` pixels.
pub(super) struct Canvas<B> {
    pub backend: B,
    pub scale: f64,
}

/// A text's place relative to a point.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Left,
    Right,
    Below,
    /// Reading upwards, at the right of the point.
    Upwards,
}

/// What a backend says if it cannot draw.
#[derive(Debug, thiserror::Error)]
#[error("the figure cannot be drawn: {0}")]
pub struct CannotDraw(String);

impl<E: Error + Send + Sync> From<DrawingErrorKind<E>> for CannotDraw {
    fn from(err: DrawingErrorKind<E>) -> Self {
        Self(err.to_string())
    }
}

pub(super) type Drawn = Result<(), CannotDraw>;

/// A text and its look.
pub(super) struct Text<'a> {
    pub text: &'a str,
    /// Points of an em.
    pub em: f64,
    pub bold: bool,
}

impl<'a> Text<'a> {
    pub fn new(text: &'a str, em: f64) -> Self {
        Self { text, em, bold: false }
    }

    /// Width in points.
    pub fn width(&self) -> f64 {
        let (h_pos, v_pos) = (HPos::Left, VPos::Top);
        let style = TextStyle { em: self.em, bold: self.bold, h_pos, v_pos, upwards: false };
        style.width(self.text)
    }
}

impl<B: DrawingBackend> Canvas<B> {
    fn pixel(&self, (x, y): (f64, f64)) -> (i32, i32) {
        ((x * self.scale).round() as i32, (y * self.scale).round() as i32)
    }

    fn stroke(&self, color: BackendColor, width: f64) -> Stroke {
        Stroke { color, width: (width * self.scale).round().max(1.0) as u32 }
    }

    pub fn line(&mut self, points: &[(f64, f64)], color: BackendColor, width: f64) -> Drawn {
        let pixels: Vec<_> = points.iter().map(|&point| self.pixel(point)).collect();
        let stroke = self.stroke(color, width);
        // The raster backend cannot join equal points.
        let mut pixels = pixels;
        pixels.dedup();
        if pixels.len() < 2 {
            return Ok(());
        }
        Ok(self.backend.draw_path(pixels, &stroke)?)
    }

    pub fn fill(&mut self, points: &[(f64, f64)], color: BackendColor) -> Drawn {
        let pixels: Vec<_> = points.iter().map(|&point| self.pixel(point)).collect();
        Ok(self.backend.fill_polygon(pixels, &color)?)
    }

    pub fn rectangle(&mut self, from: (f64, f64), to: (f64, f64), color: BackendColor) -> Drawn {
        let (from, to) = (self.pixel(from), self.pixel(to));
        Ok(self.backend.draw_rect(from, to, &color, true)?)
    }

    pub fn marker(&mut self, marker: Marker, (x, y): (f64, f64), color: BackendColor) -> Drawn {
        const RADIUS: f64 = 3.6;
        let corners = |corners: &[(f64, f64)]| -> Vec<(f64, f64)> {
            corners.iter().map(|(dx, dy)| (x + RADIUS * dx, y + RADIUS * dy)).collect()
        };
        match marker {
            Marker::Circle => {
                let (center, radius) = (self.pixel((x, y)), (RADIUS * self.scale).round() as u32);
                Ok(self.backend.draw_circle(center, radius, &color, true)?)
            }
            Marker::Square => {
                self.fill(&corners(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]), color)
            }
            Marker::Triangle => self.fill(&corners(&[(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)]), color),
            Marker::Diamond => {
                self.fill(&corners(&[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)]), color)
            }
            Marker::Cross => {
                self.line(&corners(&[(-1.0, -1.0), (1.0, 1.0)]), color, 1.8)?;
                self.line(&corners(&[(-1.0, 1.0), (1.0, -1.0)]), color, 1.8)
            }
            Marker::Plus => {
                self.line(&corners(&[(-1.2, 0.0), (1.2, 0.0)]), color, 1.8)?;
                self.line(&corners(&[(0.0, 1.2), (0.0, -1.2)]), color, 1.8)
            }
        }
    }

    pub fn text(&mut self, text: &Text<'_>, at: (f64, f64), place: Place) -> Drawn {
        let (h_pos, v_pos) = match place {
            Place::Left => (HPos::Right, VPos::Center),
            Place::Right => (HPos::Left, VPos::Center),
            Place::Below | Place::Upwards => (HPos::Center, VPos::Top),
        };
        let upwards = matches!(place, Place::Upwards);
        let em = text.em * self.scale;
        let style = TextStyle { em, bold: text.bold, h_pos, v_pos, upwards };
        let at = self.pixel(at);
        Ok(self.backend.draw_text(text.text, &style, at)?)
    }

    pub fn ink_line(&mut self, from: (f64, f64), to: (f64, f64)) -> Drawn {
        self.line(&[from, to], INK, 1.0)
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}
