use anp_models::Kernels;
use anp_testing::package;

use super::*;
use crate::data;
use crate::recipe::{ImageRecipe, Recipe, Scale, TextRecipe, apply_overrides, content_hash};
use crate::record;
use crate::text::network;
use crate::text::noising::NoisingConfig;

/// Rows of each table of the `experiments` folder, those that this project adds counted apart.
const TABLES: [(&str, usize, usize); 12] = [
    ("baselines", 0, 4),
    ("bound", 0, 5),
    ("precision", 0, 6),
    ("rivals", 0, 15),
    ("table1", 8, 1),
    ("table2", 9, 3),
    ("table3", 5, 1),
    ("table4", 4, 0),
    ("table5", 7, 5),
    ("table6", 9, 4),
    ("tuning", 0, 22),
    ("vib", 0, 9),
];

fn committed() -> Experiments {
    let root = package().join("../../experiments");
    Experiments::locate(Some(&root)).unwrap()
}

fn tables() -> Vec<Table> {
    committed().table_names().unwrap().iter().map(|id| committed().table(id).unwrap()).collect()
}

fn row(table: &str, id: &str) -> Row {
    let rows = committed().table(table).unwrap().rows;
    rows.into_iter().find(|row| row.id == id).unwrap()
}

fn runs(table: &str, id: &str, scale: Scale) -> Runs {
    row(table, id).runs(scale, &[]).unwrap().unwrap()
}

/// The recipe and the seeds of a row's runs on text.
fn text(table: &str, id: &str, scale: Scale) -> (TextRecipe, Vec<u64>) {
    let Runs { recipe, seeds, .. } = runs(table, id, scale);
    (recipe.text().unwrap(), seeds)
}

#[test]
fn every_table_has_all_rows_of_the_paper() {
    let found: Vec<_> = tables()
        .iter()
        .map(|table| {
            let ours = table.rows.iter().filter(|row| row.ours).count();
            (table.id.clone(), table.rows.len() - ours, ours)
        })
        .collect();
    let expected: Vec<_> =
        TABLES.iter().map(|&(id, paper, ours)| (id.to_owned(), paper, ours)).collect();
    assert_eq!(found, expected, "a row is missing, or there is one too many");
}

#[test]
fn recipes_say_all_and_only_what_the_schema_asks() {
    for table in tables() {
        for row in &table.rows {
            for scale in row.scales() {
                let Runs { recipe, seeds, sweep } = row.runs(scale, &[]).unwrap().unwrap();
                let mut written = toml::Value::try_from(&recipe).unwrap();
                let seeds = toml::Value::try_from(seeds).unwrap();
                written.as_table_mut().unwrap().insert("seeds".to_owned(), seeds);
                let mut section = row.sections[&scale].clone();
                if let Some(Sweep { key, candidates }) = sweep {
                    let first = format!("{key}={:?}", candidates[0].value);
                    apply_overrides(&mut section, &[first]).unwrap();
                    section.as_table_mut().unwrap().remove("sweep");
                }
                // A row without penalties may say so.
                if section.get("penalty") == Some(&toml::Value::Array(Vec::new())) {
                    section.as_table_mut().unwrap().remove("penalty");
                }
                assert_eq!(written, section, "{} {scale}", row.path.display());
            }
        }
        let path = committed().root().join(&table.id).join(TABLE_FILE);
        let text = fs::read_to_string(&path).unwrap();
        let written = toml::Table::try_from(&table.file).unwrap();
        assert_eq!(written, text.parse::<toml::Table>().unwrap(), "{}", path.display());
    }
}

/// Records count by the hash of their recipe, so a row file may be written differently, but must
/// not come to another recipe. A row that is meant to change gets a new line in the fixture.
#[test]
fn recipes_keep_their_hashes() {
    let mut found = String::new();
    for table in tables() {
        for row in &table.rows {
            for scale in row.scales() {
                let runs = row.runs(scale, &[]).unwrap().unwrap();
                let seeds: Vec<_> = runs.seeds.iter().map(u64::to_string).collect();
                let seeds = seeds.join(",");
                for hash in runs.recipes().map(content_hash) {
                    found.push_str(&format!("{}/{} {scale} {seeds} {hash}\n", table.id, row.id));
                }
            }
        }
    }
    let expected = include_str!("../../tests/fixtures/recipe_hashes.txt");
    let missing_in = |there: &str, here: &str| {
        let there: BTreeSet<_> = there.lines().collect();
        let missing: Vec<_> = here.lines().filter(|line| !there.contains(line)).collect();
        missing.join("\n")
    };
    let (new, gone) = (missing_in(expected, &found), missing_in(&found, expected));
    assert!(new.is_empty() && gone.is_empty(), "not in the fixture:\n{new}\nno longer so:\n{gone}");
}

#[test]
fn committed_records_count_unless_their_recipe_is_old() {
    let hashes = include_str!("../../tests/fixtures/recipe_hashes.txt");
    let current: BTreeSet<(&str, &str)> = hashes
        .lines()
        .map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            (words[1], words[3])
        })
        .collect();
    let records = record::load_folder(&committed().records()).unwrap();
    let old: Vec<_> = records
        .iter()
        .filter(|it| {
            let scale = it.record.head().scale.to_string();
            !current.contains(&(scale.as_str(), it.record.head().recipe_hash))
        })
        .map(|it| it.path.file_stem().unwrap().to_string_lossy())
        .collect();
    let expected = [
        "table1-vd_lstm-small-s1-73bae0c2",
        "table1-vd_lstm-small-s2-73bae0c2",
        "table1-vd_lstm_anp-small-s1-30990e5e",
        "table1-vd_lstm_anp-small-s2-30990e5e",
        "table2-lstm-small-s1-a87de26c",
        "table2-lstm-small-s2-a87de26c",
        "table2-lstm_anp-small-s1-df1cbe6a",
        "table2-lstm_anp-small-s2-df1cbe6a",
    ];
    assert_eq!(old, expected);
}

#[test]
fn row_files_begin_with_command_time_and_number() {
    for table in tables() {
        for row in &table.rows {
            let text = fs::read_to_string(&row.path).unwrap();
            let comment: Vec<_> = text.lines().take_while(|line| line.starts_with('#')).collect();
            let comment = comment.join("\n");
            let command =
                format!("# cargo xtask reproduce {} --only {} --scale ", table.id, row.id);
            let numbers = row.published.as_ref().map(|it| [it.valid, it.test, it.norm]);
            let numbers = numbers.into_iter().flatten().flatten().map(|it| it.to_string());
            assert!(comment.starts_with(&command), "{}: no `{command}`", row.path.display());
            let parts = ["\n# Time: ".to_owned(), "\n# Expect: ".to_owned()];
            for part in parts.into_iter().chain(numbers) {
                assert!(comment.contains(&part), "{}: no `{part}`", row.path.display());
            }
        }
    }
}

#[test]
fn published_numbers_are_those_of_the_papers() {
    let shown: Vec<String> = tables()
        .iter()
        .flat_map(|table| &table.rows)
        .filter_map(|row| {
            let published = row.published.as_ref()?;
            let number =
                |value: Option<f64>| value.map_or("-".to_owned(), |value| value.to_string());
            let norm = published.norm.map_or(String::new(), |norm| format!(" norm {norm}"));
            let [valid, test] = [published.valid, published.test].map(number);
            Some(format!("{} {valid} {test}{norm}", row.id))
        })
        .collect();
    let expected = [
        "zaremba_small - 114.5",
        "zaremba_medium 86.2 82.7",
        "zaremba_large 82.2 78.4",
        "awd_lstm 61.2 58.8",
        "lstm 84.3 80.4",
        "lstm_noising 79.9 76.9",
        "lstm_shared_embedding 80 76.7",
        "lstm_anp 79.6 76.3",
        "vd_lstm 78.5 74.9",
        "vd_lstm_anp 77.6 73.9",
        "bayesian_information_penalty 83.8 80.7",
        "bayes_by_backprop 78.8 75.5",
        "lstm 81.6 77.5",
        "lstm_noising 76.2 73.4",
        "lstm_anp 76.7 72.8",
        "vd_lstm 74.4 71.2",
        "vd_lstm_anp 73 69.6",
        "sru 66.2 62.3",
        "sru_anp 64.5 61.3",
        "variational_rhn 71.2 68.5",
        "variational_rhn_tied 67.9 65.4",
        "nas_base_8 - 67.9",
        "variational_lstm 101.7 96.3",
        "pointer_sentinel_lstm 84.8 80.8",
        "lstm_anp 94.4 89.7",
        "lstm_noising 92.9 88.1",
        "lstm_anp_noising 89.1 84.5",
        "cifar_10 - 96.19",
        "cifar_10_anp - 96.41",
        "cifar_100 - 80.78",
        "cifar_100_anp - 81.56",
        "l1 84.4 -",
        "linf 84.1 -",
        "l2 79.6 -",
        "layer1_cell 84.9 -",
        "layer1_hidden 84.6 -",
        "layer2_cell 81.2 -",
        "layer2_hidden 79.6 -",
        "norm_lstm - - norm 19.8",
        "norm_lstm_wd - - norm 19.4",
        "norm_lstm_anp - - norm 9.7",
        "norm_vd_lstm - - norm 17.9",
        "norm_vd_lstm_anp - - norm 8.1",
        "decay_1e5 84.3 -",
        "decay_1e4 84.2 -",
        "decay_1e3 84.3 -",
        "decay_1e2 83.5 -",
        "global_norm_1e5 84.3 -",
        "global_norm_1e4 84.2 -",
        "global_norm_1e3 84.3 -",
        "global_norm_1e2 83.5 -",
    ];
    assert_eq!(shown, expected);
}

/// Words of a recipe's vocabulary.
fn vocab_size(recipe: &TextRecipe) -> usize {
    let words = data::manifest(&recipe.data.corpus).unwrap().vocabulary;
    words + recipe.data.noising.as_ref().map_or(0, NoisingConfig::extra_words)
}

/// The networks of the rows at paper scale, which are not drawn for this.
#[test]
fn networks_at_paper_scale_have_the_published_sizes() {
    for (table, row, expected) in [
        ("baselines", "zaremba_small", 4_653_200),
        ("baselines", "zaremba_medium", 19_780_400),
        ("baselines", "zaremba_large", 66_034_000),
        ("baselines", "awd_lstm", 24_221_600),
        ("table1", "lstm_shared_embedding", 9_328_400),
        ("table2", "sru", 24_225_800),
        ("table2", "variational_rhn", 32_082_040),
        ("table2", "variational_rhn_tied", 23_482_400),
    ] {
        let (recipe, _) = text(table, row, Scale::Paper);
        let network = network(&recipe, vocab_size(&recipe), Kernels::Fused);
        assert_eq!(network.num_params(), expected, "{table} {row}");
    }
}

/// Rows that are compared differ in the penalty alone; at paper scale compare with the row that has
/// the same schedule.
#[test]
fn rows_with_and_without_the_penalty_differ_in_it_alone() {
    for id in ["table1", "table2"] {
        for scale in Scale::ALL {
            let plain = if scale == Scale::Paper { "lstm_same_schedule" } else { "lstm" };
            let (mut with, seeds) = text(id, "lstm_anp", scale);
            assert_eq!(with.penalties.len(), 1, "{id} {scale}");
            with.penalties.clear();
            assert_eq!((with, seeds), text(id, plain, scale), "{id} {scale}");
        }
        let (mut published, seeds) = text(id, "lstm", Scale::Paper);
        let same = text(id, "lstm_same_schedule", Scale::Paper);
        assert_ne!(published.training.schedule, same.0.training.schedule);
        published.training.schedule = same.0.training.schedule.clone();
        assert_eq!((published, seeds), same);
    }
}

/// The same for images; two image sets differ in the set alone.
#[test]
fn image_rows_differ_in_the_penalty_and_the_images_alone() {
    let runs = |row: &str, scale| -> (ImageRecipe, Vec<u64>) {
        let Runs { recipe, seeds, .. } = runs("table4", row, scale);
        (recipe.image().unwrap(), seeds)
    };
    for scale in Scale::ALL {
        for set in ["cifar_10", "cifar_100"] {
            let (mut with, seeds) = runs(&format!("{set}_anp"), scale);
            assert_eq!(with.penalties.len(), 1, "{scale}");
            assert_eq!(with.penalties[0].site.to_string(), "pooled");
            with.penalties.clear();
            assert_eq!((with, seeds), runs(set, scale), "{scale}");
        }
        let (mut hundred, seeds) = runs("cifar_100_anp", scale);
        let ten = runs("cifar_10_anp", scale);
        hundred.data.images = ten.0.data.images.clone();
        assert_eq!((hundred, seeds), ten, "{scale}");
    }
}

/// The rows of the bottleneck differ in its price alone, which is on the plot's horizontal axis.
#[test]
fn rows_of_the_bottleneck_differ_in_its_price_alone() {
    let table = committed().table("vib").unwrap();
    assert_eq!(table.file.plot.as_ref().unwrap().x.as_deref(), Some("model.vib.beta"));
    for scale in Scale::ALL {
        let mut prices = Vec::new();
        let mut recipes = Vec::new();
        for row in &table.rows {
            let Runs { recipe, seeds, .. } = row.runs(scale, &[]).unwrap().unwrap();
            let mut recipe = recipe.vib().unwrap();
            prices.push(recipe.vib_mut().beta.take());
            recipes.push((recipe, seeds));
        }
        assert!(recipes.iter().all(|it| *it == recipes[0]), "{scale}");
        assert_eq!(prices[..2], [None, Some(0.0)], "{scale}");
        assert!(prices.is_sorted(), "{scale}: {prices:?}");
    }
}

/// What a row's file leaves out is that of the row it extends.
#[test]
fn a_row_that_extends_another_differs_in_what_it_says() {
    for scale in Scale::ALL {
        // A penalty replaced by none, and a table beside the others.
        let (mut variational, _) = text("table1", "vd_lstm", scale);
        assert!(variational.variational.take().is_some());
        let (mut anp, _) = text("table1", "lstm_anp", scale);
        anp.penalties.clear();
        assert_eq!(variational, anp, "{scale}");
        // One key deep inside.
        let (shared, _) = text("table1", "lstm_shared_embedding", scale);
        assert!(shared.model.shape().tie_weights && !anp.model.shape().tie_weights);
        // Over two files.
        let (variational, _) = text("table2", "vd_lstm_anp", scale);
        assert_eq!(variational.penalties, text("table2", "lstm_anp", scale).0.penalties);
        assert!(variational.variational.is_some());
    }
    // In another table, with the same content: the same runs.
    let hash = |table, row| content_hash(&runs(table, row, Scale::Paper).recipe);
    assert_eq!(hash("table5", "l2"), hash("table1", "lstm_anp"));
}

/// A file `t/a.toml` whose demo section is that of the committed row `table2/lstm_anp`.
fn complete() -> String {
    row_text("table2", "lstm_anp")
}

/// A row file whose demo section is that of a committed row.
fn row_text(table: &str, id: &str) -> String {
    let mut demo = toml::Table::new();
    demo.insert("demo".to_owned(), row(table, id).sections[&Scale::Demo].clone());
    let mut row = toml::Table::new();
    row.insert("name".to_owned(), "A".into());
    row.insert("ours".to_owned(), true.into());
    row.insert("scale".to_owned(), toml::Value::Table(demo));
    row.to_string()
}

/// Each file goes on top of the finished one that it extends: first its base, then its scale.
#[test]
fn base_and_scale_go_on_top_of_the_extended_row() {
    let row = "name = 'B'\nours = true\nextends = 't/a'\n\
               base = { seeds = [2], data.bptt = 6, penalty = [] }\nscale.demo.data.bptt = 7\n";
    let folder = folder_with(&[TABLE, ("t/a.toml", &complete()), ("other/b.toml", row)]);
    let row = Row::load(&folder.path().join("experiments/other/b.toml")).unwrap();
    let Runs { recipe, seeds, .. } = row.runs(Scale::Demo, &[]).unwrap().unwrap();
    let (mut expected, _) = text("table2", "lstm_anp", Scale::Demo);
    expected.data.bptt = 7;
    expected.penalties.clear();
    assert_eq!((recipe.text().unwrap(), seeds), (expected, vec![2]));
}

/// `extends` names folders of `experiments`, wherever in a checkout the row's file is.
#[test]
fn a_row_file_may_be_copied_out_of_the_folder() {
    let row = "name = 'B'\nours = true\nextends = 't/a'\nbase.penalty.0.eta = 0.5\n";
    let folder = folder_with(&[TABLE, ("t/a.toml", &complete()), ("../mine/below/b.toml", row)]);
    let row = Row::load(&folder.path().join("mine/below/b.toml")).unwrap();
    let Runs { recipe, seeds, .. } = row.runs(Scale::Demo, &[]).unwrap().unwrap();
    assert_eq!((recipe.text().unwrap().penalties[0].eta, seeds), (0.5, vec![1]));
}

#[test]
fn a_row_may_be_kept_from_scales_of_the_extended_row() {
    let only = "scales = ['paper']\nscale.paper.data.bptt = 7\n";
    let row = format!("name = 'B'\nours = true\nextends = 't/a'\n{only}");
    let folder = folder_with(&[TABLE, ("t/a.toml", &complete()), ("t/b.toml", &row)]);
    let err = Row::load(&folder.path().join("experiments/t/b.toml")).unwrap_err();
    // Only demo is complete.
    assert!(matches!(err, ExperimentsError::Recipe { scale: Scale::Paper, .. }), "{err}");
    let row = row.replace("'paper'", "'demo'");
    fs::write(folder.path().join("experiments/t/b.toml"), row).unwrap();
    let row = Row::load(&folder.path().join("experiments/t/b.toml")).unwrap();
    assert_eq!(row.scales().collect::<Vec<_>>(), [Scale::Demo]);
}

#[test]
fn a_wrong_key_is_named_by_file_and_line() {
    // Line 1 of the extended file is empty, so that line 2 is the first that can be named.
    let base = format!("\n{}", complete());
    let line = |text: &str| 1 + base[..base.find(text).unwrap()].matches('\n').count();
    for (from, to, own, place, reason) in [
        ("bptt = ", "bppt = ", "", format!("b.toml:{}", line("bptt")), "did you mean `bptt`?"),
        ("d_embed", "width", "", format!("b.toml:{}", line("d_embed")), "unknown field `width`"),
        ("site", "cite", "", format!("b.toml:{}", line("site")), "unknown field `cite`"),
        ("", "", "base.training.epochs = 3", "a.toml:4".to_owned(), "did you mean `max_epochs`?"),
        ("", "", "base.penalty.0.site = 'x'", "a.toml:4".to_owned(), "`x` is no site; known are"),
        ("", "", "base.penalty.1.eta = 1.0", "a.toml:4".to_owned(), "expected a sequence"),
        ("", "", "scale.small.seeds = [1]", "a.toml".to_owned(), "at small scale: missing field"),
    ] {
        let base = base.replacen(from, to, 1);
        let own = format!("name = 'A'\nours = true\nextends = 'b'\n{own}\n");
        let folder = folder_with(&[("t/a.toml", &own), ("t/b.toml", &base)]);
        let err = Row::load(&folder.path().join("experiments/t/a.toml")).unwrap_err();
        let message = chain(&err);
        assert!(message.contains(&format!("{place} makes a wrong recipe")), "{message}");
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn rows_that_extend_each_other_in_a_circle_are_refused() {
    let files = [TABLE, ("t/a.toml", "name = 'A'\nours = true\nextends = 't/a'\n")];
    assert!(failure(&files).contains("extends itself"), "{}", failure(&files));
    let files = [TABLE, ("t/a.toml", "name = 'A'\nours = true\nextends = 3\n")];
    assert!(failure(&files).contains("line 3, column 11"), "{}", failure(&files));
    let files = [TABLE, ("t/a.toml", "name = 'A'\nours = true\nextends = 'c'\n")];
    assert!(failure(&files).contains("c.toml"), "{}", failure(&files));
}

fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join("experiments").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn failure(files: &[(&str, &str)]) -> String {
    let folder = folder_with(files);
    chain(&Experiments::find(folder.path()).and_then(|found| found.table("t")).unwrap_err())
}

/// An error and its causes.
fn chain(err: &dyn std::error::Error) -> String {
    err.source().map_or(err.to_string(), |cause| format!("{err}: {}", chain(cause)))
}

const TABLE: (&str, &str) = ("t/table.toml", "title = 'T'\nmetric = 'perplexity'\nrows = ['a']\n");

#[test]
fn tables_and_files_must_name_the_same_rows() {
    let row = "name = 'A'\nours = true\n";
    let message = failure(&[TABLE]);
    assert!(message.ends_with("lists the row `a`, but there is no a.toml beside it"), "{message}");
    let message = failure(&[TABLE, ("t/a.toml", row), ("t/b.toml", row)]);
    assert!(message.ends_with("list the row `b`, but there is a b.toml beside it"), "{message}");
    let twice = TABLE.1.replace("'a'", "'a', 'a'");
    let message = failure(&[(TABLE.0, &twice), ("t/a.toml", row)]);
    assert!(message.ends_with("table.toml lists a row twice"), "{message}");
}

#[test]
fn a_wrong_row_is_named_by_file() {
    for (text, reason) in [
        ("ours = true\n", "a.toml has no `name`"),
        ("name = 'A'\n", "a.toml has no [published], though it is not `ours`"),
        (
            "name = 'A'\n[published]\nsource = 'S'\ntolerance = 1.0\n",
            "without `valid`, `test` and `norm`",
        ),
        (
            "name = 'A'\n[published]\nsource = 'S'\ntest = -1.0\ntolerance = 1.0\n",
            "negative or not finite",
        ),
        ("name = 'A'\nour = true\n", "line 2, column 1"),
    ] {
        let message = failure(&[TABLE, ("t/a.toml", text)]);
        assert!(message.contains("a.toml") && message.contains(reason), "{message}");
    }
}

#[test]
fn a_wrong_value_is_named_by_file_scale_and_key() {
    let row = complete();
    for (from, to, reason) in [
        ("bptt = 35", "bptt = 0", "at demo scale: data.bptt must be at least 1, but is 0"),
        ("seeds = [", "seeds = []#", "has a scale without seeds"),
        ("seeds = [", "seeds = [1, 1]#", "has a scale that repeats a seed"),
        ("seeds = [", "seeds = [9223372036854775807]#", "has a seed that TOML cannot hold"),
        ("seeds = [", &with_sweep("penalty.0.eta", "[]"), "sweep.values is empty"),
        ("seeds = [", &with_sweep("penalty.0.eta", "[1, 1]"), "values do not ascend"),
        ("seeds = [", &with_sweep("penalty.0.eta", "[-1]"), "penalty.0.eta must be in [0, ∞)"),
        ("seeds = [", &with_sweep("penalty.7.eta", "[1]"), "`7` is none of them"),
        ("seeds = [", &with_sweep("penalty.0.theta", "[1]"), "unknown field `theta`"),
    ] {
        let changed = row.replace(from, to);
        assert_ne!(changed, row, "{from}");
        let message = failure(&[TABLE, ("t/a.toml", &changed)]);
        assert!(message.contains("a.toml") && message.contains(reason), "{message}");
    }
}

/// Text to put in place of `seeds = [`.
fn with_sweep(key: &str, values: &str) -> String {
    format!("sweep = {{ key = '{key}', values = {values} }}\nseeds = [")
}

#[test]
fn a_sweep_is_a_recipe_per_value_and_an_override_ends_it() {
    let sweep = with_sweep("penalty.0.eta", "[0.1, 0.2]");
    let folder = folder_with(&[TABLE, ("t/a.toml", &complete().replace("seeds = [", &sweep))]);
    let row = Row::load(&folder.path().join("experiments/t/a.toml")).unwrap();
    let eta = |recipe: &Recipe| recipe.clone().text().unwrap().penalties[0].eta;
    let of = |overrides: &[&str]| {
        let overrides: Vec<_> = overrides.iter().map(|&it| it.to_owned()).collect();
        let runs = row.runs(Scale::Demo, &overrides).unwrap().unwrap();
        (runs.recipes().map(eta).collect::<Vec<_>>(), runs.sweep.is_some())
    };
    assert_eq!(of(&[]), (vec![0.1, 0.2], true));
    assert_eq!(of(&["sweep.values=[0.3]"]), (vec![0.3], true));
    assert_eq!(of(&["penalty.0.eta = 0.4"]), (vec![0.4], false));
    let whole = "penalty=[{site='output_raw',norm='l2sq',reduction='half_sum',eta=0.5}]";
    assert_eq!(of(&[whole]), (vec![0.5], false));

    let images = row_text("table4", "cifar_10_anp").replace("seeds = [", &sweep);
    let message = failure(&[TABLE, ("t/a.toml", &images)]);
    assert!(message.contains("there are no validation images"), "{message}");
}

#[test]
fn overrides_reach_the_recipe_and_its_seeds() {
    let row = row("table2", "lstm_anp");
    let overrides = ["seeds=[7]", "penalty.0.eta=0.5"].map(str::to_owned);
    let Runs { recipe, seeds, .. } = row.runs(Scale::Demo, &overrides).unwrap().unwrap();
    assert_eq!(seeds, [7]);
    assert_eq!(recipe.text().unwrap().penalties[0].eta, 0.5);

    let err = row.runs(Scale::Demo, &["training.epochs=3".to_owned()]).unwrap_err();
    assert!(err.to_string().contains("--set training.epochs=3"), "{err}");
    assert!(chain(&err).contains("unknown field `epochs`"), "{}", chain(&err));
}

#[test]
fn unknown_keys_are_refused_at_every_level() {
    let text = [
        "surprise",
        "data.surprise",
        "model.surprise",
        "model.lstm.surprise",
        "penalty.0.surprise",
        "training.surprise",
        "training.schedule.surprise",
        "training.schedule.on_plateau.surprise",
    ];
    let vib = [
        "surprise",
        "data.surprise",
        "model.surprise",
        "model.vib.surprise",
        "penalty.0.site",
        "training.momentum",
        "evaluation.surprise",
    ];
    let rows = [(row("table2", "lstm_anp"), &text[..]), (row("vib", "beta_1e3"), &vib)];
    for (row, keys) in rows {
        for key in keys {
            let message = chain(&row.runs(Scale::Demo, &[format!("{key}=1")]).unwrap_err());
            assert!(message.contains(&format!("--set {key}=1")), "{message}");
        }
    }
}

#[test]
fn more_seeds_follow_the_row_s_own() {
    let runs = Runs { seeds: vec![5, 3], ..runs("table2", "lstm_anp", Scale::Demo) };
    assert_eq!(runs.first_seeds(1), [5]);
    assert_eq!(runs.first_seeds(4), [5, 3, 6, 7]);
}

#[test]
fn the_folder_is_found_from_below_and_its_absence_is_explained() {
    let folder = folder_with(&[TABLE]);
    let below = folder.path().join("a/b");
    fs::create_dir_all(&below).unwrap();
    let found = Experiments::find(&below).unwrap();
    assert_eq!(found.root(), folder.path().join("experiments"));
    assert_eq!(found.records(), folder.path().join("experiments/records"));
    assert_eq!(found.runs(), folder.path().join("runs"));

    let empty = tempfile::tempdir().unwrap();
    let message = Experiments::locate(Some(empty.path())).unwrap_err().to_string();
    assert!(message.ends_with("holds no tables (folders with a table.toml)"), "{message}");
    let message = found.table("table9").unwrap_err().to_string();
    assert!(message.starts_with("there is no table `table9`"), "{message}");
    assert!(message.ends_with("there are t"), "{message}");
}
