//! The known data sets: `datasets/*.toml`, compiled in.

use super::error::DataError;
use super::manifest::Manifest;

/// Names of all known data sets, in the order in which they are listed.
pub const NAMES: [&str; 6] =
    ["demo", "penn_treebank", "wikitext_2", "fashion_mnist_small", "cifar_10", "cifar_100"];

/// `datasets/<name>.toml` for each of [`NAMES`].
const MANIFESTS: [&str; 6] = [
    include_str!("../../../../datasets/demo.toml"),
    include_str!("../../../../datasets/penn_treebank.toml"),
    include_str!("../../../../datasets/wikitext_2.toml"),
    include_str!("../../../../datasets/fashion_mnist_small.toml"),
    include_str!("../../../../datasets/cifar_10.toml"),
    include_str!("../../../../datasets/cifar_100.toml"),
];

/// All known data sets, in the order in which they are listed.
///
/// # Panics
///
/// If a file of `datasets/` does not fit the schema; tested.
pub fn manifests() -> Vec<Manifest> {
    MANIFESTS.into_iter().map(parse).collect()
}

/// The data set called `name`.
///
/// # Errors
///
/// [`DataError::UnknownName`], which lists the known names.
///
/// # Panics
///
/// As [`manifests`].
pub fn manifest(name: &str) -> Result<Manifest, DataError> {
    match NAMES.iter().position(|known| *known == name) {
        Some(index) => Ok(parse(MANIFESTS[index])),
        None => Err(DataError::UnknownName {
            name: name.to_owned(),
            known: NAMES.map(str::to_owned).into(),
        }),
    }
}

fn parse(text: &str) -> Manifest {
    toml::from_str(text).unwrap_or_else(|err| panic!("a manifest in datasets/ is wrong: {err}"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::data::manifest::Split;

    #[test]
    fn every_manifest_says_what_fetch_and_load_need() {
        let all = manifests();
        let names: Vec<_> = all.iter().map(|manifest| manifest.name.as_str()).collect();
        assert_eq!(names, NAMES);
        let folders: HashSet<_> = all.iter().map(|manifest| manifest.folder.as_str()).collect();
        assert_eq!(folders.len(), NAMES.len());

        for manifest in &all {
            let splits: Vec<_> = manifest.files.iter().map(|file| file.split).collect();
            if manifest.is_images() {
                assert!(manifest.classes > 1 && manifest.vocabulary == 0, "{}", manifest.name);
                assert!(manifest.std.iter().all(|&std| std > 0.0), "{}", manifest.name);
                assert!(splits.contains(&Split::Train) && splits.contains(&Split::Test));
            } else {
                assert_eq!(splits, Split::ALL, "{}", manifest.name);
                assert!(manifest.vocabulary > 1 && manifest.classes == 0, "{}", manifest.name);
            }
            if let Some(archive) = &manifest.archive {
                assert!(archive.urls.iter().all(|url| url.starts_with("https://")));
                assert!(!archive.urls.is_empty() && archive.md5.len() == 32, "{}", archive.name);
            }
            for file in &manifest.files {
                let distinct: HashSet<_> = file.urls.iter().collect();
                assert_eq!(distinct.len(), file.urls.len(), "{} repeats an address", file.name);
                if manifest.embedded || manifest.archive.is_some() {
                    assert!(file.urls.is_empty(), "{} needs no address", file.name);
                } else {
                    assert!(file.urls.len() >= 3, "{} has fewer than three addresses", file.name);
                }
                assert!(file.urls.iter().all(|url| url.starts_with("https://")), "{}", file.name);
            }
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let message = manifest("ptb").unwrap_err().to_string();
        assert!(message.contains("`ptb`") && message.contains("penn_treebank"), "{message}");
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let text = MANIFESTS[1].replacen("title", "titel", 1);
        assert!(toml::from_str::<Manifest>(&text).is_err());
    }
}
