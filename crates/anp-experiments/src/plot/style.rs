//! Colours, markers, strokes and text.

use std::convert::Infallible;
use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};
use plotters_backend::text_anchor::{HPos, Pos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, FontFamily, FontStyle,
    FontTransform,
};

pub(super) const INK: BackendColor = color(0x22, 0x22, 0x22);
pub(super) const GRID: BackendColor = color(0xe4, 0xe4, 0xe4);
pub(super) const PAPER: BackendColor = color(0xff, 0xff, 0xff);

/// [Okabe & Ito's palette](https://jfly.uni-koeln.de/color/) without its yellow, which is too
/// bright on white.
const PALETTE: [BackendColor; 7] = [
    color(0x00, 0x72, 0xb2),
    color(0xd5, 0x5e, 0x00),
    color(0x00, 0x9e, 0x73),
    color(0xcc, 0x79, 0xa7),
    color(0x00, 0x00, 0x00),
    color(0x56, 0xb4, 0xe9),
    color(0xe6, 0x9f, 0x00),
];

/// The marker of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
    Cross,
    Plus,
}

const MARKERS: [Marker; 6] = [
    Marker::Circle,
    Marker::Square,
    Marker::Triangle,
    Marker::Diamond,
    Marker::Cross,
    Marker::Plus,
];

/// Colour and marker of a series; no two of the first 42 have the same.
pub(super) fn look(index: usize) -> (BackendColor, Marker) {
    (PALETTE[index % PALETTE.len()], MARKERS[index % MARKERS.len()])
}

const fn color(red: u8, green: u8, blue: u8) -> BackendColor {
    BackendColor { alpha: 1.0, rgb: (red, green, blue) }
}

/// A line of some width.
#[derive(Clone, Copy)]
pub(super) struct Stroke {
    pub color: BackendColor,
    pub width: u32,
}

impl BackendStyle for Stroke {
    fn color(&self) -> BackendColor {
        self.color
    }

    fn stroke_width(&self) -> u32 {
        self.width
    }
}

/// Size, weight and place of a text.
#[derive(Clone, Copy)]
pub(super) struct TextStyle {
    /// Pixels of an em.
    pub em: f64,
    pub bold: bool,
    pub h_pos: HPos,
    pub v_pos: VPos,
    /// Whether it reads upwards.
    pub upwards: bool,
}

static REGULAR: LazyLock<FontRef<'static>> = LazyLock::new(|| font(dejavu::sans::regular()));
static BOLD: LazyLock<FontRef<'static>> = LazyLock::new(|| font(dejavu::sans::bold()));

fn font(bytes: &'static [u8]) -> FontRef<'static> {
    FontRef::try_from_slice(bytes).expect("the embedded font is a font")
}

impl TextStyle {
    fn font(self) -> ab_glyph::PxScaleFont<&'static FontRef<'static>> {
        let font: &'static FontRef<'static> = if self.bold { &BOLD } else { &REGULAR };
        let units_per_em = font.units_per_em().expect("the embedded font has an em");
        // ab_glyph's scale is the height of a line.
        let height = self.em * f64::from(font.height_unscaled() / units_per_em);
        font.into_scaled(PxScale::from(height as f32))
    }

    /// Width of `text` in pixels.
    pub fn width(self, text: &str) -> f64 {
        let font = self.font();
        text.chars().map(|it| f64::from(font.h_advance(font.glyph_id(it)))).sum()
    }
}

impl BackendTextStyle for TextStyle {
    type FontError = Infallible;

    fn color(&self) -> BackendColor {
        INK
    }

    fn size(&self) -> f64 {
        // plotters-svg divides by it.
        self.em * 1.24
    }

    fn transform(&self) -> FontTransform {
        if self.upwards { FontTransform::Rotate270 } else { FontTransform::None }
    }

    fn style(&self) -> FontStyle {
        if self.bold { FontStyle::Bold } else { FontStyle::Normal }
    }

    fn anchor(&self) -> Pos {
        Pos::new(self.h_pos, self.v_pos)
    }

    fn family(&self) -> FontFamily<'_> {
        FontFamily::SansSerif
    }

    fn layout_box(&self, text: &str) -> Result<((i32, i32), (i32, i32)), Infallible> {
        let height = self.font().height().ceil() as i32;
        Ok(((0, 0), (self.width(text).ceil() as i32, height)))
    }

    fn draw<E, D: FnMut(i32, i32, BackendColor) -> Result<(), E>>(
        &self,
        text: &str,
        (x, y): BackendCoord,
        mut draw: D,
    ) -> Result<Result<(), E>, Infallible> {
        let font = self.font();
        let mut pen = point(x as f32, y as f32 + font.ascent());
        let mut drawn = Ok(());
        for letter in text.chars() {
            let id = font.glyph_id(letter);
            let glyph = id.with_scale_and_position(font.scale(), pen);
            pen.x += font.h_advance(id);
            let Some(outline) = font.outline_glyph(glyph) else { continue };
            let corner = outline.px_bounds().min;
            outline.draw(|x, y, coverage| {
                if drawn.is_ok() {
                    let (x, y) = (corner.x as i32 + x as i32, corner.y as i32 + y as i32);
                    drawn = draw(x, y, INK.mix(f64::from(coverage.min(1.0))));
                }
            });
        }
        Ok(drawn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_fonts_have_the_letters_of_the_formulas() {
        for font in [&*REGULAR, &*BOLD] {
            for letter in "aZ09.,-−·×½²‖σΦεηλβΣ∂∞≤≥…→|()[]{}_^%".chars()
            {
                assert_ne!(font.glyph_id(letter).0, 0, "{letter}");
            }
        }
    }

    #[test]
    fn series_look_different() {
        let looks: Vec<_> = (0..42).map(look).map(|(color, marker)| (color.rgb, marker)).collect();
        for (index, look) in looks.iter().enumerate() {
            assert!(!looks[..index].contains(look), "{index}: {look:?}");
        }
    }
}
