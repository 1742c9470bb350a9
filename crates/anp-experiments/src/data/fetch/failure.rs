//! Why an address did not give the right file.

use std::io;

use ureq::http::StatusCode;

use crate::data::digest::Sha256Hex;

/// Why an address did not give the right file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchFailure {
    /// The server could not be reached or broke the protocol.
    #[error("{0}")]
    Transport(Box<ureq::Error>),
    /// The server refuses.
    #[error("the server answers {0}")]
    Status(StatusCode),
    /// The transfer broke.
    #[error("the transfer broke after {done} of {total} bytes ({source})")]
    Broken {
        /// Bytes that are here.
        done: u64,
        /// Size of the file.
        total: u64,
        /// Why.
        source: io::Error,
    },
    /// The server says that it is done, but it is not.
    #[error("the transfer ended after {done} of {total} bytes")]
    Truncated {
        /// Bytes that are here.
        done: u64,
        /// Size of the file.
        total: u64,
    },
    /// The server has a file of another size.
    #[error("the server has a file of {found} bytes, not of {expected}")]
    WrongSize {
        /// Bytes that the server announces.
        found: u64,
        /// Size of the file.
        expected: u64,
    },
    /// The server sends more than the file has.
    #[error("the server sends more than the {expected} bytes of the file")]
    TooLong {
        /// Size of the file.
        expected: u64,
    },
    /// The server answers a request for a part with another part.
    #[error("the server was asked for the bytes from {asked} on and sends `{found}`")]
    WrongRange {
        /// Offset that was asked for.
        asked: u64,
        /// `Content-Range` of the answer.
        found: String,
    },
    /// All bytes are there, but they are others.
    #[error("the file has the SHA-256 {found}, not {expected}")]
    WrongChecksum {
        /// SHA-256 of what the server sent.
        found: Sha256Hex,
        /// SHA-256 of the file.
        expected: Sha256Hex,
    },
}

impl FetchFailure {
    /// Whether the same address may give the right file a little later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Transport(err) => match err.as_ref() {
                // Not, say, a name that cannot be resolved or a refused connection.
                ureq::Error::Io(err) => matches!(
                    err.kind(),
                    io::ErrorKind::ConnectionReset
                        | io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::BrokenPipe
                        | io::ErrorKind::UnexpectedEof
                        | io::ErrorKind::TimedOut
                        | io::ErrorKind::WouldBlock
                ),
                ureq::Error::Timeout(_) | ureq::Error::Protocol(_) => true,
                _ => false,
            },
            // Timeout, too early, too many requests.
            Self::Status(status) => {
                status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
            }
            Self::Broken { .. } | Self::Truncated { .. } | Self::WrongRange { .. } => true,
            Self::WrongSize { .. } | Self::TooLong { .. } | Self::WrongChecksum { .. } => false,
        }
    }
}

/// An address and why it did not give the right file.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {reason}")]
pub struct FailedAddress {
    /// The address.
    pub url: String,
    /// Why.
    pub reason: FetchFailure,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_passing_faults_are_tried_again() {
        assert!(FetchFailure::Status(StatusCode::BAD_GATEWAY).may_pass());
        assert!(FetchFailure::Status(StatusCode::TOO_MANY_REQUESTS).may_pass());
        assert!(FetchFailure::Truncated { done: 1, total: 2 }.may_pass());
        assert!(!FetchFailure::Status(StatusCode::NOT_FOUND).may_pass());
        assert!(!FetchFailure::WrongSize { found: 1, expected: 2 }.may_pass());
        assert!(!FetchFailure::Transport(Box::new(ureq::Error::HostNotFound)).may_pass());
    }
}
