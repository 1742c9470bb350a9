use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::site::{ParseSiteError, serde_by_name};

/// A place in an image network whose activation can be penalised or measured.
///
/// Written in recipes as `conv1`, `group1`, `group2`, `group3`, `relu`, `pooled`, `logits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ImageSite {
    /// The first convolution.
    Conv1,
    /// A group of blocks, from 1 to 3.
    Group(usize),
    /// The last rectifier, before the pooling.
    Relu,
    /// The features after the average pooling, which the linear layer sees.
    Pooled,
    /// Outputs before the softmax.
    Logits,
}

impl fmt::Display for ImageSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conv1 => f.write_str("conv1"),
            Self::Group(group) => write!(f, "group{group}"),
            Self::Relu => f.write_str("relu"),
            Self::Pooled => f.write_str("pooled"),
            Self::Logits => f.write_str("logits"),
        }
    }
}

impl FromStr for ImageSite {
    type Err = ParseSiteError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "conv1" => Ok(Self::Conv1),
            "group1" => Ok(Self::Group(1)),
            "group2" => Ok(Self::Group(2)),
            "group3" => Ok(Self::Group(3)),
            "relu" => Ok(Self::Relu),
            "pooled" => Ok(Self::Pooled),
            "logits" => Ok(Self::Logits),
            _ => Err(ParseSiteError {
                text: text.to_owned(),
                known: "conv1, group1, group2, group3, relu, pooled, logits",
            }),
        }
    }
}

serde_by_name!(ImageSite);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_read_back_what_they_write_and_others_are_named() {
        let groups = [1, 2, 3].map(ImageSite::Group);
        let others = [ImageSite::Conv1, ImageSite::Relu, ImageSite::Pooled, ImageSite::Logits];
        for site in groups.into_iter().chain(others) {
            assert_eq!(site.to_string().parse(), Ok(site));
        }
        for text in ["", "group0", "group4", "output_raw"] {
            let err = text.parse::<ImageSite>().unwrap_err();
            assert!(err.to_string().contains(&format!("`{text}`")), "{err}");
        }
    }
}
