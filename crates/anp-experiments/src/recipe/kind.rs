use serde::Deserialize;
use serde::de::IgnoredAny;

/// The kind of a recipe. It has no tag: a recipe for images names an image set in `data.images`,
/// one for text a corpus in `data.corpus`; one for images with a `model.vib` has a bottleneck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(from = "Tables")]
pub(crate) enum Kind {
    /// A language model.
    Text,
    /// An image classifier.
    Image,
    /// An image classifier with a bottleneck.
    Vib,
}

#[derive(Deserialize)]
struct Tables {
    #[serde(default)]
    data: Data,
    #[serde(default)]
    model: Model,
}

#[derive(Default, Deserialize)]
struct Data {
    images: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
struct Model {
    vib: Option<IgnoredAny>,
}

impl From<Tables> for Kind {
    fn from(tables: Tables) -> Self {
        match (tables.data.images, tables.model.vib) {
            (None, _) => Self::Text,
            (Some(_), None) => Self::Image,
            (Some(_), Some(_)) => Self::Vib,
        }
    }
}
