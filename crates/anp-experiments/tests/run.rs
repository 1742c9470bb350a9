//! Whole runs on a corpus of a few hundred tokens.

use std::path::Path;

use anp_experiments::data::{Corpus, Store};
use anp_experiments::device::Devices;
use anp_experiments::engine::{
    Control, Outcome, Place, RunId, RunRequest, StoredCheckpoint, TrainError, run_on,
};
use anp_experiments::random::{Purpose, seed};
use anp_experiments::recipe::{
    BayesByBackpropConfig, MixedPrecision, ModelConfig, PointerSentinelConfig, Scale,
    ScheduleConfig, TextRecipe,
};
use anp_experiments::record::TextRecord;
use anp_experiments::text::batches::{Tail, TokenStreams};
use anp_experiments::text::evaluate::{MonteCarlo, evaluate_monte_carlo};
use anp_experiments::text::{TextData, TextTask, Texts, build_learner};
use anp_models::{Kernels, MixtureOver, Site};
use anp_testing::{SilentRenderer, lock_generator};
use burn::module::Module;
use burn::tensor::Device;
use burn::train::{Interrupter, TrainingError};

/// Sentences whose words depend on the words before, so that there is something to learn.
fn corpus() -> Corpus {
    let text = |first: usize, lines: usize| {
        let line = |line: usize| {
            let word = |index: usize| format!("w{}", (line * line + index * (line % 3 + 1)) % 9);
            (0..7).map(word).collect::<Vec<_>>().join(" ")
        };
        (first..first + lines).map(line).collect::<Vec<_>>().join("\n") + "\n"
    };
    Corpus::from_texts(&text(0, 120), &text(200, 30), &text(300, 30))
        .expect("every word is in training")
}

fn recipe(training: &str) -> TextRecipe {
    let text = format!(
        r#"
        data = {{ corpus = "demo", batch_size = 4, bptt = 5 }}

        [model.lstm]
        d_embed = 6
        d_hidden = 6
        num_layers = 2
        tie_weights = true
        input_dropout = 0.2
        inter_layer_dropout = 0.2
        output_dropout = 0.2
        forget_bias = 1.0
        num_biases = 1
        bias_init = "zeros"
        init_range = 0.3

        [[penalty]]
        site = "output_dropped"
        norm = "l2sq"
        reduction = "half_sum"
        eta = 0.01

        [training]
        {training}
        "#
    );
    toml::from_str(&text).expect("the recipe is right")
}

fn falling() -> TextRecipe {
    recipe(
        "max_epochs = 3
        learning_rate = 1.0
        grad_clip_norm = 5.0
        schedule = { fixed = { hold_epochs = 2, divide_by = 2.0 } }",
    )
}

fn start(
    recipe: &TextRecipe,
    seed: u64,
    run_dir: &Path,
    reports: usize,
) -> Result<Outcome<TextRecord>, TrainError> {
    start_to_fail(recipe, seed, run_dir, reports, false)
}

/// The run, stopped after so many reports of completed windows. If it `fails`, it stops with an
/// error, which is forgotten at the end, as by burn-train's dashboard.
fn start_to_fail(
    recipe: &TextRecipe,
    seed: u64,
    run_dir: &Path,
    reports: usize,
    fails: bool,
) -> Result<Outcome<TextRecord>, TrainError> {
    let interrupter = Interrupter::new();
    let (to_stop, to_reset, mut left) = (interrupter.clone(), interrupter.clone(), reports);
    let renderer = SilentRenderer::default().on_progress(move |_| {
        match (left, fails) {
            (0, false) => to_stop.stop(Some("enough")),
            (0, true) => to_stop.fail(TrainingError::Workers(Vec::new())),
            _ => {}
        }
        left = left.saturating_sub(1);
    });
    let renderer = if fails { renderer.on_end(move || to_reset.reset()) } else { renderer };
    let name = "flex".parse().expect("a name");
    let request = RunRequest {
        recipe: recipe.clone(),
        id: RunId { table: "tests".to_owned(), row: "tiny".to_owned(), scale: Scale::Demo, seed },
        place: Place {
            devices: Devices::open(&[name]).expect("flex is compiled in"),
            kernels: Kernels::Fused,
            store: Store::locate(None),
        },
        control: Control::new(run_dir.to_owned(), Box::new(renderer), interrupter),
    };
    run_on::<TextTask>(TextData::new(&corpus(), recipe)?, request)
}

fn finish(recipe: &TextRecipe, seed: u64, run_dir: &Path) -> TextRecord {
    match start(recipe, seed, run_dir, usize::MAX).unwrap() {
        Outcome::Finished(record) => *record,
        Outcome::Interrupted { .. } => panic!("nobody asked it to stop"),
    }
}

/// The same, stopped again and again on the way.
///
/// The reports come from another thread, so the place of a stop differs from time to time, and on a
/// busy machine a run may be over before the first: then it is made again.
fn finish_in_pieces(recipe: &TextRecipe, seed: u64, folder: &Path) -> TextRecord {
    for attempt in 0..50 {
        let run_dir = folder.join(attempt.to_string());
        let mut stops = 0;
        // A session that stops where it began leaves the checkpoint as it is, and is not counted.
        let mut places = Vec::new();
        let record = loop {
            match start(recipe, seed, &run_dir, stops % 4).unwrap() {
                Outcome::Finished(record) => break record,
                Outcome::Interrupted { checkpoint } => {
                    places.push(checkpoint.unwrap());
                    assert!(places[stops].starts_with(&run_dir));
                    stops += 1;
                }
            }
            assert!(stops < 500, "the run makes no progress");
        };
        places.dedup();
        assert_eq!(record.provenance.resumed, places.len());
        if stops > 0 {
            return *record;
        }
    }
    panic!("no run was stopped before its end");
}

/// What two runs that are the same must agree in, to the bit.
fn numbers(record: &TextRecord) -> String {
    let mut record = record.clone();
    for epoch in &mut record.curve {
        epoch.seconds = 0.0;
    }
    serde_json::to_string(&(record.result, record.curve, record.num_params)).unwrap()
}

#[test]
fn a_run_that_was_stopped_ends_as_one_that_was_not() {
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let whole = finish(&falling(), 3, &folder.path().join("whole"));
    assert_eq!(whole.provenance.resumed, 0);

    let record = finish_in_pieces(&falling(), 3, &folder.path().join("stopped"));
    assert_eq!(numbers(&record), numbers(&whole));
}

#[test]
fn an_error_of_burn_train_is_no_interruption() {
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let run_dir = folder.path().join("run");
    let err = start_to_fail(&falling(), 3, &run_dir, 0, true).unwrap_err();
    assert!(matches!(err, TrainError::Training(_)), "{err}");
    // What was trained is not lost.
    let Outcome::Finished(record) = start(&falling(), 3, &run_dir, usize::MAX).unwrap() else {
        panic!("nobody asked it to stop")
    };
    assert_eq!(record.provenance.resumed, 1);
}

#[cfg(unix)]
#[test]
fn others_may_read_a_checkpoint_as_far_as_the_umask_lets_them() {
    use std::os::unix::fs::PermissionsExt;
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    finish(&falling(), 3, &folder.path().join("run"));
    let plain = folder.path().join("plain");
    std::fs::create_dir(&plain).unwrap();
    let checkpoint = StoredCheckpoint::<TextTask>::open(&folder.path().join("run")).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&checkpoint.path), mode(&plain));
}

#[test]
fn the_same_seed_repeats_a_run_and_another_does_not() {
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let [one, again, other] = [("one", 3), ("again", 3), ("other", 4)]
        .map(|(name, seed)| numbers(&finish(&falling(), seed, &folder.path().join(name))));
    assert_eq!(one, again);
    assert_ne!(one, other);
}

#[test]
fn a_part_of_the_training_text_is_its_beginning() {
    let (corpus, device) = (corpus(), Device::flex());
    let mut recipe = falling();
    recipe.data.train_tokens = Some(301);
    let texts = Texts::cut(&corpus, &recipe).unwrap();
    let beginning = TokenStreams::new(&corpus.train[..301], 4, 5, Tail::Drop).unwrap();
    assert_eq!(texts.train.num_windows(), beginning.num_windows());
    for index in 0..beginning.num_windows() {
        let targets = |streams: &TokenStreams| streams.window(index, &device).targets.into_data();
        assert_eq!(targets(&texts.train), targets(&beginning));
    }
    let whole = Texts::cut(&corpus, &falling()).unwrap();
    assert!(whole.train.num_windows() > beginning.num_windows());
    assert_eq!(whole.test.num_tokens(), texts.test.num_tokens());

    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let part = finish(&recipe, 1, &folder.path().join("part"));
    let whole = finish(&falling(), 1, &folder.path().join("whole"));
    assert_eq!(part.num_params, whole.num_params, "the vocabulary is that of the whole text");
    assert_ne!(numbers(&part), numbers(&whole));
}

#[test]
fn the_penalty_is_logged_and_makes_the_activation_smaller() {
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let mut without = falling();
    without.penalties.clear();
    let mut strong = falling();
    strong.penalties[0].eta = 0.3;
    let [without, with] = [("without", &without), ("strong", &strong)]
        .map(|(name, recipe)| finish(recipe, 3, &folder.path().join(name)));
    assert!(without.curve.iter().all(|epoch| epoch.penalties.is_empty()));
    assert!(with.curve.iter().all(|epoch| epoch.penalties[0] > 0.0));
    assert_ne!(with.curve[0].train_nll, without.curve[0].train_nll);
    assert!(with.result.activation_valid.norm < 0.8 * without.result.activation_valid.norm);
    // λ = ηB/2, α = ηBH/2
    assert_eq!(with.penalties[0].lambda, Some(0.3 * 4.0 / 2.0));
    assert!((with.penalties[0].awd_alpha.unwrap() - 0.3 * 4.0 * 6.0 / 2.0).abs() < 1e-12);
}

/// Each of what a recipe may add changes the training, and whatever adds to the loss says how much.
#[test]
fn turning_a_regulariser_on_changes_the_loss() {
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let plain = recipe(
        "max_epochs = 1
        learning_rate = 1.0
        grad_clip_norm = 5.0
        schedule = { fixed = { hold_epochs = 2, divide_by = 2.0 } }",
    );
    let plain = TextRecipe { penalties: Vec::new(), ..plain };
    let base = finish(&plain, 3, &folder.path().join("plain"));
    let nats = |record: &TextRecord| (record.curve[0].train_nll, record.curve[0].valid_nll);
    let masks = |text: &str| format!("span = 'step'\nword_tie = 'token'\ngates = 'shared'\n{text}");
    let of_window = |word_tie, gates, recurrent_dropout| {
        format!(
            "span = 'window'\nword_tie = '{word_tie}'\ngates = '{gates}'\nword_dropout = 0.0\n\
             recurrent_dropout = {recurrent_dropout}"
        )
    };
    let information_bound = |terms: &str, more: &str| {
        format!(
            "[{{ information_bound = {{ site = 'output_dropped', beta = 1.0, epsilon = 1e-3, \
             terms = '{terms}', trace_factor = 'corrected'{more} }} }}]"
        )
    };
    let penalty = |site: &str, norm: &str, more: &str| {
        format!(
            "[{{ site = '{site}', norm = '{norm}', reduction = 'half_sum', eta = 0.01{more} }}]"
        )
    };
    for (name, table, text, terms) in [
        ("window", "variational", of_window("token", "shared", "0.0"), 0),
        ("words", "variational", masks("word_dropout = 0.3\nrecurrent_dropout = 0.0"), 0),
        ("recurrence", "variational", masks("word_dropout = 0.0\nrecurrent_dropout = 0.3"), 0),
        ("separate", "variational", of_window("sequence", "separate", "0.3"), 0),
        ("input", "model.lstm.input_dropout", "0.0".to_owned(), 0),
        ("inter_layer", "model.lstm.inter_layer_dropout", "0.0".to_owned(), 0),
        ("output", "model.lstm.output_dropout", "0.0".to_owned(), 0),
        ("l2sq", "penalty", penalty("output_dropped", "l2sq", ""), 1),
        ("l2", "penalty", penalty("output_raw", "l2", ""), 1),
        ("l1", "penalty", penalty("layer[0].cell", "l1", ""), 1),
        ("linf", "penalty", penalty("layer[1].hidden", "linf", ""), 1),
        ("logits", "penalty", penalty("logits", "l2sq", ""), 1),
        ("temporal", "penalty", penalty("output_raw", "l2sq", ", temporal = true"), 1),
        (
            "norm_stabilizer",
            "regularizer",
            "[{ norm_stabilizer = { site = 'output_raw', beta = 10.0 } }]".to_owned(),
            1,
        ),
        (
            "target_norm",
            "regularizer",
            "[{ target_norm = { site = 'output_raw', beta = 0.1, target = 1.0 } }]".to_owned(),
            1,
        ),
        ("confidence", "regularizer", "[{ confidence_penalty.beta = 0.1 }]".to_owned(), 1),
        (
            "uniform",
            "regularizer",
            "[{ label_smoothing = { alpha = 0.1, prior = 'uniform' } }]".to_owned(),
            1,
        ),
        (
            "unigram_smoothing",
            "regularizer",
            "[{ label_smoothing = { alpha = 0.1, prior = 'unigram' } }]".to_owned(),
            1,
        ),
        ("darc1", "regularizer", "[{ darc1.lambda = 0.01 }]".to_owned(), 1),
        ("bound", "regularizer", information_bound("trace_and_log_determinant", ""), 1),
        ("trace", "regularizer", information_bound("trace", ""), 1),
        (
            "bound_of_window",
            "regularizer",
            information_bound("trace_and_log_determinant", ", group = 'minibatch'"),
            1,
        ),
        ("blank", "data.noising", "kind = 'blank'\ngamma = 0.3".to_owned(), 0),
        ("unigram", "data.noising", "kind = 'unigram'\ngamma = 0.3".to_owned(), 0),
        ("kneser_ney", "data.noising", "kind = 'bigram_kneser_ney'\ngamma = 0.9".to_owned(), 0),
        ("half_sum", "weight_penalty", "form = 'half_sum_squares'\neta = 0.01".to_owned(), 1),
        ("global", "weight_penalty", "form = 'global_norm'\neta = 0.1".to_owned(), 1),
        (
            "information",
            "information_penalty",
            "beta = 1.0\nreduction = 'mean_elements'\nsample_recurrence = true\ninitial_sigma = 0.1"
                .to_owned(),
            1,
        ),
        (
            "bayes",
            "bayes_by_backprop",
            "prior_pi = 0.25\nprior_log_sigma1 = -1.0\nprior_log_sigma2 = -7.0\n\
             mixture_over = 'weight'"
                .to_owned(),
            1,
        ),
        (
            "pointer",
            "pointer_sentinel",
            "window = 7\nstate_gradient = true\nsupervision = 1.0".to_owned(),
            1,
        ),
        (
            "weights",
            "variational",
            masks("word_dropout = 0.0\nrecurrent_dropout = 0.0\nweight_dropout = 0.3"),
            0,
        ),
        (
            "lengths",
            "data.variable_bptt",
            "half_probability = 0.3\ndeviation = 1.0\nshortest = 2".to_owned(),
            0,
        ),
        ("decay", "training.weight_decay", "decoupled = 0.01".to_owned(), 0),
        ("coupled", "training.weight_decay", "coupled = 0.01".to_owned(), 0),
    ] {
        let mut document = toml::Value::try_from(&plain).unwrap();
        // A value, or what stands in a table.
        let addition = match format!("it = {text}").parse::<toml::Table>() {
            Ok(mut value) => value.remove("it").unwrap(),
            Err(_) => toml::Value::Table(text.parse().unwrap()),
        };
        let place = table.split('.').fold(&mut document, |place, key| {
            place
                .as_table_mut()
                .unwrap()
                .entry(key)
                .or_insert_with(|| toml::Value::Table(toml::Table::new()))
        });
        *place = addition;
        let recipe: TextRecipe = document.try_into().unwrap_or_else(|err| panic!("{name}: {err}"));
        recipe.validate().unwrap_or_else(|err| panic!("{name}: {err}"));
        let record = finish(&recipe, 3, &folder.path().join(name));
        assert_ne!(nats(&record), nats(&base), "{name} does nothing");
        assert!(nats(&record).1 < 9.0_f64.ln() + 1.0, "{name} breaks the training");
        let penalties = &record.curve[0].penalties;
        assert_eq!(penalties.len(), terms, "{name}");
        let is_signed = ["confidence", "uniform", "unigram_smoothing"].contains(&name);
        assert!(penalties.iter().all(|&it| it > 0.0 || is_signed && it != 0.0), "{name}");
        assert_eq!(record.penalties.len(), terms, "{name}");
    }
}

/// A penalty on the differences between steps, and one on the loss that AWD-LSTM takes: the mean
/// over all tokens.
#[test]
fn a_mean_loss_with_penalties_on_steps_and_differences_trains() {
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let mut awd = falling();
    awd.training.loss = Some(anp_core::LossReduction::MeanOverTokens);
    awd.training.learning_rate = 5.0;
    awd.penalties[0].reduction = anp_core::Reduction::MeanElements;
    awd.penalties[0].eta = 2.0;
    let mut temporal = awd.penalties[0].clone();
    (temporal.site, temporal.temporal, temporal.eta) = (Site::OutputRaw, true, 1.0);
    awd.penalties.push(temporal);
    let record = finish(&awd, 3, &folder.path().join("run"));
    assert!(record.curve[2].valid_nll < record.curve[0].valid_nll);
    assert!(record.curve[0].penalties.iter().all(|&penalty| penalty > 0.0));
    // α is α where the loss is a mean; a difference between steps has no equivalent.
    assert_eq!(record.penalties[0].awd_alpha, Some(2.0));
    assert_eq!(record.penalties[1].awd_alpha, None);
}

/// AWD-LSTM's recipe, but for its size: the learning rate is such that an epoch is soon worse than
/// one before.
fn awd() -> TextRecipe {
    let mut recipe = recipe(
        "max_epochs = 6
        learning_rate = 20.0
        grad_clip_norm = 0.25
        loss = 'mean_over_tokens'
        weight_decay = { coupled = 1.2e-6 }
        schedule = { non_monotone_averaging = { interval = 1 } }",
    );
    recipe.penalties[0].reduction = anp_core::Reduction::MeanElements;
    let mut temporal = recipe.penalties[0].clone();
    (temporal.site, temporal.temporal) = (Site::OutputRaw, true);
    recipe.penalties.push(temporal);
    let variational = "span = 'window'\nword_dropout = 0.1\nword_tie = 'window'\n\
                       recurrent_dropout = 0.0\ngates = 'shared'\nweight_dropout = 0.3";
    recipe.variational = Some(toml::from_str(variational).unwrap());
    let lengths = "half_probability = 0.2\ndeviation = 1.5\nshortest = 2";
    recipe.data.variable_bptt = Some(toml::from_str(lengths).unwrap());
    recipe.validate().unwrap();
    recipe
}

/// The epoch after which averaging begins, counted from 0, as the published condition says it of a
/// curve.
fn averaging_after(record: &TextRecord, interval: usize) -> usize {
    let losses: Vec<_> = record.curve.iter().map(|epoch| epoch.valid_nll).collect();
    let is_worse = |&epoch: &usize| {
        let compared = &losses[..epoch.saturating_sub(interval)];
        compared.iter().any(|&earlier| losses[epoch] > earlier)
    };
    (0..losses.len()).find(is_worse).expect("an epoch was worse than one before it")
}

/// Windows of random lengths and averages go on after a stop, in whatever epoch, to the same
/// numbers.
#[test]
fn awd_lstm_that_was_stopped_ends_as_one_that_was_not() {
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let whole = finish(&awd(), 3, &folder.path().join("whole"));
    let stored = StoredCheckpoint::<TextTask>::open(&folder.path().join("whole")).unwrap();
    assert!(averaging_after(&whole, 1) + 1 < whole.curve.len(), "no epoch was averaged");
    assert!(stored.state.averaging.is_some());
    // 239 steps of 4 streams, of which at most the last is left out.
    let tokens = stored.run.course.train_items;
    assert!((6 * 238 * 4..=6 * 239 * 4).contains(&tokens), "{tokens}");
    let resumed = finish_in_pieces(&awd(), 3, &folder.path().join("stopped"));
    assert_eq!(numbers(&resumed), numbers(&whole));
}

/// Averages change what is evaluated, not what is trained; windows of one length do not show the
/// learning rate's lag.
#[test]
fn averages_are_evaluated_and_training_goes_on_without_them() {
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let mut averaged = awd();
    averaged.data.variable_bptt = None;
    let mut plain = averaged.clone();
    plain.training.schedule = ScheduleConfig::Fixed { hold_epochs: 6, divide_by: 1.0 };
    let [averaged, plain] = [("averaged", &averaged), ("plain", &plain)]
        .map(|(name, recipe)| finish(recipe, 3, &folder.path().join(name)));
    let begins = averaging_after(&averaged, 1) + 1;
    assert!(begins < 6, "no epoch was averaged");
    for (epoch, (averaged, plain)) in averaged.curve.iter().zip(&plain.curve).enumerate() {
        assert_eq!(averaged.train_nll, plain.train_nll, "epoch {epoch}");
        let same = averaged.valid_nll == plain.valid_nll;
        assert_eq!(same, epoch < begins, "epoch {epoch}, averaged from {begins}");
        // The point of it: steps that overshoot do so to all sides.
        assert!(same || averaged.valid_nll < plain.valid_nll, "epoch {epoch}");
    }
    let best = &averaged.curve[averaged.result.best_epoch - 1];
    assert_eq!(averaged.result.valid.nll, best.valid_nll);
}

/// A recipe for each kind of layer but LSTMs.
fn kinds() -> impl Iterator<Item = TextRecipe> {
    let models = [
        "sru = { d_embed = 5, d_hidden = 6, num_layers = 2, tie_weights = false, \
         input_dropout = 0.1, output_dropout = 0.1, rnn_dropout = 0.2, activation = 'tanh', \
         highway_bias = -1.0, init_range = 0.3 }",
        "rhn = { d_embed = 6, d_hidden = 6, depth = 3, tie_weights = true, \
         input_dropout = 0.1, output_dropout = 0.1, transform_bias = -1.0, init_range = 0.3 }",
        "nas = { d_embed = 6, d_hidden = 6, num_layers = 2, tie_weights = true, \
         input_dropout = 0.1, inter_layer_dropout = 0.1, output_dropout = 0.1, init_range = 0.3 }",
    ];
    models.into_iter().map(|model| {
        let model: toml::Table = model.parse().unwrap();
        let model = toml::Value::Table(model).try_into().unwrap();
        let recipe = TextRecipe { model, ..falling() };
        recipe.validate().unwrap();
        recipe
    })
}

/// An operand is within 0.4 % of what it stands for. Losses stay within a percent in the first
/// epoch, where runs have not drifted apart yet.
#[test]
fn bfloat16_products_keep_losses_within_a_percent() {
    let _alone = lock_generator();
    for recipe in kinds().chain([falling()]) {
        let folder = tempfile::tempdir().unwrap();
        let single = finish(&recipe, 3, &folder.path().join("single"));
        let mut mixed = recipe.clone();
        mixed.training.mixed_precision = Some(MixedPrecision::Bf16);
        let mixed = finish(&mixed, 3, &folder.path().join("mixed"));
        let (of_single, of_mixed) = (&single.curve[0], &mixed.curve[0]);
        for (single, mixed) in
            [(of_single.train_nll, of_mixed.train_nll), (of_single.valid_nll, of_mixed.valid_nll)]
        {
            assert_ne!(single, mixed, "{:?}", recipe.model);
            assert!((mixed / single - 1.0).abs() < 0.01, "{single}, {mixed}: {:?}", recipe.model);
        }
        assert_ne!(single.recipe_hash, mixed.recipe_hash);
    }
}

/// The other kinds of layers go through the same training, stop in the middle and go on to the same
/// numbers.
#[test]
fn every_kind_of_layer_trains_and_goes_on_after_a_stop() {
    let _alone = lock_generator();
    for recipe in kinds() {
        let folder = tempfile::tempdir().unwrap();
        let whole = finish(&recipe, 3, &folder.path().join("whole"));
        assert!(whole.curve[2].valid_nll < whole.curve[0].valid_nll, "{:?}", recipe.model);
        let resumed = finish_in_pieces(&recipe, 3, &folder.path().join("stopped"));
        assert_eq!(numbers(&resumed), numbers(&whole), "{:?}", recipe.model);
    }
}

/// Weights that are drawn for each window: both their parameters train, and a run that is stopped
/// draws the same.
#[test]
fn drawn_weights_train_and_go_on_after_a_stop() {
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = falling();
    recipe.bayes_by_backprop = Some(BayesByBackpropConfig {
        prior_pi: 0.25,
        prior_log_sigma1: -1.0,
        prior_log_sigma2: -7.0,
        mixture_over: MixtureOver::Row,
    });
    let whole = finish(&recipe, 3, &folder.path().join("whole"));
    assert!(whole.curve[2].valid_nll < whole.curve[0].valid_nll);
    // Nine words and the end of a line, six units, two layers; all but the decoder's bias twice.
    let weights = 10 * 6 + 2 * 4 * 6 * (6 + 6 + 1);
    assert_eq!(whole.num_params, 2 * weights + 10);
    let resumed = finish_in_pieces(&recipe, 3, &folder.path().join("stopped"));
    assert_eq!(numbers(&resumed), numbers(&whole));
}

/// What a pointer points at is carried from window to window and saved: a window of it is longer
/// than one of back-propagation.
#[test]
fn a_pointer_trains_and_goes_on_after_a_stop() {
    let _alone = lock_generator();
    for state_gradient in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let mut recipe = falling();
        let pointer = PointerSentinelConfig { window: 12, state_gradient, supervision: 1.0 };
        recipe.pointer_sentinel = Some(pointer);
        let whole = finish(&recipe, 3, &folder.path().join("whole"));
        assert!(whole.curve[2].valid_nll < whole.curve[0].valid_nll);
        let resumed = finish_in_pieces(&recipe, 3, &folder.path().join("stopped"));
        assert_eq!(numbers(&resumed), numbers(&whole));
    }
}

/// The second epoch is spoilt by an enormous step; the third runs at next to no learning rate, so
/// its loss is that of the parameters it began with.
#[test]
fn a_plateau_goes_on_from_the_best_which_are_evaluated() {
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = recipe(
        "max_epochs = 3
        learning_rate = 1.0
        grad_clip_norm = 5.0
        schedule = { on_plateau = { factor = 1e-9, max_decays = 5 } }",
    );
    // Learning goes so wrong that an epoch after the first is worse than it.
    recipe.training.learning_rate = 20.0;
    recipe.training.max_epochs = 6;
    let record = finish(&recipe, 3, &folder.path().join("run"));
    let decayed = record.curve.iter().position(|epoch| epoch.learning_rate < 1.0);
    let decayed = decayed.expect("an epoch was worse than the best before it");
    let best_before =
        record.curve[..decayed].iter().map(|epoch| epoch.valid_nll).fold(f64::INFINITY, f64::min);
    let spoilt = record.curve[decayed - 1].valid_nll;
    assert!(spoilt > best_before + 0.01, "{spoilt} is hardly worse than {best_before}");
    let restored = record.curve[decayed].valid_nll;
    assert!((restored - best_before).abs() < 1e-4, "{restored} is not {best_before}");

    let best = &record.curve[record.result.best_epoch - 1];
    assert_eq!(record.result.valid.nll, best.valid_nll);
    assert_eq!(
        record.curve.iter().map(|epoch| epoch.valid_nll).fold(f64::INFINITY, f64::min),
        best.valid_nll
    );
}

/// Each pass alone, with its own masks and state; then the mean of the probabilities by hand.
#[test]
fn monte_carlo_dropout_averages_probabilities() {
    let _alone = lock_generator();
    let device = Device::flex().autodiff();
    device.seed(5);
    let corpus = corpus();
    let vocab_size = corpus.vocabulary.len();
    let mut recipe = awd();
    let ModelConfig::Lstm(lstm) = &mut recipe.model else { unreachable!("it is") };
    lstm.output_dropout = 0.5;
    lstm.init_range = 1.0;
    let model = build_learner(&recipe, vocab_size, Kernels::Fused, &device).valid().lm;
    let device = device.inner();
    let streams = TokenStreams::new(&corpus.test, 2, 7, Tail::Keep).unwrap();
    let mut probabilities = vec![0.0; streams.num_tokens()];
    for pass in 0..4_u64 {
        let mut state = model.zero_state(2);
        let mut nlls = Vec::new();
        for index in 0..streams.num_windows() {
            let window = streams.window(index, &device);
            device.seed(seed(3, Purpose::MonteCarlo, (pass << 32) + index as u64));
            let masks = model.draw_masks(&window.inputs);
            let output = model.forward_with_masks(window.inputs, state, &masks);
            nlls.extend(model.nll(output.dropped, window.targets).into_data().iter::<f64>());
            state = output.state;
        }
        for (probability, nll) in probabilities.iter_mut().zip(nlls) {
            *probability += (-nll).exp() / 4.0;
        }
    }
    let nll = |probability: &f64| -probability.ln();
    let expected = probabilities.iter().map(nll).sum::<f64>() / probabilities.len() as f64;

    let score = |passes, seed| {
        let monte_carlo = MonteCarlo { passes, seed };
        evaluate_monte_carlo(&model, &streams, &device, monte_carlo, |_| true).unwrap()
    };
    let of_four = score(4, 3);
    assert_eq!(of_four.tokens, probabilities.len());
    assert!((of_four.nll - expected).abs() < 1e-5, "{} and {expected}", of_four.nll);
    assert_eq!(score(4, 3), of_four, "the seed repeats it");
    assert_ne!(score(4, 4), of_four);
    assert_ne!(score(1, 3), of_four);
}

#[test]
fn the_single_stream_scores_predict_every_token_but_the_first() {
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let corpus = corpus();
    let record = finish(&falling(), 1, &folder.path().join("run"));
    assert_eq!(record.result.test.tokens, corpus.test.len() - 1);
    assert_eq!(record.result.valid_single_stream.tokens, corpus.valid.len() - 1);
    let valid = TokenStreams::new(&corpus.valid, 4, 5, Tail::Drop).unwrap();
    assert_eq!(record.result.valid.tokens, valid.num_tokens());
}

#[test]
fn a_checkpoint_of_another_run_or_device_is_refused() {
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let run_dir = folder.path().join("run");
    finish(&falling(), 1, &run_dir);
    let other = start(&falling(), 2, &run_dir, usize::MAX).unwrap_err();
    assert!(matches!(other, TrainError::OtherRun { .. }), "{other}");
    let stored = StoredCheckpoint::<TextTask>::open(&run_dir).unwrap();
    assert!(stored.run.ended);
    assert_eq!(stored.run.course.device, "flex");
}

#[test]
fn a_loss_that_explodes_stops_the_run_and_names_the_place() {
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = falling();
    recipe.training.learning_rate = 1e30;
    recipe.training.grad_clip_norm = 1e30;
    let err = start(&recipe, 1, &folder.path().join("run"), usize::MAX).unwrap_err();
    let text = err.to_string();
    assert!(matches!(err, TrainError::NotFinite { epoch: 1, .. }), "{text}");
    for phrase in ["epoch 1", "step", "learning rate 1000000000000000000000000000000", "checkpoint"]
    {
        assert!(text.contains(phrase), "{text}");
    }
}
