//! What an origin remembers of the requests it got.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, Method, Version, request};
use parking_lot::Mutex;
use xxhash_rust::xxh3::Xxh3;

/// Requests an origin keeps; later ones are only counted.
pub const KEPT_REQUESTS: usize = 10_000;

/// Body bytes kept of each request; the rest is only counted and hashed.
pub const KEPT_BODY_BYTES: usize = 64 << 10;

/// One request as it reached the origin.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which of the origin's connections it came on; the first is 1.
    pub connection: usize,
    /// The method.
    pub method: Method,
    /// Path and query, as sent.
    pub path: String,
    /// HTTP/1.0, HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// The fields, in order; on HTTP/2 `:authority` comes first, as `:authority`.
    pub headers: Vec<(String, String)>,
    /// The first [`KEPT_BODY_BYTES`] of the body that have arrived.
    pub body: Vec<u8>,
    /// How much of the body has arrived.
    pub body_bytes: u64,
    /// The body's XXH3 hash so far.
    pub body_xxh3: u64,
    /// Trailer fields, in order.
    pub trailers: Vec<(String, String)>,
    /// Whether the body has arrived to its end.
    pub complete: bool,
}

impl Request {
    /// The first value of a field, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a field, by its lower-case name.
    pub fn header_values(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The kept part of the body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The entry of a request that may still be arriving.
#[derive(Clone, Debug)]
pub(super) struct Entry(Arc<Mutex<Arriving>>);

struct Arriving {
    request: Request,
    hash: Xxh3,
}

impl fmt::Debug for Arriving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.request.fmt(f)
    }
}

impl Entry {
    pub(super) fn new(head: &request::Parts, connection: usize) -> Self {
        let mut headers = fields(&head.headers);
        if let Some(authority) = head.uri.authority() {
            headers.insert(0, (":authority".to_owned(), authority.to_string()));
        }
        let request = Request {
            connection,
            method: head.method.clone(),
            path: head.uri.path_and_query().map_or_else(String::new, ToString::to_string),
            version: head.version,
            headers,
            body: Vec::new(),
            body_bytes: 0,
            body_xxh3: 0,
            trailers: Vec::new(),
            complete: false,
        };
        Self(Arc::new(Mutex::new(Arriving { request, hash: Xxh3::new() })))
    }

    pub(super) fn data(&self, bytes: &[u8]) {
        let mut arriving = self.0.lock();
        arriving.hash.update(bytes);
        arriving.request.body_xxh3 = arriving.hash.digest();
        arriving.request.body_bytes += bytes.len() as u64;
        let room = KEPT_BODY_BYTES - arriving.request.body.len();
        arriving.request.body.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    pub(super) fn trailers(&self, trailers: &HeaderMap) {
        self.0.lock().request.trailers = fields(trailers);
    }

    pub(super) fn complete(&self) {
        self.0.lock().request.complete = true;
    }

    pub(super) fn snapshot(&self) -> Request {
        self.0.lock().request.clone()
    }
}

fn fields(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}
