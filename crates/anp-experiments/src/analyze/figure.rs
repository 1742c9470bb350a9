//! Analyses as figures.

use std::path::Path;

use super::number::Number;
use super::report::{Analysis, GivenSigma, Noise, Range, SiteReport};
use crate::plot::{Axis, Figure, Panel, Point, Series};

/// The figure of one analysis, or of several beside each other: over epochs if they are of
/// different epochs of one run, else by their checkpoints' names.
pub fn figure(analyses: &[Analysis]) -> Figure {
    match analyses {
        [analysis] => of_one(analysis),
        _ => of_several(analyses),
    }
}

fn of_one(analysis: &Analysis) -> Figure {
    let sites = &analysis.sites;
    let by_site = |title: &str, label: &str| {
        let names = sites.iter().map(|site| site.site.clone());
        Panel::new(title, Axis::named("activation", names), Axis::linear(label))
    };
    let over_sites = |name: &str, value: &dyn Fn(&SiteReport) -> Option<Point>| {
        let points = sites
            .iter()
            .enumerate()
            .filter_map(|(index, site)| Some(Point { x: index as f64, ..value(site)? }));
        Series::line(name, points)
    };

    let mut spectrum = Panel::new(
        "Spectrum of K̂",
        Axis::log("index of the eigenvalue"),
        Axis::log("eigenvalue of K̂"),
    );
    for site in sites {
        let values = site.spectrum.kernel.iter().enumerate();
        let points = values.map(|(index, value)| ((index + 1) as f64, value + analysis.epsilon));
        spectrum = spectrum.with_series(Series::curve(site.site.clone(), points));
    }

    let rank = by_site("Dimensions that are used", "count")
        .with_series(over_sites("units", &|site| Some(at(site.units as f64))))
        .with_series(over_sites("effective rank", &|site| point(site.spectrum.effective_rank)))
        .with_series(over_sites("participation ratio", &|site| {
            point(site.spectrum.participation_ratio)
        }));
    let rank = Panel { y: Axis::log("count"), ..rank };

    let divergence = by_site("Divergence of equation 10, per group", "nats")
        .with_series(over_sites("½ (tr K̂ − N)", &|site| point(site.divergence.trace)))
        .with_series(over_sites("−½ ln det K̂", &|site| point(site.divergence.log_determinant)))
        .with_series(over_sites("sum", &|site| point(site.divergence.kl)));

    let mut input = by_site("I(X; T) with noise: lower to upper bound", "nats");
    let mut label = by_site("I(T; Y) with noise: lower to upper bound", "nats");
    // In the order of the options, which is the same for all sites.
    let mut noises: Vec<(GivenSigma, f64)> = Vec::new();
    for noise in sites.iter().flat_map(|site| &site.information).map(|it| it.noise) {
        if !noises.contains(&given(noise)) {
            noises.push(given(noise));
        }
    }
    for noise in noises {
        let of = |site: &SiteReport, is_label: bool| {
            let found = site.information.iter().find(|it| given(it.noise) == noise)?;
            between(if is_label { found.label? } else { found.input })
        };
        input = input.with_series(over_sites(&noise_name(noise), &|site| of(site, false)));
        label = label.with_series(over_sites(&noise_name(noise), &|site| of(site, true)));
    }

    let saturation = by_site("Saturated share", "share of elements")
        .with_series(over_sites("", &|site| point(site.saturation.as_ref()?.share)));

    let terms = &analysis.gradient.terms;
    let names = terms.iter().map(|term| term.name.clone());
    let shares = terms
        .iter()
        .enumerate()
        .map(|(index, term)| Point { x: index as f64, ..at_number(term.share) });
    let gradient = Panel::new(
        "Gradient of each penalty",
        Axis::named("term of the loss", names),
        Axis::log("norm / norm of the data's"),
    )
    .with_series(Series::points("", shares));

    let title = format!("{} (parameters: {})", name(analysis), analysis.parameters);
    let mut figure = Figure::new(title);
    figure.panels.extend([spectrum, rank, divergence, input]);
    if label.series.iter().any(|series| !series.points.is_empty()) {
        figure.panels.push(label);
    }
    figure.panels.push(saturation);
    if !terms.is_empty() {
        figure.panels.push(gradient);
    }
    figure
}

fn of_several(analyses: &[Analysis]) -> Figure {
    let mut epochs: Vec<_> = analyses.iter().map(|analysis| analysis.epoch).collect();
    epochs.sort_unstable();
    epochs.dedup();
    // Epochs of different runs have nothing to do with each other.
    let folder = |analysis: &Analysis| analysis.checkpoint.parent().map(Path::to_owned);
    let is_one_run = analyses.iter().all(|analysis| folder(analysis) == folder(&analyses[0]));
    let is_over_epochs = is_one_run && epochs.len() == analyses.len() && !epochs.contains(&None);
    let x = |index: usize, analysis: &Analysis| match analysis.epoch {
        Some(epoch) if is_over_epochs => epoch as f64,
        _ => index as f64,
    };
    let axis = || {
        if is_over_epochs {
            Axis::linear("epoch")
        } else {
            Axis::named("", analyses.iter().map(name))
        }
    };
    let series = |name: String, value: &dyn Fn(&Analysis) -> Option<Point>| {
        let points = analyses.iter().enumerate().filter_map(|(index, analysis)| {
            Some(Point { x: x(index, analysis), ..value(analysis)? })
        });
        // A line would join networks that have nothing to do with each other.
        if is_over_epochs { Series::line(name, points) } else { Series::points(name, points) }
    };
    let mut sites: Vec<&str> = Vec::new();
    for site in analyses.iter().flat_map(|analysis| &analysis.sites) {
        if !sites.contains(&&*site.site) {
            sites.push(&site.site);
        }
    }
    let by_site = |title: &str, y: Axis, value: &dyn Fn(&SiteReport) -> Option<Point>| {
        sites.iter().fold(Panel::new(title, axis(), y), |panel, &name| {
            let of =
                |analysis: &Analysis| value(analysis.sites.iter().find(|site| site.site == name)?);
            panel.with_series(series(name.to_owned(), &of))
        })
    };
    let noises = |site: &SiteReport| site.information.iter().map(|it| given(it.noise)).collect();
    let noises: Vec<_> = analyses
        .iter()
        .flat_map(|it| &it.sites)
        .map(noises)
        .max_by_key(Vec::len)
        .unwrap_or_default();
    let of_noise = |noise: Option<(GivenSigma, f64)>| {
        let title = match noise {
            Some(noise) => format!("I(X; T), lower to upper bound, {}", noise_name(noise)),
            None => "I(X; T)".to_owned(),
        };
        by_site(&title, Axis::linear("nats"), &|site| {
            between(site.information.iter().find(|it| Some(given(it.noise)) == noise)?.input)
        })
    };
    // One of each kind: the middle of the multiples is the least saturated of the default.
    let of_kind = |kind| {
        let noises: Vec<_> = noises.iter().filter(|(it, _)| *it == kind).copied().collect();
        of_noise(noises.get(noises.len() / 2).copied())
    };

    let mut terms: Vec<&str> = Vec::new();
    for term in analyses.iter().flat_map(|analysis| &analysis.gradient.terms) {
        if !terms.contains(&&*term.name) {
            terms.push(&term.name);
        }
    }
    let panel =
        Panel::new("Gradient of each penalty", axis(), Axis::log("norm / norm of the data's"));
    let gradient = terms.iter().fold(panel, |panel, &name| {
        let of = |analysis: &Analysis| {
            let term = analysis.gradient.terms.iter().find(|term| term.name == name)?;
            point(term.share)
        };
        panel.with_series(series(name.to_owned(), &of))
    });

    let mut figure = Figure::new("");
    figure.panels.extend([
        by_site("Mean norm", Axis::log("‖h‖₂"), &|site| point(site.size.norm)),
        by_site("Effective rank", Axis::log("count"), &|site| point(site.spectrum.effective_rank)),
        by_site("Divergence of equation 10, per group", Axis::log("nats"), &|site| {
            point(site.divergence.kl)
        }),
        of_kind(GivenSigma::Relative),
        of_kind(GivenSigma::Absolute),
        by_site("Saturated share", Axis::linear("share of elements"), &|site| {
            point(site.saturation.as_ref()?.share)
        }),
    ]);
    let told = |analysis: &Analysis| point(analysis.decoder.information);
    figure.panels.push(
        Panel::new("I(T; Y), lower bound by the decoder", axis(), Axis::linear("nats"))
            .with_series(series(String::new(), &told)),
    );
    if !terms.is_empty() {
        figure.panels.push(gradient);
    }
    figure
}

/// What was given of a noise.
fn given(noise: Noise) -> (GivenSigma, f64) {
    match noise.given {
        GivenSigma::Relative => (noise.given, noise.relative_sigma),
        GivenSigma::Absolute => (noise.given, noise.sigma),
    }
}

fn noise_name((given, sigma): (GivenSigma, f64)) -> String {
    match given {
        GivenSigma::Relative => format!("σ = {sigma} RMS"),
        GivenSigma::Absolute => format!("σ = {sigma}"),
    }
}

/// From the lower to the upper bound.
fn between(range: Range) -> Option<Point> {
    let (low, high) = (range.lower.estimate.nats, range.upper.estimate.nats);
    Some(Point::within(0.0, 0.5 * (low + high), (low, high)))
}

fn at(y: f64) -> Point {
    Point { x: 0.0, y, interval: None }
}

/// With a 95 % interval for many values, where the standard error is known.
fn at_number(number: Number) -> Point {
    let interval =
        number.standard_error.map(|it| (number.value - 1.96 * it, number.value + 1.96 * it));
    Point { interval, ..at(number.value) }
}

fn point(number: Number) -> Option<Point> {
    Some(at_number(number))
}

/// The folder of the run, as far as the path shows it.
fn name(analysis: &Analysis) -> String {
    let path = &analysis.checkpoint;
    let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    match parts.as_slice() {
        [.., run, folder, _] if folder == "checkpoints" => run.to_string(),
        [.., last] => last.to_string(),
        [] => path.display().to_string(),
    }
}
