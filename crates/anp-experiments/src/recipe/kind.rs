use serde::Deserialize;
use serde::de::IgnoredAny;

/// What a recipe is of. It has no tag: one of images names an image set in `data.images`, one of text
/// a corpus in `data.corpus`.
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
