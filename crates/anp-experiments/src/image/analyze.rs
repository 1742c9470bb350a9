//! The analysis of an image classifier's checkpoint.

use anp_models::ImageSite;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor};

use super::batches::Source;
use super::build::{build, equivalents};
use super::data::ImageData;
use super::learner::ImageLearner;
use super::snapshot::ImageTensors;
use super::task::ImageTask;
use crate::analyze::{
    Analysis, Decoder, Gradient, GradientMeter, Meter, On, Options, Sample, Saturation, SiteReport,
    entropy,
};
use crate::data::Split;
use crate::engine::{EvaluationProgress, GoOnPart, Place, StoredCheckpoint, Task, TrainError};
use crate::random::{Purpose, seed};

/// The sites in the order in which they are computed, with their limits.
const SITES: [(ImageSite, Saturation); 7] = [
    (ImageSite::Conv1, Saturation::Unlimited),
    (ImageSite::Group(1), Saturation::Unlimited),
    (ImageSite::Group(2), Saturation::Unlimited),
    (ImageSite::Group(3), Saturation::Unlimited),
    (ImageSite::Relu, Saturation::Rectifier),
    (ImageSite::Pooled, Saturation::Rectifier),
    (ImageSite::Logits, Saturation::Unlimited),
];

/// There is no such part of the data.
#[derive(Debug, thiserror::Error)]
#[error("images have no validation split; give --split train or --split test")]
struct NoValidation;

/// Analyse the network of a checkpoint; `None` if `go_on` returns `false`.
///
/// # Errors
///
/// [`TrainError::Recipe`], [`TrainError::Data`], [`TrainError::Task`] and
/// [`TrainError::Checkpoint`].
pub fn analyze_checkpoint(
    stored: StoredCheckpoint<ImageTask>,
    place: &Place,
    options: &Options,
    go_on: &mut GoOnPart<'_>,
) -> Result<Option<Analysis>, TrainError> {
    let recipe = stored.recipe.clone();
    ImageTask::check(&recipe, &place.devices)?;
    let data = ImageTask::load(&recipe, &place.store)?;
    let (split, source) = match options.split.unwrap_or(Split::Test) {
        Split::Train => ("train", &data.train),
        Split::Test => ("test", &data.test),
        Split::Valid => return Err(TrainError::Task(Box::new(NoValidation))),
    };
    let device = place.devices.first().clone().autodiff();
    let mut learner = build(&recipe, &data, place.kernels, &device);
    let template = ImageTensors::like(learner.net.clone(), &stored.state, &device);
    let (checkpoint, run_seed) = (stored.path.clone(), stored.run.seed);
    let epochs = stored.run.curve.len();
    learner.net = stored.load(template)?.tensors.net;

    let seed = options.seed.unwrap_or(run_seed);
    let terms = GradientMeter::new(equivalents(&recipe));
    Ok((|| {
        let (on, sites, decoder) = activations(
            &learner.valid(),
            (split, source),
            options,
            run_seed,
            &device.clone().inner(),
            go_on,
        )?;
        let at = (epochs.max(1), seed);
        let gradient = gradients(&learner, &data, terms, options, at, &device, go_on)?;
        Some(Analysis {
            checkpoint,
            kind: ImageTask::KIND,
            epoch: (epochs > 0).then_some(epochs),
            parameters: "last",
            seed,
            on,
            epsilon: options.epsilon,
            sites,
            decoder,
            gradient,
        })
    })())
}

fn activations(
    learner: &ImageLearner,
    (split, source): (&'static str, &Source),
    options: &Options,
    run_seed: u64,
    device: &Device,
    go_on: &mut GoOnPart<'_>,
) -> Option<(On, Vec<SiteReport>, Decoder)> {
    let num_batches = options.max_windows.min(source.num_batches());
    let items = source.images.len().min(num_batches * source.batch_size);
    let sample = Sample::draw(options, run_seed, items);
    let new = |&(site, limits): &(ImageSite, Saturation)| {
        Meter::new(site.to_string(), limits, options.epsilon)
    };
    let mut meters: Vec<_> = SITES.iter().map(new).collect();
    let (mut nlls, mut sampled_labels) = (Vec::new(), Vec::new());
    for index in 0..num_batches {
        let batch = source.plain_batch(index).to_device(device);
        let start = index * source.batch_size;
        let [images] = batch.labels.dims();
        let sampled = sample.within(start, images);
        let output = learner.net.forward(batch.images);
        for (meter, (site, _)) in meters.iter_mut().zip(&SITES) {
            meter.add(output.activation(*site).unsqueeze_dim(0), &sampled);
        }
        let labels: Vec<i32> = batch.labels.to_data().iter::<i32>().collect();
        sampled_labels.extend(sampled.iter().map(|&item| labels[item as usize]));
        let labels = batch.labels.reshape([images, 1]);
        let nll = log_softmax(output.logits, 1).gather(1, labels).neg();
        nlls.extend(nll.into_data().iter::<f64>());
        let progress = EvaluationProgress { done: index + 1, total: num_batches, measured: None };
        if !go_on("activations", progress) {
            return None;
        }
    }
    let labels = Tensor::<1, Int>::from_data(&sampled_labels[..], device);
    let total = meters.len();
    let mut reports = Vec::with_capacity(total);
    for (index, meter) in meters.into_iter().enumerate() {
        reports.push(meter.finish(options, Some(&labels)));
        let progress = EvaluationProgress { done: index + 1, total, measured: None };
        if !go_on("spectra, information", progress) {
            return None;
        }
    }
    let mut counts = vec![0.0; 256];
    source.images.labels.iter().for_each(|&label| counts[usize::from(label)] += 1.0);
    let on = On { split, items, item: "image", mode: "evaluation" };
    let decoder = Decoder::new(ImageSite::Pooled.to_string(), entropy(&counts), &nlls);
    Some((on, reports, decoder))
}

/// Gradients on the first batches of an epoch, augmented and normalised as in training.
fn gradients(
    learner: &ImageLearner,
    data: &ImageData,
    mut meter: GradientMeter,
    options: &Options,
    (epoch, seed_of_analysis): (usize, u64),
    device: &Device,
    go_on: &mut GoOnPart<'_>,
) -> Option<Gradient> {
    let order = data.train.order(seed_of_analysis, epoch);
    let steps = options.gradient_steps.min(data.train.num_batches());
    let mut items = 0;
    for index in 0..steps {
        let batch = data.train.training_batch(&order, seed_of_analysis, epoch, index);
        let batch = batch.to_device(device);
        items += batch.part.batch_size;
        let gradient = |term| {
            // The same dropout for each term.
            device.seed(seed(seed_of_analysis, Purpose::Analysis, index as u64 + 1));
            learner.gradient_of(&batch, term)
        };
        let data = gradient(None);
        let terms: Vec<GradientsParams> = meter
            .strengths()
            .enumerate()
            .map(|(index, strength)| match strength {
                // Such a term is a constant, which has no graph.
                0.0 => GradientsParams::new(),
                _ => gradient(Some(index)),
            })
            .collect();
        meter.add(learner, &data, &terms);
        let progress = EvaluationProgress { done: index + 1, total: steps, measured: None };
        if !go_on("gradients", progress) {
            return None;
        }
    }
    Some(meter.finish(On { split: "train", items, item: "image", mode: "training" }))
}

#[cfg(test)]
mod tests {
    use anp_core::ActivationNormConfig;
    use anp_models::WideResNetConfig;
    use anp_testing::lock_generator;
    use burn::tensor::Distribution;
    use burn::train::TrainStep;

    use super::*;
    use crate::analyze::compare;
    use crate::image::batches::{ImageBatch, Part};

    /// And the running statistics are only a step's.
    #[test]
    fn the_gradient_of_a_step_is_the_sum_of_its_terms() {
        let _turn = lock_generator();
        let device = Device::default().autodiff();
        device.seed(5);
        let norm = ActivationNormConfig::new(0.3).init();
        let learner = ImageLearner {
            net: WideResNetConfig::new(10, 1, 3).init(&device),
            penalties: vec![(ImageSite::Pooled, norm.clone()), (ImageSite::Logits, norm)],
            regularizers: Vec::new(),
            weight_penalty: None,
        };
        let batch = ImageBatch {
            images: Tensor::random([6, 3, 8, 8], Distribution::Default, &device),
            labels: Tensor::from_data([0, 1, 2, 0, 1, 2], &device),
            part: Part { index: 0, batch_size: 6 },
        };
        let running = |learner: &ImageLearner| learner.net.norm.running_mean.value().into_data();
        let before = running(&learner);
        let terms = [None, Some(0), Some(1)].map(|term| learner.gradient_of(&batch, term));
        assert_eq!(running(&learner), before);

        let step = TrainStep::step(&learner, batch).grads;
        // ‖g − Σ gᵢ‖² from all the products of two.
        let product = |a: &GradientsParams, b: &GradientsParams| compare(&learner, a, b).product;
        let all = product(&step, &step);
        let with_step: f64 = terms.iter().map(|term| product(&step, term)).sum();
        let pairs = terms.iter().flat_map(|a| terms.iter().map(move |b| (a, b)));
        let left = all - 2.0 * with_step + pairs.map(|(a, b)| product(a, b)).sum::<f64>();
        // Rounding of single precision in four backward passes.
        assert!(all > 1e-4 && left.abs() < 1e-10 * all, "{left} of {all}");
        assert!(product(&terms[1], &terms[1]) > 1e-6 * all, "a penalty has a gradient");
    }
}
