use anp_models::Kernels;

use super::*;
use crate::data;
use crate::text::network;
use crate::text::noising::NoisingConfig;

/// Rows of each table of the `experiments` folder, those that this project adds counted apart.
const TABLES: [(&str, usize, usize); 8] = [
    ("baselines", 0, 4),
    ("table1", 8, 1),
    ("table2", 9, 3),
    ("table3", 5, 1),
    ("table4", 4, 0),
    ("table5", 7, 5),
    ("table6", 9, 4),
    ("tuning", 0, 22),
];

fn committed() -> Experiments {
    // Asked at run time: a target folder that checkouts share would give the path of the one that compiled this.
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").expect("Cargo runs the tests");
    let root = PathBuf::from(folder).join("../../experiments");
    Experiments::locate(Some(&root)).unwrap()
}

fn tables() -> Vec<Table> {
    committed().table_names().unwrap().iter().map(|id| committed().table(id).unwrap()).collect()
}

#[test]
fn every_table_has_all_rows_of_the_paper() {
    let found: Vec<_> = tables()
        .iter()
        .map(|table| {
            let ours = table.rows.iter().filter(|row| row.file.ours).count();
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
            let text = fs::read_to_string(&row.path).unwrap();
            let text = text.parse::<toml::Table>().unwrap();
            if text.contains_key(EXTENDS) {
                continue;
            }
            let written = toml::Table::try_from(&row.file).unwrap();
            assert_eq!(written, text, "{}", row.path.display());
        }
        let path = committed().root().join(&table.id).join(TABLE_FILE);
        let text = fs::read_to_string(&path).unwrap();
        let written = toml::Table::try_from(&table.file).unwrap();
        assert_eq!(written, text.parse::<toml::Table>().unwrap(), "{}", path.display());
    }
}

#[test]
fn published_numbers_are_those_of_the_papers() {
    let shown: Vec<String> = tables()
        .iter()
        .flat_map(|table| &table.rows)
        .filter_map(|row| {
            let published = row.file.published.as_ref()?;
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
        let table = committed().table(table).unwrap();
        let row = table.rows.iter().find(|other| other.id == row).unwrap();
        let recipe = row.file.section(Scale::Paper).unwrap().recipe().text().unwrap();
        let network = network(&recipe, vocab_size(&recipe), Kernels::Fused);
        assert_eq!(network.num_params(), expected, "{} {}", table.id, row.id);
    }
}

/// What is compared must differ in nothing else: the penalty, and at paper scale the schedule that the
/// paper's LSTM row comes with.
#[test]
fn rows_with_and_without_the_penalty_differ_in_it_alone() {
    for id in ["table1", "table2"] {
        let table = committed().table(id).unwrap();
        let section = |row: &str, scale| {
            let row = table.rows.iter().find(|other| other.id == row).unwrap();
            row.file.section(scale).unwrap().clone().text().unwrap()
        };
        for scale in Scale::ALL {
            let plain = if scale == Scale::Paper { "lstm_same_schedule" } else { "lstm" };
            let plain = section(plain, scale);
            let mut with = section("lstm_anp", scale);
            assert_eq!(with.penalties.len(), 1, "{id} {scale}");
            with.penalties.clear();
            assert_eq!(with, plain, "{id} {scale}");
        }
        let mut published = section("lstm", Scale::Paper);
        let same = section("lstm_same_schedule", Scale::Paper);
        assert_ne!(published.training.schedule, same.training.schedule);
        published.training.schedule = same.training.schedule.clone();
        assert_eq!(published, same);
    }
}

/// The same of images; two image sets differ in the set alone.
#[test]
fn image_rows_differ_in_the_penalty_and_the_images_alone() {
    let table = committed().table("table4").unwrap();
    for scale in Scale::ALL {
        let section = |row: &str| {
            let row = table.rows.iter().find(|other| other.id == row).unwrap();
            let Some(AnySection::Image(section)) = row.file.section(scale) else {
                panic!("{scale} is of images")
            };
            section.clone()
        };
        for set in ["cifar_10", "cifar_100"] {
            let mut with = section(&format!("{set}_anp"));
            assert_eq!(with.penalties.len(), 1, "{scale}");
            assert_eq!(with.penalties[0].site, "pooled");
            with.penalties.clear();
            assert_eq!(with, section(set), "{scale}");
        }
        let mut hundred = section("cifar_100_anp");
        hundred.data.images = section("cifar_10_anp").data.images;
        assert_eq!(hundred, section("cifar_10_anp"), "{scale}");
    }
}

/// What a row's file leaves out is that of the row it extends.
#[test]
fn a_row_that_extends_another_differs_in_what_it_says() {
    let table = |id: &str| committed().table(id).unwrap();
    let section = |table: &Table, row: &str, scale| {
        let row = table.rows.iter().find(|other| other.id == row).unwrap();
        row.file.section(scale).unwrap().clone().text().unwrap()
    };
    let (first, second) = (table("table1"), table("table2"));
    for scale in Scale::ALL {
        // A penalty replaced by none, and a table of keys beside the others.
        let mut variational = section(&first, "vd_lstm", scale);
        assert!(variational.variational.take().is_some());
        let mut anp = section(&first, "lstm_anp", scale);
        anp.penalties.clear();
        assert_eq!(variational, anp, "{scale}");
        // One key deep inside.
        let shared = section(&first, "lstm_shared_embedding", scale);
        assert!(shared.model.shape().tie_weights && !anp.model.shape().tie_weights);
        // Over two files.
        let variational = section(&second, "vd_lstm_anp", scale);
        assert_eq!(variational.penalties, section(&second, "lstm_anp", scale).penalties);
        assert!(variational.variational.is_some());
    }
    // In another table, with the same content: the same runs.
    let l2 = section(&table("table5"), "l2", Scale::Paper).recipe().content_hash();
    assert_eq!(l2, section(&first, "lstm_anp", Scale::Paper).recipe().content_hash());
}

#[test]
fn rows_that_extend_each_other_in_a_circle_are_refused() {
    let files = [TABLE, ("t/a.toml", "name = 'A'\nours = true\nextends = 't/a'\n")];
    assert!(failure(&files).contains("goes on from itself"), "{}", failure(&files));
    let files = [TABLE, ("t/a.toml", "name = 'A'\nours = true\nextends = 3\n")];
    assert!(failure(&files).contains("`extends` that is no text"), "{}", failure(&files));
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
    let err = Experiments::find(folder.path()).and_then(|found| found.table("t")).unwrap_err();
    let mut message = err.to_string();
    let mut cause = std::error::Error::source(&err);
    while let Some(err) = cause {
        message = format!("{message}: {err}");
        cause = err.source();
    }
    message
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
        ("name = 'A'\n", "a.toml has no [paper], though it is not `ours`"),
        (
            "name = 'A'\n[paper]\nsource = 'S'\ntolerance = 1.0\n",
            "without `valid`, `test` and `norm`",
        ),
        (
            "name = 'A'\n[paper]\nsource = 'S'\ntest = -1.0\ntolerance = 1.0\n",
            "negative or not finite",
        ),
        ("name = 'A'\nour = true\n", "line 2, column 1"),
    ] {
        let message = failure(&[TABLE, ("t/a.toml", text)]);
        assert!(message.contains("a.toml") && message.contains(reason), "{message}");
    }
}

#[test]
fn a_wrong_section_is_named_by_file_section_and_key() {
    let section = toml::to_string(&table2_anp()).unwrap();
    for (from, to, reason) in [
        ("bptt = 35", "bptt = 0", "data.bptt must be at least 1, but is 0"),
        ("seeds = [", "seeds = []#", "has a section without seeds"),
        ("seeds = [", "seeds = [1, 1]#", "has a section that repeats a seed"),
    ] {
        let changed = section.replace(from, to);
        assert_ne!(changed, section, "{from}");
        let nested = nest(&changed);
        let message = failure(&[TABLE, ("t/a.toml", &nested)]);
        assert!(message.contains("a.toml") && message.contains(reason), "{message}");
    }
}

/// A row file whose demo section is `section`.
fn nest(section: &str) -> String {
    let mut row = toml::Table::new();
    row.insert("name".to_owned(), "A".into());
    row.insert("ours".to_owned(), true.into());
    row.insert("demo".to_owned(), toml::Value::Table(section.parse().unwrap()));
    row.to_string()
}

fn table2_anp() -> Section {
    let table = committed().table("table2").unwrap();
    let row = table.rows.into_iter().find(|row| row.id == "lstm_anp").unwrap();
    row.file.demo.unwrap().text().unwrap()
}

#[test]
fn overrides_reach_the_section_and_its_seeds() {
    let table = committed().table("table2").unwrap();
    let row = table.rows.iter().find(|row| row.id == "lstm_anp").unwrap();
    let overrides = ["seeds=[7]", "penalty.0.eta=0.5"].map(str::to_owned);
    let section = row.section(Scale::Demo, &overrides).unwrap().unwrap();
    assert_eq!(section.seeds(), [7]);
    assert_eq!(section.recipe().text().unwrap().penalties[0].eta, 0.5);

    let err = row.section(Scale::Demo, &["training.epochs=3".to_owned()]).unwrap_err();
    let cause = std::error::Error::source(&err).unwrap();
    assert!(cause.to_string().contains("--set training.epochs=3"), "{cause}");
    assert!(cause.source().unwrap().to_string().contains("unknown field `epochs`"));
}

#[test]
fn more_seeds_follow_the_section_s_own() {
    let section = AnySection::Text(Section { seeds: vec![5, 3], ..table2_anp() });
    assert_eq!(section.first_seeds(1), [5]);
    assert_eq!(section.first_seeds(4), [5, 3, 6, 7]);
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
