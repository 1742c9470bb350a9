//! Downloads that survive broken connections, wrong files and full disks.

pub(super) mod failure;
mod part;

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::thread;
use std::time::Duration;

use ureq::Agent;
use ureq::http::{HeaderMap, StatusCode, header};

use self::failure::{FailedAddress, FetchFailure};
use self::part::Part;
use super::error::DataError;
use super::import::ImportOutcome;
use super::manifest::{Archive, Manifest, ManifestFile, Split};
use super::store::Store;
use crate::atomic;

/// An attempt that brought fewer new bytes than this counts as one that brought none.
const PROGRESS: u64 = 64 * 1024;

/// How to download.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Attempts at one address that bring nothing new, before the next address is tried; at least
    /// 1.
    pub attempts: u32,
    /// Pause before the second attempt; doubles from one to the next.
    pub pause: Duration,
    /// Longest time for finding and connecting to a server.
    pub connect_timeout: Duration,
    /// Longest silence of a server.
    pub read_timeout: Duration,
    /// Whether `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` are heeded.
    pub proxy_from_environment: bool,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            attempts: 3,
            pause: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(15),
            read_timeout: Duration::from_secs(30),
            proxy_from_environment: true,
        }
    }
}

/// What a download reports while it goes on.
#[derive(Debug)]
#[non_exhaustive]
pub enum FetchEvent<'a> {
    /// The right file is there already; nothing is done.
    Whole {
        /// The file.
        path: &'a Path,
    },
    /// An address is asked for a file.
    Started {
        /// The file.
        path: &'a Path,
        /// The address.
        url: &'a str,
        /// Bytes that are here already.
        done: u64,
        /// Size of the file.
        total: u64,
    },
    /// Bytes have arrived.
    Advanced {
        /// Bytes that are here; smaller than before if the file had to be started over.
        done: u64,
        /// Size of the file.
        total: u64,
    },
    /// An attempt failed.
    Failed {
        /// The address.
        url: &'a str,
        /// Why.
        reason: &'a FetchFailure,
        /// The pause before the same address is tried again; `None` if it is given up.
        retry: Option<Duration>,
    },
    /// The file is complete, its checksum is right, and it has its name.
    Finished {
        /// The file.
        path: &'a Path,
        /// Size of the file.
        total: u64,
    },
}

impl Store {
    /// Download what is missing or damaged of a data set.
    ///
    /// Every file is written to `<name>.part` and gets its name when it is complete, its SHA-256 is
    /// right and it is on the disk. A part that is left over, from a broken transfer or a killed
    /// process, is continued. Addresses are tried in turn. Right files are left alone, and so are
    /// all files of a data set that is compiled in. Where a data set has an archive, that is
    /// downloaded, unpacked and removed.
    ///
    /// # Errors
    ///
    /// [`DataError::Fetch`] lists every address of the first file that no address gave, with its
    /// reason; [`DataError::Busy`] if another process downloads the same file; [`DataError::Read`]
    /// or [`DataError::Write`] if this machine is to blame. Files that were complete before stay.
    pub fn fetch(
        &self,
        manifest: &Manifest,
        options: &FetchOptions,
        observer: &mut dyn FnMut(FetchEvent<'_>),
    ) -> Result<(), DataError> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(concat!("anp/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(options.connect_timeout))
            .timeout_connect(Some(options.connect_timeout))
            .timeout_recv_response(Some(options.read_timeout))
            .timeout_per_read(Some(options.read_timeout));
        if !options.proxy_from_environment {
            config = config.proxy(None);
        }
        let agent = config.build().into();

        let download = |file: &ManifestFile, observer: &mut dyn FnMut(FetchEvent<'_>)| {
            let path = &self.path(manifest, file);
            Download { store: self, manifest, file, path, agent: &agent, options, observer }.run()
        };

        let Some(archive) = &manifest.archive else {
            return manifest.files.iter().try_for_each(|file| download(file, observer));
        };
        let mut due = Vec::new();
        for file in &manifest.files {
            let path = self.path(manifest, file);
            if self.has(manifest, file)? {
                observer(FetchEvent::Whole { path: &path });
            } else {
                due.push((file, path));
            }
        }
        if due.is_empty() {
            return Ok(());
        }
        let whole = archive.as_file();
        let path = self.path(manifest, &whole);
        download(&whole, observer)?;
        let folder = [atomic::folder_of(&path).to_owned()];
        for (file, place) in due {
            let outcome = self.import_file(manifest, file, &place, &folder)?;
            if let ImportOutcome::NotFound { candidates } = outcome {
                let reasons: Vec<_> = candidates.iter().map(ToString::to_string).collect();
                let source = io::Error::other(reasons.join("; "));
                return Err(DataError::Read { path, source });
            }
        }
        // What it held is there now.
        fs::remove_file(&path).map_err(DataError::write(&path))
    }
}

impl Archive {
    /// As a file that can be downloaded.
    fn as_file(&self) -> ManifestFile {
        ManifestFile {
            split: Split::Train,
            name: self.name.clone(),
            aliases: Vec::new(),
            bytes: self.bytes,
            sha256: self.sha256.clone(),
            variant_sha256: None,
            lines: 0,
            tokens: 0,
            images: 0,
            urls: self.urls.clone(),
        }
    }
}

/// The download of one file.
struct Download<'a, 'o> {
    store: &'a Store,
    manifest: &'a Manifest,
    file: &'a ManifestFile,
    path: &'a Path,
    agent: &'a Agent,
    options: &'a FetchOptions,
    observer: &'o mut dyn FnMut(FetchEvent<'_>),
}

/// Whose fault a failed attempt is.
#[derive(Debug, thiserror::Error)]
enum Stop {
    /// This machine's: no address will help.
    #[error(transparent)]
    Here(#[from] DataError),
    /// The address's.
    #[error(transparent)]
    There(#[from] FetchFailure),
}

impl Download<'_, '_> {
    fn run(&mut self) -> Result<(), DataError> {
        if self.is_whole()? {
            return Ok(());
        }
        let mut part = Part::open(self.path)?;
        // Another process may have finished between the look at the file and the lock on its part.
        if self.is_whole()? {
            return part.discard();
        }

        let mut addresses = Vec::new();
        for url in &self.file.urls {
            match self.complete_from(url, &mut part) {
                Ok(()) => {
                    part.finish(self.path)?;
                    let (path, total) = (self.path, self.file.bytes);
                    (self.observer)(FetchEvent::Finished { path, total });
                    return Ok(());
                }
                Err(Stop::Here(err)) => return Err(err),
                Err(Stop::There(reason)) => {
                    (self.observer)(FetchEvent::Failed { url, reason: &reason, retry: None });
                    addresses.push(FailedAddress { url: url.clone(), reason });
                }
            }
        }
        if part.len() == 0 {
            part.discard()?;
        }
        Err(DataError::Fetch {
            path: self.path.to_owned(),
            addresses,
            import: self.store.command("import", "DIR"),
        })
    }

    fn is_whole(&mut self) -> Result<bool, DataError> {
        let is_whole = self.store.has(self.manifest, self.file)?;
        if is_whole {
            (self.observer)(FetchEvent::Whole { path: self.path });
        }
        Ok(is_whole)
    }

    /// Complete the part from one address and check it.
    fn complete_from(&mut self, url: &str, part: &mut Part) -> Result<(), Stop> {
        let mut failures = 0;
        let mut furthest = part.len();
        part.begin_address();
        loop {
            let reason = match self.attempt(url, part) {
                Ok(()) => {
                    let (found, expected) = (part.digest()?, self.file.sha256.clone());
                    if found == expected {
                        return Ok(());
                    }
                    let is_own = part.is_of_one_address();
                    part.clear()?;
                    let reason = FetchFailure::WrongChecksum { found, expected };
                    if is_own {
                        return Err(reason.into());
                    }
                    // The bytes that were here before may be the wrong ones.
                    furthest = 0;
                    let retry = Some(Duration::ZERO);
                    (self.observer)(FetchEvent::Failed { url, reason: &reason, retry });
                    continue;
                }
                Err(Stop::There(reason)) => reason,
                Err(here) => return Err(here),
            };

            if part.len() >= furthest + PROGRESS {
                failures = 0;
                furthest = part.len();
            }
            failures += 1;
            if !reason.may_pass() || failures >= self.options.attempts {
                return Err(reason.into());
            }
            let pause = self.options.pause * 2_u32.saturating_pow(failures - 1);
            (self.observer)(FetchEvent::Failed { url, reason: &reason, retry: Some(pause) });
            thread::sleep(pause);
        }
    }

    /// One request: append to the part what is missing.
    fn attempt(&mut self, url: &str, part: &mut Part) -> Result<(), Stop> {
        let total = self.file.bytes;
        if part.len() > total {
            part.clear()?;
        }
        (self.observer)(FetchEvent::Started { path: self.path, url, done: part.len(), total });
        if part.len() == total {
            return Ok(());
        }

        // A compressed answer would have another length and no ranges.
        let mut request = self.agent.get(url).header(header::ACCEPT_ENCODING, "identity");
        if part.len() > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", part.len()));
        }
        let mut response = request.call().map_err(|err| FetchFailure::Transport(Box::new(err)))?;

        match response.status() {
            StatusCode::OK => {
                let found = content_length(response.headers()).unwrap_or(total);
                if found != total {
                    return Err(FetchFailure::WrongSize { found, expected: total }.into());
                }
                // The server sends the whole file, whether it was asked for a part or not.
                part.clear()?;
            }
            StatusCode::PARTIAL_CONTENT if part.len() > 0 => {
                let asked = part.len();
                match content_range(response.headers()) {
                    Some((start, _)) if start != asked => {
                        let found = header_text(response.headers(), header::CONTENT_RANGE);
                        part.clear()?;
                        return Err(FetchFailure::WrongRange { asked, found }.into());
                    }
                    Some((_, Some(found))) if found != total => {
                        return Err(FetchFailure::WrongSize { found, expected: total }.into());
                    }
                    _ => {}
                }
            }
            // What is here is not a beginning of what the server has.
            StatusCode::RANGE_NOT_SATISFIABLE if part.len() > 0 => {
                part.clear()?;
                return self.attempt(url, part);
            }
            status => return Err(FetchFailure::Status(status).into()),
        }

        let mut body = response.body_mut().as_reader();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) if part.len() == total => return Ok(()),
                Ok(0) => return Err(FetchFailure::Truncated { done: part.len(), total }.into()),
                Ok(read) => read,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(FetchFailure::Broken { done: part.len(), total, source }.into());
                }
            };
            part.append(&buffer[..read])?;
            if part.len() > total {
                part.clear()?;
                return Err(FetchFailure::TooLong { expected: total }.into());
            }
            (self.observer)(FetchEvent::Advanced { done: part.len(), total });
        }
    }
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> String {
    let value = headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    value.unwrap_or_default().into_owned()
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    header_text(headers, header::CONTENT_LENGTH).trim().parse().ok()
}

/// First byte and size of the whole, from `bytes FIRST-LAST/SIZE` or `bytes FIRST-LAST/*`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let text = header_text(headers, header::CONTENT_RANGE);
    let (first, rest) = text.trim().strip_prefix("bytes ")?.split_once('-')?;
    let (_, size) = rest.split_once('/')?;
    Some((first.trim().parse().ok()?, size.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &'static str) -> Option<(u64, Option<u64>)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_RANGE, header::HeaderValue::from_static(text));
        content_range(&headers)
    }

    #[test]
    fn content_ranges_are_understood() {
        assert_eq!(range("bytes 100-199/200"), Some((100, Some(200))));
        assert_eq!(range("bytes 100-199/*"), Some((100, None)));
        assert_eq!(range("bytes */200"), None);
        assert_eq!(range("lines 1-2/3"), None);
        assert_eq!(content_range(&HeaderMap::new()), None);
    }
}
