//! `anp analyze`: what is measured of a checkpoint, and what cannot be.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Workplace, stderr, stdout};

/// Little enough for a second.
const FEW: [&str; 6] = ["--max-windows", "3", "--samples", "40", "--gradient-steps", "2"];

fn analyze(workplace: &Workplace, words: &[&str]) -> std::process::Output {
    let words = [&["analyze", "--device", "flex"], words].concat();
    workplace.anp(&words).output().unwrap()
}

fn json(workplace: &Workplace, words: &[&str]) -> (String, Vec<Value>) {
    let output = analyze(workplace, &[words, &["--format", "json", "--quiet"], &FEW].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    let analyses = serde_json::from_str(&text).unwrap();
    (text, analyses)
}

fn value(number: &Value) -> f64 {
    number["value"].as_f64().unwrap_or_else(|| panic!("no number: {number}"))
}

#[test]
fn an_analysis_has_every_number_with_what_it_was_measured_on() {
    let workplace = Workplace::new();
    workplace.begin("lstm_anp", 1, 40);
    workplace.begin("lstm", 1, 40);
    let run = format!("runs/{}", workplace.name("lstm_anp", 1));
    let (text, analyses) = json(&workplace, &[&run]);
    let [analysis] = &analyses[..] else { panic!("{text}") };

    assert_eq!(analysis["kind"], "text");
    assert_eq!((&analysis["parameters"], &analysis["epoch"]), (&"last".into(), &Value::Null));
    assert_eq!(analysis["on"]["split"], "valid");
    // Three windows of 20 tokens in 20 streams.
    assert_eq!(
        (&analysis["on"]["items"], &analysis["on"]["item"]),
        (&1200.into(), &"token".into())
    );
    assert_eq!((&analysis["seed"], &analysis["epsilon"]), (&1.into(), &0.001.into()));

    let sites = analysis["sites"].as_array().unwrap();
    let names: Vec<_> = sites.iter().map(|site| site["site"].as_str().unwrap()).collect();
    let layers = ["layer[0].cell", "layer[0].hidden", "layer[1].cell", "layer[1].hidden"];
    assert_eq!(names, [&["embedding"], &layers[..], &["logits"]].concat());
    for site in sites {
        let (size, divergence, spectrum) = (&site["size"], &site["divergence"], &site["spectrum"]);
        assert!(value(&size["norm"]) > 0.0, "{site}");
        assert_eq!(size["norm"]["unit"], "1");
        assert_eq!(divergence["kl"]["unit"], "nats");
        assert_eq!((&divergence["group_size"], &divergence["groups"]), (&20.into(), &60.into()));
        // ½ (tr K̂ − N) follows from the mean squared norm: tr K̂ = Σ‖h‖²/K + Nε.
        let units = site["units"].as_f64().unwrap();
        let trace = 20.0 * (value(&size["half_squared_norm"]) / units + 0.5 * (0.001 - 1.0));
        assert!((trace - value(&divergence["trace"])).abs() < 1e-4, "{site}");
        let sum = value(&divergence["trace"]) + value(&divergence["log_determinant"]);
        assert!((sum - value(&divergence["kl"])).abs() < 1e-9 * sum.abs().max(1.0), "{site}");

        let eigenvalues = spectrum["kernel"].as_array().unwrap();
        assert_eq!(eigenvalues.len(), units.min(40.0) as usize);
        let rank = value(&spectrum["effective_rank"]);
        assert!((1.0..=units.min(40.0) + 1e-9).contains(&rank), "{rank}");
        assert!(value(&spectrum["participation_ratio"]) <= rank + 1e-9, "{spectrum}");

        let information = site["information"].as_array().unwrap();
        let given = |it: &Value| it["noise"]["given"].as_str().unwrap().to_owned();
        let given: Vec<_> = information.iter().map(given).collect();
        assert_eq!(given, [&["relative"; 5][..], &["absolute"]].concat());
        assert_eq!(information[5]["noise"]["sigma"], 1.0);
        let lower = |it: &Value| it["input"]["lower"]["nats"].as_f64().unwrap();
        let upper = |it: &Value| it["input"]["upper"]["nats"].as_f64().unwrap();
        for it in information {
            assert!(lower(it) <= upper(it) + 1e-12 && upper(it) <= 40_f64.ln() + 1e-12, "{it}");
            assert!(it["noise"]["sigma"].as_f64().unwrap() > 0.0 && it["label"].is_null(), "{it}");
        }
        // More noise, less information.
        assert!(
            information[..5].windows(2).all(|pair| upper(&pair[0]) >= upper(&pair[1])),
            "{site}"
        );
    }
    let decoder = &analysis["decoder"];
    assert_eq!(decoder["site"], "layer[1].hidden");
    let left = value(&decoder["target_entropy"]) - value(&decoder["cross_entropy"]);
    assert!((value(&decoder["information"]) - left).abs() < 1e-12);

    let gradient = &analysis["gradient"];
    assert_eq!(
        (&gradient["on"]["split"], &gradient["on"]["mode"]),
        (&"train".into(), &"training".into())
    );
    let terms = gradient["terms"].as_array().unwrap();
    assert_eq!(terms.len(), 1);
    assert_eq!(
        (&terms[0]["name"], &terms[0]["strength"]),
        (&"output_dropped".into(), &0.03.into())
    );
    assert!(value(&terms[0]["share"]) > 0.0 && value(&terms[0]["cosine"]).abs() <= 1.0);

    // The same again, and another choice of items with another seed.
    assert_eq!(json(&workplace, &[&run]).0, text);
    let (_, other) = json(&workplace, &[&run, "--seed", "2"]);
    assert_ne!(other[0]["sites"][0]["spectrum"], sites[0]["spectrum"]);
    assert_eq!(other[0]["sites"][0]["size"], sites[0]["size"]);

    // Terminal and figure; a recipe without a penalty says so.
    let plain = format!("runs/{}", workplace.name("lstm", 1));
    for (run, phrase) in [(&run, "output_dropped"), (&plain, "no penalty")] {
        let words = [&[&**run, "--plot", "figures/it.svg"], &FEW[..]].concat();
        let output = analyze(&workplace, &words);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        for phrase in ["Size", "Spectrum", "Information", "Gradients", "layer[1].cell", phrase] {
            assert!(stdout(&output).contains(phrase), "{phrase}:\n{}", stdout(&output));
        }
        let svg = fs::read_to_string(workplace.path("figures/it.svg")).unwrap();
        assert!(svg.contains("Spectrum of K̂") && svg.contains("layer[1].hidden"));
    }
    // Two beside each other, as a PNG.
    let words = [&[&*run, &plain, "--plot", "both.png"], &FEW[..]].concat();
    assert_eq!(analyze(&workplace, &words).status.code(), Some(0));
    assert!(fs::read(workplace.path("both.png")).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn what_cannot_be_analysed_is_named() {
    let workplace = Workplace::new();
    workplace.begin("lstm", 1, 40);
    let run = format!("runs/{}", workplace.name("lstm", 1));
    for (words, phrases) in [
        (&["experiments"][..], &["experiments holds no checkpoint"][..]),
        (&["nowhere"], &["nowhere holds no checkpoint"]),
        (&[&run, "--plot", "it.pdf"], &["it.pdf", ".svg or .png"]),
        (&[&run, "--epsilon", "0"], &["`epsilon` must be in (0, ∞), but is 0"]),
        (&[&run, "--sigma", "1,-2"], &["`sigma` must be in (0, ∞), but is -2"]),
        (&[&run, "--samples", "1"], &["`samples` must be in [2, ∞), but is 1"]),
        (&[&run, "--epochs"], &[&run, "--keep-epochs"]),
    ] {
        let output = analyze(&workplace, words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert_eq!(stdout(&output), "", "{words:?}");
        let message = stderr(&output);
        assert!(phrases.iter().all(|phrase| message.contains(phrase)), "{words:?}: {message}");
    }
    assert!(!Path::new(&workplace.path("it.pdf")).exists());

    let model = workplace.newest("lstm", 1).unwrap().join("model.bpk");
    let mut bytes = fs::read(&model).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&model, bytes).unwrap();
    let output = analyze(&workplace, &[&run]);
    assert_eq!(output.status.code(), Some(2));
    let message = stderr(&output);
    assert!(message.contains("model.bpk is damaged"), "{message}");
}

#[test]
fn epochs_that_were_kept_are_analysed_one_by_one() {
    let workplace = Workplace::new();
    workplace.begin("lstm_anp", 1, 20);
    let made = workplace.reproduce(&["--only", "lstm_anp", "--keep-epochs"]).output().unwrap();
    assert_eq!(made.status.code(), Some(0), "{}", stderr(&made));
    let run = format!("runs/{}", workplace.name("lstm_anp", 1));
    let (text, analyses) = json(&workplace, &[&run, "--epochs"]);
    let [analysis] = &analyses[..] else { panic!("{text}") };
    assert_eq!((&analysis["epoch"], &analysis["parameters"]), (&1.into(), &"last".into()));
    let (_, best) = json(&workplace, &[&run]);
    assert_eq!(best[0]["parameters"], "best on validation");
    // Of one epoch, the best parameters are the last.
    assert_eq!(best[0]["sites"], analysis["sites"]);
}
