//! A training step of an image network on one or several devices.

use burn::data::dataloader::{DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};
use burn::train::TrainStep;
use burn::train::train::{MultiDeviceStepError, MultiDevicesTrainStep};

use super::batches::{HostBatch, ImageBatch};
use super::learner::{BatchOutput, ImageLearner};

/// The devices that share each batch. With several devices, each has a worker thread of burn-train
/// and, for the duration of a step, a copy of the network.
///
/// A device normalises its part of the batch by the part's own statistics. The running statistics
/// are updated with the mean over the parts, weighted by their images.
pub struct Replicas {
    devices: Vec<Device>,
    /// Absent if there is only one device.
    workers: Option<MultiDevicesTrainStep<ImageLearner>>,
}

impl Replicas {
    /// Start a thread for each device, if there are several. The network is on the first.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn new(devices: Vec<Device>) -> Self {
        assert!(!devices.is_empty(), "a step needs a device");
        let workers = (devices.len() > 1).then(|| MultiDevicesTrainStep::new(&devices));
        Self { devices, workers }
    }

    /// Loss and gradients of a batch, on the first device; with several devices, sums over the
    /// parts.
    ///
    /// # Errors
    ///
    /// If a worker's step panicked, for example because a device has too little memory.
    pub fn step(
        &self,
        model: &ImageLearner,
        batch: HostBatch,
    ) -> Result<(BatchOutput, GradientsParams), MultiDeviceStepError> {
        let main = &self.devices[0];
        let Some(workers) = self.workers.as_ref().filter(|_| batch.num_images() > 1) else {
            let output = TrainStep::step(model, batch.to_device(main));
            return Ok((output.item.into_step(), output.grads));
        };
        let mut parts = batch.to_devices(&self.devices).into_iter();
        let mut parts: Vec<Box<dyn DataLoaderIterator<ImageBatch>>> =
            self.devices.iter().map(|_| Box::new(Once(parts.next())) as _).collect();
        let (outputs, _) = workers.step(&mut parts, model)?;
        let outputs = outputs.into_iter().map(|it| (it.output.item.into_step(), it.output.grads));
        let mut outputs: Vec<_> = outputs.collect();
        // Summing the parts in the order of arrival would change the last bits from run to run.
        outputs.sort_by_key(|(output, _)| output.part.index);

        let inner = main.clone().inner();
        let mut accumulator = GradientsAccumulator::new();
        let mut sum: Option<BatchOutput> = None;
        for (output, gradients) in outputs {
            accumulator.accumulate(model, gradients.to_device(&inner, model));
            let output = weighted(output, main);
            sum = Some(match sum.take() {
                Some(sum) => add(sum, output),
                None => output,
            });
        }
        let mut sum = sum.expect("a batch has a part");
        let running = model.net.norms().flat_map(|it| [&it.running_mean, &it.running_var]);
        for (running, new) in running.zip(sum.running.drain(..)) {
            running.update(new);
            running.value_sync();
        }
        Ok((sum, accumulator.grads()))
    }
}

/// The output of a part on `main`, with the running statistics weighted by its share.
fn weighted(output: BatchOutput, main: &Device) -> BatchOutput {
    let inner = main.clone().inner();
    let to_main = |tensor: Tensor<1>| tensor.to_device(&inner);
    let share = output.images as f64 / output.part.batch_size as f64;
    BatchOutput {
        nll_sum: to_main(output.nll_sum),
        correct: to_main(output.correct),
        norm_sum: to_main(output.norm_sum),
        square_sum: to_main(output.square_sum),
        penalties: output.penalties.into_iter().map(to_main).collect(),
        running: output.running.into_iter().map(|it| it.to_device(main) * share).collect(),
        ..output
    }
}

fn add(left: BatchOutput, right: BatchOutput) -> BatchOutput {
    let add_all = |left: Vec<Tensor<1>>, right: Vec<Tensor<1>>| {
        left.into_iter().zip(right).map(|(left, right)| left + right).collect()
    };
    BatchOutput {
        images: left.images + right.images,
        nll_sum: left.nll_sum + right.nll_sum,
        correct: left.correct + right.correct,
        norm_sum: left.norm_sum + right.norm_sum,
        square_sum: left.square_sum + right.square_sum,
        penalties: add_all(left.penalties, right.penalties),
        running: add_all(left.running, right.running),
        part: left.part,
    }
}

/// A loader of at most one part, from which a worker takes its batch.
struct Once(Option<ImageBatch>);

impl Iterator for Once {
    type Item = Result<ImageBatch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(Ok)
    }
}

impl DataLoaderIterator<ImageBatch> for Once {
    fn progress(&self) -> Progress {
        Progress::new(1, 1, None)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use std::sync::Arc;

    use anp_core::{ActivationNormConfig, Norm, Reduction};
    use anp_models::{ImageSite, Kernels};
    use anp_testing::{assert_close, lock_generator, optimizer_gradients};
    use burn::module::{Flag, Module, ModuleMapper, Param};

    use super::*;
    use crate::data::Store;
    use crate::image::batches::{Normalization, Source};
    use crate::image::build::optimizer;
    use crate::image::regularizer::ImageRegularizer;
    use crate::image::snapshot::Velocities;
    use crate::recipe::test_image_recipe;
    use crate::recipe::{LabelPrior, RegularizerConfig, WeightPenaltyConfig, WeightPenaltyForm};

    /// So many devices; where the build has two, every other one is the second.
    #[allow(deprecated)] // Burn wants NdArray to be left; it is a second device here.
    fn devices(count: usize) -> Vec<Device> {
        let first = Device::flex();
        #[cfg(feature = "ndarray")]
        let second = Device::ndarray();
        #[cfg(not(feature = "ndarray"))]
        let second = Device::flex();
        [first, second].into_iter().cycle().take(count).map(Device::autodiff).collect()
    }

    /// The first images of the embedded set, `repeated` times over, as one batch.
    fn batch(images: usize, repeated: usize) -> HostBatch {
        let set = Store::locate(None).load_images("fashion_mnist_small").unwrap();
        let normalization = Arc::new(Normalization::new(&set));
        let mut images_of_set = set.train;
        images_of_set.truncate(images);
        images_of_set.pixels = images_of_set.pixels.repeat(repeated);
        images_of_set.labels = images_of_set.labels.repeat(repeated);
        let (images, batch_size) = (Arc::new(images_of_set), images * repeated);
        Source { images, normalization, batch_size, augment: false }.plain_batch(0)
    }

    fn learner(penalties: Vec<(Norm, Reduction, f64)>) -> ImageLearner {
        let device = Device::flex().autodiff();
        device.seed(5);
        let penalty = |(norm, reduction, eta)| {
            let config = ActivationNormConfig::new(eta).with_norm(norm).with_reduction(reduction);
            (ImageSite::Pooled, config.init())
        };
        ImageLearner {
            net: test_image_recipe().network(10, Kernels::Fused).init(&device),
            penalties: penalties.into_iter().map(penalty).collect(),
            regularizers: Vec::new(),
            weight_penalty: None,
        }
    }

    /// The same parameters, with statistics of their own. (Drawn again they could be others: tests
    /// run beside each other, and share the random number generator.)
    fn own(learner: &ImageLearner) -> ImageLearner {
        ImageLearner { net: learner.net.with_own_statistics(), ..learner.clone() }
    }

    /// Turns off what a batch does to itself.
    struct Freeze;

    impl ModuleMapper for Freeze {
        fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
            flag.with_value(false)
        }
    }

    /// All gradients, one parameter after the other.
    fn gradients_of(learner: &ImageLearner, gradients: &GradientsParams) -> Vec<f64> {
        let gradients = optimizer_gradients(&learner.net, gradients, None);
        gradients.into_values().flat_map(|it| it.data).collect()
    }

    fn values(tensors: impl IntoIterator<Item = Tensor<1>>) -> Vec<f64> {
        tensors.into_iter().flat_map(anp_testing::values).collect()
    }

    /// With the statistics frozen nothing tells an image of the others in its batch; seven images
    /// on three devices are 3 + 3 + 1.
    #[test]
    fn loss_penalties_and_gradients_are_those_of_the_whole_batch() {
        let _turn = lock_generator();
        let all = |norm| Reduction::ALL.map(|reduction| (norm, reduction, 0.01));
        let mut learner = learner(Norm::ALL.into_iter().flat_map(all).collect()).map(&mut Freeze);
        let counts: Vec<f64> = (1..=10).map(f64::from).collect();
        let rivals = [
            RegularizerConfig::TargetNorm { site: ImageSite::Pooled, beta: 0.1, target: 2.0 },
            RegularizerConfig::ConfidencePenalty { beta: 0.1 },
            RegularizerConfig::LabelSmoothing { alpha: 0.1, prior: LabelPrior::Uniform },
            RegularizerConfig::LabelSmoothing { alpha: 0.1, prior: LabelPrior::Unigram },
        ];
        learner.regularizers =
            rivals.iter().map(|config| ImageRegularizer::new(config, &counts)).collect();
        let form = WeightPenaltyForm::GlobalNorm;
        learner.weight_penalty = Some(WeightPenaltyConfig { form, eta: 0.01 });
        let of =
            |devices| Replicas::new(self::devices(devices)).step(&learner, batch(7, 1)).unwrap();
        let (whole, gradients) = of(1);
        let whole_gradients = gradients_of(&learner, &gradients);
        assert_eq!(
            whole_gradients.len(),
            test_image_recipe().network(10, Kernels::Fused).num_params()
        );
        for devices in [2, 3, 7, 9] {
            let (parts, gradients) = of(devices);
            // Sums of a few hundred thousand products of single precision, in another order.
            let parts_gradients = gradients_of(&learner, &gradients);
            assert_close("gradients", &parts_gradients, &whole_gradients, 2e-5);
            let numbers = |output: &BatchOutput| {
                let BatchOutput { nll_sum, correct, norm_sum, square_sum, .. } = output.clone();
                values(
                    [nll_sum, correct, norm_sum, square_sum]
                        .into_iter()
                        .chain(output.penalties.clone()),
                )
            };
            assert_eq!(parts.images, 7);
            for (part, whole) in numbers(&parts).iter().zip(numbers(&whole)) {
                assert!((part - whole).abs() <= 1e-5 * whole.abs(), "{devices}: {part}, {whole}");
            }
        }
    }

    /// Two halves that are the same have the statistics of the whole, so here normalisation by part
    /// makes no difference, and a run on two devices is one on one.
    #[test]
    fn equal_halves_train_as_the_whole_with_the_same_statistics() {
        let _turn = lock_generator();
        let recipe = test_image_recipe();
        let beginning = learner(vec![(Norm::L2sq, Reduction::HalfSum, 1e-3)]);
        let train = |devices| {
            let replicas = Replicas::new(self::devices(devices));
            let mut optimizer = optimizer(&recipe.training, Kernels::Fused, Velocities::new());
            let mut learner = own(&beginning);
            let mut losses = Vec::new();
            for _ in 0..6 {
                let (output, gradients) = replicas.step(&learner, batch(4, 2)).unwrap();
                losses.extend(values(output.penalties.into_iter().chain([output.nll_sum])));
                (learner, _) = optimizer.step(0.02, learner, gradients, Vec::new());
            }
            let net = learner.valid().net;
            (
                losses,
                values(net.norms().map(|it| it.running_mean.value())),
                values(net.norms().map(|it| it.running_var.value())),
            )
        };
        let (losses, means, variances) = train(1);
        let (losses_of_two, means_of_two, variances_of_two) = train(2);
        assert!(losses[11] < 0.8 * losses[1], "it learns nothing: {losses:?}");
        assert_close("losses", &losses_of_two, &losses, 1e-4);
        assert_close("means", &means_of_two, &means, 1e-4);
        // n / (n − 1) makes a half's unbiased variance larger: by 0.2 % in the last layer, with n =
        // 4 · 8 · 8 values.
        assert_close("variances", &variances_of_two, &variances, 3e-3);
    }

    /// The threads come by in any order.
    #[test]
    fn several_devices_give_the_same_bits_each_time() {
        let _turn = lock_generator();
        let beginning = learner(vec![(Norm::L2sq, Reduction::HalfSum, 1e-3)]);
        let once = || {
            let learner = own(&beginning);
            let (output, gradients) =
                Replicas::new(devices(3)).step(&learner, batch(9, 1)).unwrap();
            let running = values(learner.net.norms().map(|it| it.running_var.value()));
            (values([output.nll_sum]), gradients_of(&learner, &gradients), running)
        };
        let first = once();
        for _ in 0..5 {
            assert!(once() == first);
        }
        assert!(values(beginning.net.norms().map(|it| it.running_var.value())) != first.2);
    }
}
