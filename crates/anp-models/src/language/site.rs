use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::site::{ParseSiteError, serde_by_name};

/// A place in a network whose activation can be penalised or measured.
///
/// Written in recipes as `embedding`, `layer[0].cell`, `layer[0].hidden`, `output_raw`,
/// `output_dropped`, `logits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Site {
    /// The word embedding, before dropout: `[seq_length, batch_size, d_embed]`.
    Embedding,
    /// Cell states `c_t` of a recurrent layer (from 0): `[seq_length, batch_size, d_hidden]`.
    LayerCell(usize),
    /// Hidden states `h_t` of a recurrent layer (from 0), before dropout:
    /// `[seq_length, batch_size, d_hidden]`.
    LayerHidden(usize),
    /// Hidden states of the last layer, before dropout; the same as `LayerHidden` of the last
    /// layer.
    OutputRaw,
    /// Hidden states of the last layer after output dropout, which the decoder sees.
    OutputDropped,
    /// Decoder outputs before the softmax: `[seq_length, batch_size, vocab_size]`.
    Logits,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedding => f.write_str("embedding"),
            Self::LayerCell(layer) => write!(f, "layer[{layer}].cell"),
            Self::LayerHidden(layer) => write!(f, "layer[{layer}].hidden"),
            Self::OutputRaw => f.write_str("output_raw"),
            Self::OutputDropped => f.write_str("output_dropped"),
            Self::Logits => f.write_str("logits"),
        }
    }
}

impl FromStr for Site {
    type Err = ParseSiteError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let layer_site = || {
            let (index, part) = text.strip_prefix("layer[")?.split_once("].")?;
            let layer = index.parse().ok()?;
            match part {
                "cell" => Some(Self::LayerCell(layer)),
                "hidden" => Some(Self::LayerHidden(layer)),
                _ => None,
            }
        };
        match text {
            "embedding" => Ok(Self::Embedding),
            "output_raw" => Ok(Self::OutputRaw),
            "output_dropped" => Ok(Self::OutputDropped),
            "logits" => Ok(Self::Logits),
            _ => layer_site().ok_or_else(|| ParseSiteError {
                text: text.to_owned(),
                known: "embedding, layer[i].cell, layer[i].hidden, output_raw, output_dropped, \
                        logits",
            }),
        }
    }
}

serde_by_name!(Site);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_site_reads_back_what_it_writes() {
        for site in [
            Site::Embedding,
            Site::LayerCell(0),
            Site::LayerHidden(11),
            Site::OutputRaw,
            Site::OutputDropped,
            Site::Logits,
        ] {
            assert_eq!(site.to_string().parse(), Ok(site));
        }
    }

    #[test]
    fn an_unknown_site_is_named_in_the_error() {
        for text in ["", "hidden", "layer[x].cell", "layer[0].gate", "layer[-1].cell", "Logits"] {
            let err = text.parse::<Site>().unwrap_err();
            assert!(err.to_string().contains(&format!("`{text}`")), "{err}");
        }
    }
}
