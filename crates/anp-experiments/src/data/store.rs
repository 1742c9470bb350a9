//! The folder that holds the data sets.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use super::manifest::{Manifest, ManifestFile};

/// The environment variable that names the data folder.
pub const DATA_DIR_VARIABLE: &str = "ANP_DATA_DIR";

/// The folder that holds the data sets, one folder each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    root: PathBuf,
    origin: Origin,
}

/// Why the store is where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `--data-dir`.
    Flag,
    /// The environment variable `ANP_DATA_DIR`.
    Environment,
    /// The platform's folder for a program's data.
    Platform,
    /// The current folder, as the platform knows no home.
    CurrentFolder,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "given by --data-dir",
            Self::Environment => "given by ANP_DATA_DIR",
            Self::Platform => {
                "the platform's data folder, as neither --data-dir nor ANP_DATA_DIR is given"
            }
            Self::CurrentFolder => {
                "below the current folder, as neither --data-dir nor ANP_DATA_DIR is given and \
                 there is no home folder"
            }
        })
    }
}

impl Store {
    /// The folder given by `--data-dir`, else by `ANP_DATA_DIR` (if it is not empty), else the
    /// platform's data folder, for example `~/.local/share/anp`. It need not exist.
    pub fn locate(flag: Option<&Path>) -> Self {
        let variable = env::var_os(DATA_DIR_VARIABLE).filter(|value| !value.is_empty());
        let platform = directories::ProjectDirs::from("", "", "anp");
        Self::choose(
            flag,
            variable.as_deref().map(Path::new),
            platform.as_ref().map(directories::ProjectDirs::data_dir),
        )
    }

    pub(super) fn choose(
        flag: Option<&Path>,
        variable: Option<&Path>,
        platform: Option<&Path>,
    ) -> Self {
        let (root, origin) = match (flag, variable, platform) {
            (Some(flag), _, _) => (flag, Origin::Flag),
            (None, Some(variable), _) => (variable, Origin::Environment),
            (None, None, Some(platform)) => (platform, Origin::Platform),
            (None, None, None) => (Path::new("anp-data"), Origin::CurrentFolder),
        };
        Self { root: root.to_owned(), origin }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Why it is this folder.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Where `file` of `manifest` belongs.
    pub fn path(&self, manifest: &Manifest, file: &ManifestFile) -> PathBuf {
        self.root.join(&manifest.folder).join(&file.name)
    }

    /// `anp data VERB ARGUMENT`, with the flag that finds this store again if it needs one.
    pub fn command(&self, verb: &str, argument: &str) -> String {
        let flag = match self.origin {
            Origin::Flag => format!(" --data-dir {}", quoted(&self.root)),
            Origin::Environment | Origin::Platform | Origin::CurrentFolder => String::new(),
        };
        format!("anp data {verb} {argument}{flag}")
    }
}

/// A path as a word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/\\._-:~+=,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{text}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_before_variable_before_platform() {
        let [flag, variable, platform] =
            ["flag", "variable", "platform"].map(|p| Some(Path::new(p)));
        let at = |store: Store| (store.root().display().to_string(), store.origin());
        assert_eq!(at(Store::choose(flag, variable, platform)), ("flag".into(), Origin::Flag));
        assert_eq!(
            at(Store::choose(None, variable, platform)),
            ("variable".into(), Origin::Environment)
        );
        assert_eq!(at(Store::choose(None, None, platform)), ("platform".into(), Origin::Platform));
        assert_eq!(at(Store::choose(None, None, None)), ("anp-data".into(), Origin::CurrentFolder));
    }

    #[test]
    fn advice_repeats_the_flag() {
        let store = Store::choose(Some(Path::new("my data")), None, None);
        assert_eq!(
            store.command("fetch", "wikitext_2"),
            "anp data fetch wikitext_2 --data-dir 'my data'"
        );
    }
}
