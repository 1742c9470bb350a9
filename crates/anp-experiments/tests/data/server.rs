//! An HTTP server on the loopback address that misbehaves on request.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// How the server answers one request.
#[derive(Clone)]
pub enum Reply {
    /// As a good server does: the whole, or the range that was asked for.
    Good(Vec<u8>),
    /// The whole, whatever range was asked for.
    IgnoringRange(Vec<u8>),
    /// As `Good`, but the connection is closed after so many bytes of the body.
    CutAfter(usize, Vec<u8>),
    /// The first so many bytes as if they were all: no length, and an orderly end.
    EndAfter(usize, Vec<u8>),
    /// As `CutAfter`, but the connection stays open in silence.
    SilentAfter(usize, Vec<u8>),
    /// A range that was not asked for.
    OtherRange(Vec<u8>),
    /// A status and nothing else.
    Status(u16),
}

/// A request that the server has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub path: String,
    /// First byte of the range that was asked for.
    pub from: Option<usize>,
}

/// A running server; its threads end with the test process.
pub struct Server {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// `answer` gets the path and how often it was asked for before.
    pub fn start(answer: impl Fn(&str, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&requests), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                thread::spawn(move || {
                    // The client may hang up at any time.
                    let _ = serve(stream.unwrap(), &log, answer.as_ref());
                });
            }
        });
        Self { address, requests }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The offsets that `path` was asked for so far; `None` is the whole.
    pub fn offsets(&self, path: &str) -> Vec<Option<usize>> {
        self.requests()
            .into_iter()
            .filter(|request| request.path == path)
            .map(|request| request.from)
            .collect()
    }
}

fn serve(
    mut stream: TcpStream,
    log: &Mutex<Vec<Request>>,
    answer: &dyn Fn(&str, usize) -> Reply,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let path = lines.next().unwrap()?.split(' ').nth(1).unwrap().to_owned();
    let mut from = None;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = Some(range.trim_end_matches('-').parse().unwrap());
        }
        if let Some(encoding) = line.strip_prefix("accept-encoding: ") {
            assert_eq!(encoding, "identity", "a compressed answer has no ranges");
        }
    }
    let before = {
        let mut log = log.lock().unwrap();
        let before = log.iter().filter(|request| request.path == path).count();
        log.push(Request { path: path.clone(), from });
        before
    };

    match answer(&path, before) {
        Reply::Good(body) => send(&mut stream, &body, from, usize::MAX)?,
        Reply::IgnoringRange(body) => send(&mut stream, &body, None, usize::MAX)?,
        Reply::CutAfter(len, body) => send(&mut stream, &body, from, len)?,
        Reply::EndAfter(len, body) => {
            write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            stream.write_all(&body[..len])?;
        }
        Reply::SilentAfter(len, body) => {
            send(&mut stream, &body, from, len)?;
            thread::sleep(Duration::from_secs(20));
        }
        Reply::OtherRange(body) => {
            let len = body.len();
            write!(
                stream,
                "HTTP/1.1 206 Partial Content\r\nConnection: close\r\n\
                 Content-Range: bytes 1-{}/{len}\r\nContent-Length: {}\r\n\r\n",
                len - 1,
                len - 1
            )?;
            stream.write_all(&body[1..])?;
        }
        Reply::Status(status) => {
            write!(
                stream,
                "HTTP/1.1 {status} So\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )?;
        }
    }
    stream.flush()
}

/// The body from `from` on, as far as `limit` bytes.
fn send(
    stream: &mut TcpStream,
    body: &[u8],
    from: Option<usize>,
    limit: usize,
) -> std::io::Result<()> {
    let len = body.len();
    let start = from.unwrap_or(0);
    if start >= len {
        return write!(
            stream,
            "HTTP/1.1 416 So\r\nConnection: close\r\nContent-Range: bytes */{len}\r\n\
             Content-Length: 0\r\n\r\n"
        );
    }
    match from {
        None => write!(stream, "HTTP/1.1 200 OK\r\n")?,
        Some(_) => {
            write!(
                stream,
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{len}\r\n",
                len - 1
            )?;
        }
    }
    write!(stream, "Connection: close\r\nContent-Length: {}\r\n\r\n", len - start)?;
    let body = &body[start..];
    stream.write_all(&body[..limit.min(body.len())])
}
