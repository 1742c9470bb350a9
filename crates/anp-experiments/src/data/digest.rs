//! SHA-256 in hexadecimal.

use std::{fmt, io, io::Read};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A SHA-256 as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256Hex(String);

/// A text that is not a SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a SHA-256: 64 lower-case hexadecimal digits")]
pub struct NotASha256(String);

impl Sha256Hex {
    /// The checksum of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::finish(Sha256::new_with_prefix(bytes))
    }

    /// The checksum and the number of bytes of all that `reader` gives.
    ///
    /// # Errors
    ///
    /// What `reader` answers.
    pub fn of_reader(mut reader: impl Read) -> io::Result<(Self, u64)> {
        let mut hasher = Sha256::new();
        let bytes = io::copy(&mut reader, &mut hasher)?;
        Ok((Self::finish(hasher), bytes))
    }

    /// The checksum of what `hasher` has seen.
    pub(super) fn finish(hasher: Sha256) -> Self {
        let hex = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self(hex)
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sha256Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Sha256Hex {
    type Error = NotASha256;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(is_digit) {
            Ok(Self(text))
        } else {
            Err(NotASha256(text))
        }
    }
}

impl From<Sha256Hex> for String {
    fn from(digest: Sha256Hex) -> Self {
        digest.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf abc | sha256sum`, the first test vector of FIPS 180-4.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn agrees_with_the_standard() {
        assert_eq!(Sha256Hex::of(b"abc").as_str(), ABC);
        let (digest, bytes) = Sha256Hex::of_reader(&b"abc"[..]).unwrap();
        assert_eq!((digest.as_str(), bytes), (ABC, 3));
    }

    #[test]
    fn refuses_what_is_not_a_checksum() {
        assert!(Sha256Hex::try_from(ABC.to_owned()).is_ok());
        assert!(Sha256Hex::try_from(ABC.to_uppercase()).is_err());
        assert!(Sha256Hex::try_from(ABC[1..].to_owned()).is_err());
    }
}
