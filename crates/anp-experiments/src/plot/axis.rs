//! From values to places along an axis, and where the ticks are.

use super::figure::{Axis, Scale};

/// Most steps from tick to tick on an axis.
const TICKS: f64 = 7.5;
/// Share of the range that is left free at each end.
const FREE: f64 = 0.05;

/// An axis with its range.
#[derive(Debug, Clone)]
pub(super) struct Range<'a> {
    scale: &'a Scale,
    /// Ends, as logarithms on a logarithmic axis.
    from: f64,
    to: f64,
}

/// A place on an axis with a label; empty for a place that only has a short mark.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    /// From 0 to 1.
    pub place: f64,
    pub label: String,
}

impl<'a> Range<'a> {
    /// The range of `values` on `axis`.
    pub fn new(axis: &'a Axis, values: impl Iterator<Item = f64>) -> Self {
        let scale = &axis.scale;
        if let Scale::Named(names) = scale {
            return Self { scale, from: -0.5, to: names.len().max(1) as f64 - 0.5 };
        }
        let (mut from, mut to) = values
            .filter_map(|value| transform(scale, value))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(from, to), value| {
                (from.min(value), to.max(value))
            });
        if from > to {
            (from, to) = (0.0, 1.0);
        }
        // Equal values get a range around them, wide enough for ticks that differ.
        let width = to - from;
        let smallest = 1e-9 * from.abs().max(to.abs()).max(1e-300);
        let free = if width > smallest { FREE * width } else { (0.5 * from.abs()).max(0.5) };
        // What is never negative should not have a negative range.
        let floor = if *scale == Scale::Linear && from >= 0.0 { 0.0 } else { f64::NEG_INFINITY };
        Self { scale, from: (from - free).max(floor), to: to + free }
    }

    /// Place of a value, from 0 to 1; `None` if it has none.
    pub fn place(&self, value: f64) -> Option<f64> {
        Some(self.at(transform(self.scale, value)?))
    }

    fn at(&self, transformed: f64) -> f64 {
        (transformed - self.from) / (self.to - self.from)
    }

    /// The ticks, from 0 to 1.
    pub fn ticks(&self) -> Vec<Tick> {
        match self.scale {
            Scale::Named(names) => {
                let tick = |(index, name): (usize, &String)| Tick {
                    place: self.at(index as f64),
                    label: name.clone(),
                };
                names.iter().enumerate().map(tick).collect()
            }
            Scale::Linear => self.linear_ticks(),
            Scale::Log => self.log_ticks(),
        }
    }

    fn linear_ticks(&self) -> Vec<Tick> {
        self.round_ticks(self.from, self.to)
    }

    /// Multiples of a round number between two values.
    fn round_ticks(&self, from: f64, to: f64) -> Vec<Tick> {
        let rough = (to - from) / TICKS;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power);
        let step = step.into_iter().find(|&step| step >= rough).unwrap_or(10.0 * power);
        let decimals = (-step.log10().floor()).clamp(0.0, 300.0) as usize;
        let (first, last) = ((from / step).ceil() as i64, (to / step).floor() as i64);
        let label = |value: f64| {
            let size = from.abs().max(to.abs());
            if value != 0.0 && !(1e-3..1e6).contains(&size) {
                scientific(value)
            } else {
                format!("{value:.decimals$}")
            }
        };
        (first..=last)
            .map(|index| index as f64 * step)
            .filter_map(|value| Some(Tick { place: self.place(value)?, label: label(value) }))
            .collect()
    }

    /// Powers of ten, as many as have room; where they are few, their multiples by 2 and 5, too;
    /// within half of one, multiples of a round number.
    fn log_ticks(&self) -> Vec<Tick> {
        let decades = self.to - self.from;
        if decades < 0.5 {
            return self.round_ticks(10f64.powf(self.from), 10f64.powf(self.to));
        }
        let every = (decades / TICKS).ceil().max(1.0) as i64;
        let digits: &[f64] = match decades {
            decades if decades > 3.0 => &[1.0],
            _ => &[1.0, 2.0, 5.0],
        };
        let mut ticks = Vec::new();
        for power in self.from.floor() as i64..=self.to.floor() as i64 {
            for &digit in digits {
                let value = digit * 10f64.powi(power as i32);
                let place = self.at(value.log10());
                if (0.0..=1.0).contains(&place) {
                    let has_label = power.rem_euclid(every) == 0;
                    let label = if has_label { short(value) } else { String::new() };
                    ticks.push(Tick { place, label });
                }
            }
        }
        ticks
    }
}

fn transform(scale: &Scale, value: f64) -> Option<f64> {
    let transformed = if *scale == Scale::Log { value.log10() } else { value };
    transformed.is_finite().then_some(transformed)
}

/// The value in the fewest characters.
fn short(value: f64) -> String {
    if (1e-3..1e5).contains(&value.abs()) {
        let digits = (2 - value.abs().log10().floor() as i32).max(0) as usize;
        let text = format!("{value:.digits$}");
        let text = if text.contains('.') { text.trim_end_matches('0') } else { &text };
        text.trim_end_matches('.').to_owned()
    } else {
        scientific(value)
    }
}

fn scientific(value: f64) -> String {
    let text = format!("{value:.2e}");
    let (digits, power) = text.split_once('e').expect("the format has an exponent");
    format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis, values: &[f64]) -> Vec<String> {
        let ticks = Range::new(axis, values.iter().copied()).ticks();
        assert!(ticks.iter().all(|tick| (-1e-9..=1.0 + 1e-9).contains(&tick.place)), "{ticks:?}");
        assert!(ticks.windows(2).all(|pair| pair[0].place < pair[1].place), "{ticks:?}");
        ticks.into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        let linear = Axis::linear("");
        assert_eq!(labels(&linear, &[0.0, 1.0]), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&linear, &[-20.0, 35.0]), ["-20", "-10", "0", "10", "20", "30"]);
        assert_eq!(labels(&linear, &[1e-6, 3e-6]).first().unwrap(), "1e-6");
        let log = Axis::log("");
        assert_eq!(labels(&log, &[1e-4, 1.0]), ["1e-4", "0.001", "0.01", "0.1", "1"]);
        assert_eq!(labels(&log, &[1.0, 30.0]), ["1", "2", "5", "10", "20"]);
        assert_eq!(
            labels(&log, &[0.028, 0.031]),
            ["0.0280", "0.0285", "0.0290", "0.0295", "0.0300", "0.0305", "0.0310"]
        );
        // Fifteen decades have no room for fifteen labels.
        let many = labels(&log, &[1e-12, 1e3]);
        assert_eq!(many.iter().filter(|label| !label.is_empty()).count(), 6);
    }

    #[test]
    fn equal_values_and_none_have_a_range() {
        for values in [&[][..], &[0.0], &[7.0, 7.0], &[-3.0], &[1e-9], &[f64::NAN, 2.0]] {
            for axis in [Axis::linear(""), Axis::log("")] {
                let range = Range::new(&axis, values.iter().copied());
                assert!(!range.ticks().is_empty(), "{values:?}");
                for place in values.iter().filter_map(|&value| range.place(value)) {
                    assert!((0.0..=1.0).contains(&place), "{values:?}: {place}");
                }
            }
        }
    }

    #[test]
    fn values_without_a_place_are_left_out() {
        let log = Axis::log("");
        let range = Range::new(&log, [1.0, 100.0, 0.0, -1.0].into_iter());
        assert_eq!([0.0, -1.0, f64::NAN, f64::INFINITY].map(|it| range.place(it)), [None; 4]);
        let middle = range.place(10.0).unwrap();
        assert!((middle - 0.5).abs() < 1e-12, "{middle}");
    }

    #[test]
    fn names_stand_in_the_middle_of_equal_parts() {
        let named = Axis::named("", ["a", "b"]);
        let range = Range::new(&named, std::iter::empty());
        let ticks = range.ticks();
        assert_eq!(ticks[0], Tick { place: 0.25, label: "a".to_owned() });
        assert_eq!(ticks[1], Tick { place: 0.75, label: "b".to_owned() });
    }
}
