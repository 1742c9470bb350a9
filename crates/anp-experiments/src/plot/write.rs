use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use plotters_backend::DrawingBackend;
use plotters_bitmap::BitMapBackend;
use plotters_svg::SVGBackend;

use super::canvas::{CannotDraw, Canvas};
use super::draw::{draw, size};
use super::figure::Figure;
use super::png;
use crate::atomic;

/// Pixels per point in a PNG.
const PNG_SCALE: f64 = 2.0;
/// Units per point in an SVG: its backend has whole numbers only.
const SVG_SCALE: f64 = 10.0;

/// A kind of image file, named by the file's extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Scalable vector graphics; text stays text.
    Svg,
    /// Portable network graphics, two pixels per point.
    Png,
}

/// Why a figure could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlotError {
    /// The file's extension names no format.
    #[error("{} is no file name for a figure: it should end in .svg or .png", .path.display())]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// The figure cannot be drawn.
    #[error(transparent)]
    Draw(#[from] CannotDraw),
    /// The file cannot be written.
    #[error("cannot write the figure {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Format {
    /// The format of the file `path`.
    ///
    /// # Errors
    ///
    /// [`PlotError::Extension`].
    pub fn of(path: &Path) -> Result<Self, PlotError> {
        let extension = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
        extension.parse().map_err(|()| PlotError::Extension { path: path.to_owned() })
    }
}

impl FromStr for Format {
    type Err = ();

    fn from_str(extension: &str) -> Result<Self, ()> {
        match extension.to_ascii_lowercase().as_str() {
            "svg" => Ok(Self::Svg),
            "png" => Ok(Self::Png),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Svg => "svg",
            Self::Png => "png",
        })
    }
}

impl Figure {
    /// Write the figure; the file's extension says in which format. The folder is made if it is
    /// not there.
    ///
    /// # Errors
    ///
    /// [`PlotError`]. An older file then stays as it was.
    pub fn write(&self, path: &Path) -> Result<(), PlotError> {
        let bytes = self.render(Format::of(path)?)?;
        atomic::write(path, |file| file.write_all(&bytes))
            .map_err(|source| PlotError::Write { path: path.to_owned(), source })
    }

    /// The content of the figure's file.
    ///
    /// # Errors
    ///
    /// [`PlotError::Draw`].
    pub fn render(&self, format: Format) -> Result<Vec<u8>, PlotError> {
        Ok(match format {
            Format::Svg => self.svg()?.into_bytes(),
            Format::Png => self.png()?,
        })
    }

    fn svg(&self) -> Result<String, CannotDraw> {
        let (width, height) = size(self);
        let units = pixels(self, SVG_SCALE);
        let mut text = String::new();
        let backend = SVGBackend::with_string(&mut text, units);
        let mut canvas = Canvas { backend, scale: SVG_SCALE };
        draw(self, &mut canvas)?;
        canvas.backend.present()?;
        drop(canvas);
        let of_units = format!("width=\"{}\" height=\"{}\"", units.0, units.1);
        Ok(text.replacen(&of_units, &format!("width=\"{width}\" height=\"{height}\""), 1))
    }

    fn png(&self) -> Result<Vec<u8>, PlotError> {
        let (width, height) = pixels(self, PNG_SCALE);
        let mut rgb = vec![255; 3 * width as usize * height as usize];
        let backend = BitMapBackend::with_buffer(&mut rgb, (width, height));
        draw(self, &mut Canvas { backend, scale: PNG_SCALE })?;
        Ok(png::encode(width, height, &rgb))
    }
}

fn pixels(figure: &Figure, scale: f64) -> (u32, u32) {
    let (width, height) = size(figure);
    ((width * scale).ceil() as u32, (height * scale).ceil() as u32)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::ZlibDecoder;

    use super::super::figure::{Axis, Panel, Point, Series};
    use super::*;

    fn figure() -> Figure {
        let error = [
            Point::within(1e-4, 3.1, (2.8, 3.3)),
            Point::within(1e-3, 2.2, (2.0, 2.5)),
            Point { x: 1e-2, y: f64::NAN, interval: None },
            Point::within(1e-1, 4.0, (3.7, 4.6)),
            Point::within(1.0, 6.0, (5.5, 6.6)),
        ];
        let curve = |slope: f64| {
            (0..=40).map(move |step| {
                let x = f64::from(step) / 8.0;
                let y = (slope * x).exp();
                Point::within(x, y, (y * 0.8, y * 1.2))
            })
        };
        let sites = ["embedding", "layer[0].hidden", "layer[1].hidden", "output_dropped", "logits"];
        let information = [3.0, 2.5, 2.25, 2.0, 1.0].into_iter().enumerate();
        let information = information.map(|(index, nats)| (index as f64, nats));
        Figure::new("A figure & its <parts>")
            .with_panel(
                Panel::new("Error over β", Axis::log("β"), Axis::linear("test error, %"))
                    .with_series(Series::line("VIB", error))
                    .with_series(Series::points("none", [(1e-4, 3.3), (1.0, 3.2)])),
            )
            .with_panel(
                Panel::new("Growth", Axis::linear("time, s"), Axis::log("size, ‖h‖₂"))
                    .with_series(Series::curve("fast", curve(1.0)).with_band())
                    .with_series(Series::curve("slow", curve(-0.5)).with_band()),
            )
            .with_panel(
                Panel::new("I(X; T) by layer", Axis::named("site", sites), Axis::linear("nats"))
                    .with_series(Series::points("lower bound", information)),
            )
            .with_panel(
                Panel::new("Rows", Axis::linear("perplexity"), Axis::named("", ["b", "a"]))
                    .with_series(
                        Series::points("", [Point::within(5.0, 1.0, (4.0, 9.0))]).across(),
                    ),
            )
    }

    #[test]
    fn an_svg_is_xml_with_its_words_as_text() {
        let svg = String::from_utf8(figure().render(Format::Svg).unwrap()).unwrap();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let root = document.root_element();
        let (width, height) = size(&figure());
        assert_eq!(root.attribute("width"), Some(&*width.to_string()));
        assert_eq!(root.attribute("height"), Some(&*height.to_string()));
        let texts: Vec<_> = document
            .descendants()
            .filter(|node| node.has_tag_name("text"))
            .map(|node| node.text().unwrap_or_default().trim())
            .collect();
        for word in [
            "A figure & its <parts>",
            "Error over β",
            "β",
            "test error, %",
            "VIB",
            "none",
            "size, ‖h‖₂",
            "fast",
            "layer[1].hidden",
            "I(X; T) by layer",
            "nats",
            "0.001",
        ] {
            assert!(texts.contains(&word), "{word} is not in {texts:?}");
        }
        let count = |name: &str| document.descendants().filter(|it| it.has_tag_name(name)).count();
        // Two bands, four points with bars whose marker and legend are circles, and the five of the
        // last panel.
        assert!(count("polygon") >= 2);
        assert_eq!(count("circle"), 4 + 1 + 5 + 1 + 1);
        // The interval is along the axis of the numbers, whose ticks reach to its end.
        assert!(texts.contains(&"9"), "{texts:?}");
    }

    /// Decoded by the rules of the format: signature, chunks with their checksums, rows without
    /// filters.
    #[test]
    fn a_png_has_the_figure_in_it() {
        let file = figure().render(Format::Png).unwrap();
        let mut rest = file.strip_prefix(b"\x89PNG\r\n\x1a\n").unwrap();
        let mut chunks = Vec::new();
        while !rest.is_empty() {
            let (length, after) = rest.split_first_chunk::<4>().unwrap();
            let (body, after) = after.split_at(4 + u32::from_be_bytes(*length) as usize);
            let (crc, after) = after.split_first_chunk::<4>().unwrap();
            let mut expected = flate2::Crc::new();
            expected.update(body);
            assert_eq!(u32::from_be_bytes(*crc), expected.sum());
            chunks.push(body.split_at(4));
            rest = after;
        }
        let kinds: Vec<_> = chunks.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [b"IHDR", b"IDAT", b"IEND"]);
        let (width, height) = pixels(&figure(), PNG_SCALE);
        let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
        assert_eq!(chunks[0].1, header);
        let mut rows = Vec::new();
        ZlibDecoder::new(chunks[1].1).read_to_end(&mut rows).unwrap();
        assert_eq!(rows.len(), (3 * width as usize + 1) * height as usize);
        let rows = rows.chunks_exact(3 * width as usize + 1);
        let pixels: Vec<&[u8]> = rows.flat_map(|row| row[1..].chunks_exact(3)).collect();
        let count = |rgb: [u8; 3]| pixels.iter().filter(|&&pixel| pixel == rgb).count();
        let all = pixels.len();
        assert!(count([255; 3]) > all / 2, "the background is white");
        for (name, rgb) in [("first series", [0, 0x72, 0xb2]), ("second series", [0xd5, 0x5e, 0])] {
            assert!(count(rgb) > 200, "{name}: {} pixels", count(rgb));
        }
        assert!(count([0x22; 3]) > 2000, "axes and text: {}", count([0x22; 3]));
    }

    #[test]
    fn the_same_figure_gives_the_same_bytes() {
        for format in [Format::Svg, Format::Png] {
            assert_eq!(figure().render(format).unwrap(), figure().render(format).unwrap());
        }
    }

    #[test]
    fn an_empty_figure_and_an_empty_panel_can_be_drawn() {
        let panel = Panel::new("", Axis::linear(""), Axis::log(""))
            .with_series(Series::line("", [(f64::NAN, 1.0)]).with_band());
        for figure in [Figure::new(""), Figure::new("").with_panel(panel)] {
            for format in [Format::Svg, Format::Png] {
                assert!(!figure.render(format).unwrap().is_empty());
            }
        }
    }

    #[test]
    fn the_extension_names_the_format() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.svg", "a.PNG"] {
            let path = folder.path().join("new").join(name);
            figure().write(&path).unwrap();
            assert_eq!(
                std::fs::read(&path).unwrap(),
                figure().render(Format::of(&path).unwrap()).unwrap()
            );
        }
        for name in ["a.pdf", "a", "svg"] {
            let err = figure().write(Path::new(name)).unwrap_err();
            assert!(err.to_string().contains(".svg or .png"), "{err}");
        }
    }
}
