//! From activations, window by window, to the report of a site.

use anp_core::estimators::InformationBounds;
use anp_core::{ExampleGroup, InformationBound, InformationBoundConfig, InformationTerms};
use burn::tensor::{Int, Tensor};
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::features::Features;
use super::number::Number;
use super::options::Options;
use super::report::{
    Bounded, Divergence, GivenSigma, Information, Noise, Range, SaturationReport, SiteReport, Size,
    SpectrumReport,
};
use super::spectrum::{effective_rank, participation_ratio};
use crate::activation::{ActivationSums, ScalarSum};
use crate::random::{Purpose, seed};

/// What is a limit of an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Saturation {
    /// |h| close to 1, the limit of a tanh.
    Tanh,
    /// |tanh c| close to 1: the cell state behind a tanh.
    Cell,
    /// 0, the limit of a rectifier.
    Rectifier,
    /// There is none.
    Unlimited,
}

/// The items of which spectra and information are taken: drawn without repetition, in order.
#[derive(Debug, Clone)]
pub(crate) struct Sample(Vec<usize>);

impl Sample {
    /// Draw from `total` items, or take all if they are not more.
    pub fn draw(options: &Options, run_seed: u64, total: usize) -> Self {
        let of_sample = seed(options.seed.unwrap_or(run_seed), Purpose::Analysis, 0);
        let mut rng = ChaCha8Rng::seed_from_u64(of_sample);
        let mut items = index::sample(&mut rng, total, options.samples.min(total)).into_vec();
        items.sort_unstable();
        Self(items)
    }

    /// Those among the `count` items from `start` on, counted from there.
    pub fn within(&self, start: usize, count: usize) -> Vec<i32> {
        let from = self.0.partition_point(|&item| item < start);
        let to = self.0.partition_point(|&item| item < start + count);
        self.0[from..to].iter().map(|&item| (item - start) as i32).collect()
    }
}

/// Everything that is measured of one site.
#[derive(Debug)]
pub(crate) struct Meter {
    site: String,
    saturation: Saturation,
    bound: InformationBound,
    trace: InformationBound,
    sums: ActivationSums,
    /// Elements beyond the criterion, where [`ActivationSums`] has another.
    beyond: ScalarSum,
    elements: usize,
    /// Largest magnitude of each unit so far: `[1, 1, K]`.
    largest: Option<Tensor<3>>,
    units: usize,
    /// Items of a group; groups of another size are left out.
    group_size: usize,
    groups: usize,
    /// Mean over the groups of each window.
    traces: Vec<f64>,
    log_determinants: Vec<f64>,
    kls: Vec<f64>,
    /// The sampled items, row by row, as precise as the network computes.
    rows: Vec<f32>,
}

impl Meter {
    pub fn new(site: String, saturation: Saturation, epsilon: f64) -> Self {
        let config = InformationBoundConfig::new(1.0)
            .with_epsilon(epsilon)
            .with_group(ExampleGroup::TimeStep)
            .with_batch_first(false);
        Self {
            site,
            saturation,
            bound: config.init(),
            trace: config.with_terms(InformationTerms::Trace).init(),
            sums: ActivationSums::default(),
            beyond: ScalarSum::default(),
            elements: 0,
            largest: None,
            units: 0,
            group_size: 0,
            groups: 0,
            traces: Vec::new(),
            log_determinants: Vec::new(),
            kls: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Add a window or batch.
    ///
    /// - `activation`: `[seq_length, batch_size, K]`, not on an autodiff device
    /// - `sampled`: the items of the sample among the `seq_length · batch_size`
    pub fn add(&mut self, activation: Tensor<3>, sampled: &[i32]) {
        let [seq_length, batch_size, units] = activation.dims();
        self.units = units;
        self.elements += seq_length * batch_size * units;
        self.sums.add(activation.clone());
        match self.saturation {
            Saturation::Cell => {
                let beyond = activation.clone().tanh().abs();
                let beyond = beyond.greater_scalar(ActivationSums::SATURATED);
                self.beyond.add(beyond.int().sum().float());
            }
            Saturation::Rectifier => {
                self.beyond.add(activation.clone().equal_scalar(0.0).int().sum().float());
                let largest = activation.clone().abs().max_dim(0).max_dim(1);
                self.largest = Some(match self.largest.take() {
                    Some(before) => before.max_pair(largest),
                    None => largest,
                });
            }
            Saturation::Tanh | Saturation::Unlimited => {}
        }
        if self.groups == 0 {
            self.group_size = batch_size;
        }
        if batch_size == self.group_size {
            let (groups, count) = (seq_length as f64, batch_size as f64);
            let mean = |bound: &InformationBound| {
                bound.forward(activation.clone()).into_scalar::<f64>() / groups
            };
            let kl = mean(&self.bound);
            // The bound leaves out what has no gradient.
            let trace = mean(&self.trace) + 0.5 * count * (self.bound.epsilon() - 1.0);
            self.kls.push(kl);
            self.traces.push(trace);
            self.log_determinants.push(kl - trace);
            self.groups += seq_length;
        }
        if !sampled.is_empty() {
            let device = activation.device();
            let items = activation.reshape([seq_length * batch_size, units]);
            let items = items.select(0, Tensor::<1, Int>::from_data(sampled, &device));
            self.rows.extend(items.into_data().iter::<f32>());
        }
    }

    /// The report. `labels` are those of the sampled items, for images.
    pub fn finish(mut self, options: &Options, labels: Option<&Tensor<1, Int>>) -> SiteReport {
        let saturation = self.saturation();
        let statistics = self.sums.statistics();
        let criterion_of_sums = (self.saturation == Saturation::Tanh).then(|| SaturationReport {
            criterion: "|h| > 0.9",
            share: Number::new(statistics.saturated, "1"),
            dead_units: None,
        });
        let rows = self.rows.into_iter().map(f64::from).collect();
        let features = Features::new(rows, self.units);
        let rms = features.rms();
        let relative = options.relative_sigmas.iter().map(|&relative_sigma| {
            let given = GivenSigma::Relative;
            Noise { given, sigma: relative_sigma * rms, relative_sigma }
        });
        let absolute = options.absolute_sigmas.iter().map(|&sigma| Noise {
            given: GivenSigma::Absolute,
            sigma,
            relative_sigma: sigma / rms,
        });
        let information = relative
            .chain(absolute)
            .filter_map(|noise| information(&features, noise, labels))
            .collect();
        SiteReport {
            site: self.site,
            units: self.units,
            size: Size {
                norm: Number::new(statistics.norm, "1"),
                half_squared_norm: Number::new(statistics.half_squared_norm, "1"),
                frobenius_per_step: Number::new(statistics.frobenius_per_step, "1"),
                rms: Number::new(statistics.rms, "1"),
            },
            saturation: criterion_of_sums.or(saturation),
            divergence: Divergence {
                group_size: self.group_size,
                groups: self.groups,
                epsilon: options.epsilon,
                trace: Number::mean(&self.traces, "nats"),
                log_determinant: Number::mean(&self.log_determinants, "nats"),
                kl: Number::mean(&self.kls, "nats"),
            },
            spectrum: spectrum(&features, options.epsilon),
            information,
        }
    }

    fn saturation(&mut self) -> Option<SaturationReport> {
        let share = Number::new(self.beyond.read() / self.elements as f64, "1");
        match self.saturation {
            Saturation::Cell => {
                Some(SaturationReport { criterion: "|tanh c| > 0.9", share, dead_units: None })
            }
            Saturation::Rectifier => {
                let largest = self.largest.take()?.into_data();
                let dead = largest.iter::<f64>().filter(|&largest| largest == 0.0).count();
                let dead_units = Some(Number::new(dead as f64 / self.units as f64, "1"));
                Some(SaturationReport { criterion: "h = 0", share, dead_units })
            }
            Saturation::Tanh | Saturation::Unlimited => None,
        }
    }
}

fn spectrum(features: &Features, epsilon: f64) -> SpectrumReport {
    let (kernel, covariance) = (features.kernel(), features.covariance());
    let [trace, log_determinant] = features.divergence(epsilon);
    SpectrumReport {
        samples: features.num_items(),
        kernel_effective_rank: Number::new(effective_rank(&kernel), "1"),
        effective_rank: Number::new(effective_rank(&covariance), "1"),
        participation_ratio: Number::new(participation_ratio(&covariance), "1"),
        kernel,
        covariance,
        divergence: Divergence {
            group_size: features.num_items(),
            groups: 1,
            epsilon,
            trace: Number::new(trace, "nats"),
            log_determinant: Number::new(log_determinant, "nats"),
            kl: Number::new(trace + log_determinant, "nats"),
        },
    }
}

/// `None` if σ is 0, a multiple of an activation that is 0.
fn information(
    features: &Features,
    noise: Noise,
    labels: Option<&Tensor<1, Int>>,
) -> Option<Information> {
    let samples = features.num_items();
    let mixture = features.with_noise(noise.sigma).ok()?;
    Some(Information {
        noise,
        samples,
        ceiling: Number::new((samples as f64).ln(), "nats"),
        input: range(mixture.input_information()),
        label: labels.map(|labels| range(mixture.label_information(labels.clone()))),
    })
}

fn range(bounds: InformationBounds) -> Range {
    let [lower, upper] = [bounds.lower, bounds.upper].map(|estimate| {
        let freedom = estimate.num_units.saturating_sub(1).max(1) as f64;
        let student = StudentsT::new(0.0, 1.0, freedom).expect("the degrees are positive");
        let interval = estimate.interval(student.inverse_cdf(0.975));
        Bounded { estimate, interval, unit: "nats" }
    });
    Range { lower, upper }
}

#[cfg(test)]
mod tests {
    use anp_testing::lock_generator;
    use burn::tensor::{Device, Distribution};

    use super::*;

    #[test]
    fn a_sample_is_the_same_again_and_cut_into_windows_without_loss() {
        let options = Options { samples: 30, ..Options::default() };
        let sample = Sample::draw(&options, 5, 100);
        assert_eq!(sample.0, Sample::draw(&options, 5, 100).0);
        assert_ne!(sample.0, Sample::draw(&options, 6, 100).0);
        let again = Options { seed: Some(5), ..options.clone() };
        assert_eq!(sample.0, Sample::draw(&again, 6, 100).0);
        let mut items = Vec::new();
        for start in (0..100).step_by(20) {
            items.extend(sample.within(start, 20).iter().map(|&item| item as usize + start));
        }
        assert_eq!(items, sample.0);
        assert_eq!(Sample::draw(&options, 5, 7).0, (0..7).collect::<Vec<_>>());
    }

    /// Windows of the same items give what the items together give.
    #[test]
    fn a_report_is_of_all_windows() {
        let _turn = lock_generator();
        let device = Device::default();
        device.seed(3);
        let uniform = Distribution::Uniform(-2.0, 2.0);
        let windows: Vec<Tensor<3>> =
            (0..3).map(|_| Tensor::random([4, 2, 5], uniform, &device)).collect();
        let options = Options { samples: 24, ..Options::default() };
        let sample = Sample::draw(&options, 1, 24);
        let mut meter = Meter::new("cell".to_owned(), Saturation::Cell, options.epsilon);
        for (index, window) in windows.iter().enumerate() {
            meter.add(window.clone(), &sample.within(8 * index, 8));
        }
        let report = meter.finish(&options, None);

        let values: Vec<f64> = windows
            .iter()
            .flat_map(|window| window.to_data().iter::<f64>().collect::<Vec<_>>())
            .collect();
        let features = Features::new(values.clone(), 5);
        assert_eq!(report.spectrum.kernel, features.kernel(), "all items are in the sample");
        assert_eq!(report.spectrum.samples, 24);
        assert!((report.size.rms.value - features.rms()).abs() < 1e-6);
        let beyond = values.iter().filter(|value| value.tanh().abs() > 0.9).count() as f64 / 120.0;
        let saturation = report.saturation.unwrap();
        // The share comes from sums in single precision.
        assert!((saturation.share.value - beyond).abs() < 1e-6, "{beyond}: {saturation:?}");
        let Divergence { group_size, groups, trace, log_determinant, kl, .. } = report.divergence;
        assert_eq!((group_size, groups), (2, 12));
        assert!((trace.value + log_determinant.value - kl.value).abs() < 1e-9);
        // ½ (tr K̂ − N) of the steps, by hand.
        let squares: f64 = values.iter().map(|x| x * x).sum();
        let expected = 0.5 * (squares / 5.0 / 12.0 + 2.0 * (options.epsilon - 1.0));
        assert!((trace.value - expected).abs() < 1e-5, "{trace:?} and {expected}");
        let first = &report.information[0];
        assert_eq!(first.noise.relative_sigma, 0.5);
        assert!(first.input.lower.estimate.nats <= first.input.upper.estimate.nats + 1e-12);
        assert!(first.input.upper.estimate.nats <= first.ceiling.value + 1e-12);
    }

    #[test]
    fn a_unit_that_is_never_above_zero_is_dead() {
        let device = Device::default();
        let batches = [[[0.0, 1.0, 0.0]], [[0.0, 0.0, 2.0]]]
            .map(|rows| Tensor::<3>::from_data([[rows[0], [0.0, 3.0, 0.0]]], &device));
        let options = Options { samples: 4, ..Options::default() };
        let mut meter = Meter::new("pooled".to_owned(), Saturation::Rectifier, options.epsilon);
        for batch in batches {
            meter.add(batch, &[0, 1]);
        }
        let labels = Tensor::from_data([0, 1, 2, 1], &device);
        let report = meter.finish(&options, Some(&labels));
        let saturation = report.saturation.unwrap();
        // Four of twelve elements are not 0; the first unit is dead.
        assert!((saturation.share.value - 8.0 / 12.0).abs() < 1e-6);
        assert!((saturation.dead_units.unwrap().value - 1.0 / 3.0).abs() < 1e-6);
        assert!(report.information.iter().all(|it| it.label.is_some()));
    }

    #[test]
    fn an_activation_of_zeros_has_no_information() {
        let mut meter = Meter::new("hidden".to_owned(), Saturation::Tanh, 1e-3);
        meter.add(Tensor::zeros([2, 3, 4], &Device::default()), &[0, 5]);
        let report = meter.finish(&Options::default(), None);
        // Only a noise that is no multiple of it.
        let [information] = &report.information[..] else { panic!("{report:?}") };
        assert_eq!(information.noise.given, GivenSigma::Absolute);
        assert_eq!(information.input.upper.estimate.nats, 0.0);
        assert!(report.spectrum.effective_rank.value.is_nan());
        assert_eq!(report.size.norm.value, 0.0);
    }
}
