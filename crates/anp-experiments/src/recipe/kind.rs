use serde::Deserialize;
use serde::de::IgnoredAny;

/// The kind of a recipe. It has no tag: a recipe for images names an image set in `data.images`,
/// one for text a corpus in `data.corpus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(from = "Tables")]
pub(crate) enum Kind {
    /// A language model.
    Text,
    /// An image classifier.
    Image,
}

#[derive(Deserialize)]
struct Tables {
    #[serde(default)]
    data: Data,
}

#[derive(Default, Deserialize)]
struct Data {
    images: Option<IgnoredAny>,
}

impl From<Tables> for Kind {
    fn from(tables: Tables) -> Self {
        if tables.data.images.is_some() { Self::Image } else { Self::Text }
    }
}
