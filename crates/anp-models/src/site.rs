//! What the sites of all networks share.

/// A text that names no site of a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no site; known are {known}")]
pub struct ParseSiteError {
    pub(crate) text: String,
    /// The names that there are.
    pub(crate) known: &'static str,
}

/// Let serde read and write a site by its name.
macro_rules! serde_by_name {
    ($site:ident) => {
        impl TryFrom<String> for $site {
            type Error = ParseSiteError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$site> for String {
            fn from(site: $site) -> Self {
                site.to_string()
            }
        }
    };
}
pub(crate) use serde_by_name;
