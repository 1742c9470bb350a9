//! Checks of a text recipe's values against each other and the data set, before any data is
//! read. The range of each number alone is in `recipe/ranges.rs`.

use anp_models::{CellTraits, GateMasks, MaskSpan, Site};

use super::recipe::{DataConfig, ModelConfig, Shape, TextRecipe, VariationalConfig};
use crate::data::Split;
use crate::recipe::ranges::{InvalidRecipe, check_numbers, data_set, part_of, require};

impl TextRecipe {
    /// Check every value, and that the values fit each other.
    ///
    /// # Errors
    ///
    /// [`InvalidRecipe`] for the first value that is wrong, naming its key as `--set` takes it.
    pub fn validate(&self) -> Result<(), InvalidRecipe> {
        check_numbers(self)?;
        self.data.validate()?;
        self.model.validate()?;
        if let Some(variational) = &self.variational {
            variational.validate(&self.model)?;
        }
        for (index, penalty) in self.penalties.iter().enumerate() {
            self.model.check_site(&format!("penalty.{index}.site"), penalty.site)?;
        }
        for (index, regularizer) in self.regularizers.iter().enumerate() {
            let Some(site) = regularizer.site() else { continue };
            let key = format!("regularizer.{index}.{}.site", regularizer.kind());
            self.model.check_site(&key, site)?;
        }
        if self.information_penalty.as_ref().is_some_and(|penalty| penalty.sample_recurrence)
            && !self.model.cell().traits().carries_hidden
        {
            let (key, kind) = ("information_penalty.sample_recurrence", self.model.kind());
            return Err(InvalidRecipe::NoUse { key, kind });
        }
        if self.bayes_by_backprop.is_some() && self.training.weight_decay.is_some() {
            return Err(InvalidRecipe::Together {
                key: "training.weight_decay",
                other: "bayes_by_backprop",
                reason: "it would decay ρ, which is no weight, and the prior decays the weights \
                         already",
            });
        }
        Ok(())
    }
}

impl DataConfig {
    fn validate(&self) -> Result<(), InvalidRecipe> {
        let manifest = data_set("data.corpus", &self.corpus, false)?;
        let existing = manifest.file(Split::Train).tokens;
        part_of(&manifest, "data.train_tokens", self.train_tokens, existing)?;
        let Some(variable) = &self.variable_bptt else { return Ok(()) };
        let (key, shortest) = ("data.variable_bptt.shortest", variable.shortest);
        let holds = (2..=self.bptt).contains(&shortest);
        require(key, "at least 2 and at most data.bptt", shortest as f64, holds)
    }
}

impl ModelConfig {
    fn validate(&self) -> Result<(), InvalidRecipe> {
        let Shape { d_embed, d_output, tie_weights, .. } = self.shape();
        if tie_weights && d_embed != d_output {
            return Err(InvalidRecipe::TiedWidths { kind: self.kind(), d_embed, d_output });
        }
        match self {
            Self::Lstm(lstm) if lstm.layer_init_range.is_some() && lstm.layer_init_by_units => {
                Err(InvalidRecipe::TwoRanges)
            }
            _ => Ok(()),
        }
    }

    /// Check that the network has the site that `key` names.
    fn check_site(&self, key: &str, site: Site) -> Result<(), InvalidRecipe> {
        let key = key.to_owned();
        let num_layers = self.shape().num_layers;
        match site {
            Site::LayerCell(layer) | Site::LayerHidden(layer) if layer >= num_layers => {
                Err(InvalidRecipe::SiteOutsideModel { key, site, num_layers })
            }
            Site::LayerCell(_) if !self.cell().traits().has_cells => {
                Err(InvalidRecipe::NoCells { key, site, kind: self.kind() })
            }
            _ => Ok(()),
        }
    }
}

impl VariationalConfig {
    fn validate(&self, model: &ModelConfig) -> Result<(), InvalidRecipe> {
        let CellTraits { carries_hidden, recurrent_masks, .. } = model.cell().traits();
        let has_gate_masks = recurrent_masks > 1;
        if self.gates == GateMasks::Separate && self.span == MaskSpan::Step {
            return Err(InvalidRecipe::Together {
                key: "variational.gates = \"separate\"",
                other: "variational.span = \"step\"",
                reason: "the masks of the gates last for a window",
            });
        }
        // An SRU has a recurrent rate of its own, for masks in other places.
        for (key, is_set, is_used) in [
            ("variational.gates = \"separate\"", self.gates == GateMasks::Separate, has_gate_masks),
            ("variational.recurrent_dropout", self.recurrent_dropout != 0.0, carries_hidden),
            ("variational.weight_dropout", self.weight_dropout != 0.0, carries_hidden),
        ] {
            if is_set && !is_used {
                return Err(InvalidRecipe::NoUse { key, kind: model.kind() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{LabelPrior, RegularizerConfig};
    use crate::text::recipe::{LstmConfig, ScheduleConfig, test_recipe};

    fn refusal(change: impl FnOnce(&mut TextRecipe, &mut LstmConfig)) -> String {
        let mut recipe = test_recipe();
        let ModelConfig::Lstm(mut lstm) = recipe.model.clone() else { unreachable!("it is") };
        change(&mut recipe, &mut lstm);
        recipe.model = ModelConfig::Lstm(lstm);
        recipe.validate().unwrap_err().to_string()
    }

    #[test]
    fn a_value_out_of_range_is_refused_by_key_value_and_range() {
        let on_plateau = |factor| ScheduleConfig::OnPlateau { factor, max_decays: 15 };
        let cases = [
            (
                refusal(|recipe, _| recipe.training.schedule = on_plateau(1.5)),
                "training.schedule.on_plateau.factor must be in (0, 1), but is 1.5",
            ),
            (
                refusal(|recipe, _| recipe.data.batch_size = 0),
                "data.batch_size must be at least 1, but is 0",
            ),
            (
                refusal(|recipe, _| recipe.data.train_tokens = Some(266_701)),
                "data.train_tokens is 266701, but demo has 266700 of them",
            ),
            (
                refusal(|recipe, _| recipe.data.train_tokens = Some(0)),
                "data.train_tokens must be at least 1, but is 0",
            ),
            (
                refusal(|_, lstm| lstm.output_dropout = 1.0),
                "model.lstm.output_dropout must be in [0, 1), but is 1",
            ),
            (
                refusal(|_, lstm| lstm.num_biases = 3),
                "model.lstm.num_biases must be 1 or 2, but is 3",
            ),
            (
                refusal(|recipe, _| recipe.penalties[0].eta = -1e-4),
                "penalty.0.eta must be in [0, ∞), but is -0.0001",
            ),
            (
                refusal(|recipe, _| recipe.training.patience = Some(0)),
                "training.patience must be at least 1, but is 0",
            ),
        ];
        for (message, expected) in cases {
            assert_eq!(message, expected);
        }
    }

    /// The test recipe with another network and other tables.
    fn refusal_of(model: &str, tables: &str) -> String {
        let mut recipe = toml::Table::try_from(test_recipe()).unwrap();
        recipe.extend(tables.parse::<toml::Table>().unwrap());
        if !model.is_empty() {
            let model: toml::Table = model.parse().unwrap();
            recipe.insert("model".to_owned(), toml::Value::Table(model));
        }
        let recipe: TextRecipe = toml::Value::Table(recipe).try_into().unwrap();
        recipe.validate().unwrap_err().to_string()
    }

    #[test]
    fn what_other_networks_cannot_have_is_refused() {
        let rhn = |depth, tie_weights| {
            format!(
                "rhn = {{ d_embed = 7, d_hidden = 8, depth = {depth}, tie_weights = {tie_weights}, \
                 input_dropout = 0.0, output_dropout = 0.0, transform_bias = -2.0, \
                 init_range = 0.1 }}"
            )
        };
        let sru = |rnn_dropout| {
            format!(
                "sru = {{ d_embed = 8, d_hidden = 8, num_layers = 2, tie_weights = true, \
                 input_dropout = 0.0, output_dropout = 0.0, rnn_dropout = {rnn_dropout}, \
                 activation = 'identity', highway_bias = -3.0, init_range = 0.1 }}"
            )
        };
        let variational = |gates, recurrent| {
            format!(
                "variational = {{ span = 'window', word_dropout = 0.0, word_tie = 'token', \
                 recurrent_dropout = {recurrent}, gates = '{gates}' }}"
            )
        };
        let bayes = |pi, log_sigma2| {
            format!(
                "bayes_by_backprop = {{ prior_pi = {pi:?}, prior_log_sigma1 = -1.0, \
                 prior_log_sigma2 = {log_sigma2:?}, mixture_over = 'weight' }}"
            )
        };
        let dotted = |recurrent| {
            format!(
                "[variational]\nspan = 'window'\nword_dropout = 0.0\nword_tie = 'token'\n\
                 recurrent_dropout = {recurrent}\ngates = 'shared'"
            )
        };
        let variable_bptt = |keys| {
            format!(
                "data = {{ corpus = 'demo', batch_size = 4, bptt = 5, \
                 variable_bptt = {{ {keys} }} }}"
            )
        };
        let penalty = "penalty = [{ site = 'layer[0].cell', norm = 'l1', reduction = 'half_sum', \
                       eta = 0.1 }]";
        let information = "information_penalty = { beta = 1.0, reduction = 'sum', \
                           sample_recurrence = true, initial_sigma = 0.1 }";
        for (message, expected) in [
            (refusal_of(&rhn(0, false), ""), "model.rhn.depth must be at least 1, but is 0"),
            (
                refusal_of(&rhn(3, true), ""),
                "model.rhn.tie_weights = true needs an embedding as wide as the last layer, \
                 but d_embed is 7 and the layer has 8 units",
            ),
            (
                refusal_of(&rhn(3, false), penalty),
                "penalty.0.site is `layer[0].cell`, but the layers of a model.rhn have no cell \
                 states",
            ),
            (refusal_of(&sru(1.0), ""), "model.sru.rnn_dropout must be in [0, 1), but is 1"),
            (
                refusal_of(&sru(0.2), &variational("separate", 0.0)),
                "variational.gates = \"separate\" does nothing in a model.sru; remove it",
            ),
            (
                refusal_of(&sru(0.2), &variational("shared", 0.1)),
                "variational.recurrent_dropout does nothing in a model.sru; remove it",
            ),
            (
                refusal_of(&sru(0.2), information),
                "information_penalty.sample_recurrence does nothing in a model.sru; remove it",
            ),
            (
                refusal_of("", &variational("separate", 0.1).replace("window", "step")),
                "variational.gates = \"separate\" cannot be together with variational.span = \
                 \"step\": the masks of the gates last for a window; remove one of them",
            ),
            (
                refusal_of("", &variational("shared", 1.0)),
                "variational.recurrent_dropout must be in [0, 1), but is 1",
            ),
            (
                refusal_of(
                    "",
                    "data = { corpus = 'demo', batch_size = 4, bptt = 5, \
                     noising = { kind = 'blank', gamma = 1.5 } }",
                ),
                "data.noising.gamma must be in [0, 1], but is 1.5",
            ),
            (
                refusal_of("", &format!("{}\nweight_dropout = 1.0", dotted(0.0))),
                "variational.weight_dropout must be in [0, 1), but is 1",
            ),
            (
                refusal_of(&sru(0.2), &format!("{}\nweight_dropout = 0.5", dotted(0.0))),
                "variational.weight_dropout does nothing in a model.sru; remove it",
            ),
            (
                refusal_of(
                    "",
                    &variable_bptt("half_probability = 1.05, deviation = 5.0, shortest = 5"),
                ),
                "data.variable_bptt.half_probability must be in [0, 1], but is 1.05",
            ),
            (
                refusal_of(
                    "",
                    &variable_bptt("half_probability = 0.05, deviation = -5.0, shortest = 5"),
                ),
                "data.variable_bptt.deviation must be in [0, ∞), but is -5",
            ),
            (
                refusal_of(
                    "",
                    &variable_bptt("half_probability = 0.05, deviation = 5.0, shortest = 6"),
                ),
                "data.variable_bptt.shortest must be at least 2 and at most data.bptt, but is 6",
            ),
            (
                refusal_of("", "weight_penalty = { form = 'global_norm', eta = -1.0 }"),
                "weight_penalty.eta must be in [0, ∞), but is -1",
            ),
            (
                refusal_of(
                    "",
                    "pointer_sentinel = { window = 0, state_gradient = true, supervision = 1.0 }",
                ),
                "pointer_sentinel.window must be at least 1, but is 0",
            ),
            (
                refusal_of(
                    "",
                    "pointer_sentinel = { window = 9, state_gradient = true, supervision = -1.0 }",
                ),
                "pointer_sentinel.supervision must be in [0, ∞), but is -1",
            ),
            (
                refusal_of("", &bayes(1.0, -7.0)),
                "bayes_by_backprop.prior_pi must be in (0, 1), but is 1",
            ),
            (
                refusal_of("", &bayes(0.25, -700.0)),
                "bayes_by_backprop.prior_log_sigma2 must be in [-20, 20], but is -700",
            ),
            (
                refusal_of(
                    "",
                    &format!(
                        "{}\ntraining = {{ max_epochs = 1, learning_rate = 1.0, \
                         grad_clip_norm = 5.0, weight_decay = {{ coupled = 0.1 }}, \
                         schedule = {{ fixed = {{ hold_epochs = 1, divide_by = 2.0 }} }} }}",
                        bayes(0.25, -7.0)
                    ),
                ),
                "training.weight_decay cannot be together with bayes_by_backprop: it would decay \
                 ρ, which is no weight, and the prior decays the weights already; remove one of \
                 them",
            ),
        ] {
            assert_eq!(message, expected);
        }
    }

    #[test]
    fn an_empty_interval_and_two_initial_ranges_are_refused() {
        let never = ScheduleConfig::NonMonotoneAveraging { interval: 0 };
        assert_eq!(
            refusal(|recipe, _| recipe.training.schedule = never),
            "training.schedule.non_monotone_averaging.interval must be at least 1, but is 0"
        );
        assert_eq!(
            refusal(|_, lstm| {
                lstm.layer_init_range = Some(0.1);
                lstm.layer_init_by_units = true;
            }),
            "model.lstm.layer_init_range and model.lstm.layer_init_by_units exclude each other; \
             remove one"
        );
    }

    #[test]
    fn not_a_number_is_out_of_every_range() {
        let nan = f64::NAN;
        let schedule = ScheduleConfig::Fixed { hold_epochs: 4, divide_by: nan };
        for message in [
            refusal(|_, lstm| lstm.input_dropout = nan),
            refusal(|_, lstm| lstm.inter_layer_dropout = nan),
            refusal(|_, lstm| lstm.forget_bias = nan),
            refusal(|_, lstm| lstm.init_range = nan),
            refusal(|recipe, _| recipe.penalties[0].eta = nan),
            refusal(|recipe, _| recipe.training.learning_rate = nan),
            refusal(|recipe, _| recipe.training.grad_clip_norm = nan),
            refusal(|recipe, _| recipe.training.schedule = schedule),
        ] {
            assert!(message.ends_with("but is NaN"), "{message}");
        }
    }

    #[test]
    fn values_must_fit_each_other() {
        assert_eq!(
            refusal(|_, lstm| {
                lstm.tie_weights = true;
                lstm.d_embed = 7;
            }),
            "model.lstm.tie_weights = true needs an embedding as wide as the last layer, \
             but d_embed is 7 and the layer has 8 units"
        );
        assert_eq!(
            refusal(|recipe, _| recipe.penalties[0].site = Site::LayerCell(2)),
            "penalty.0.site is `layer[2].cell`, but the model has 2 layers, counted from 0"
        );
        assert_eq!(
            refusal(|recipe, _| {
                let site = Site::LayerHidden(5);
                recipe.regularizers =
                    vec![RegularizerConfig::TargetNorm { site, beta: 1.0, target: 2.0 }];
            }),
            "regularizer.0.target_norm.site is `layer[5].hidden`, but the model has 2 layers, \
             counted from 0"
        );
        assert_eq!(
            refusal(|recipe, _| {
                let prior = LabelPrior::Uniform;
                recipe.regularizers = vec![RegularizerConfig::LabelSmoothing { alpha: 1.0, prior }];
            }),
            "regularizer.0.label_smoothing.alpha must be in [0, 1), but is 1"
        );
    }

    #[test]
    fn an_unknown_corpus_is_refused_with_the_known_ones() {
        let message = refusal(|recipe, _| recipe.data.corpus = "wikipedia".to_owned());
        assert!(message.contains("penn_treebank"), "{message}");
        assert!(message.ends_with("but is `wikipedia`"), "{message}");
    }
}
