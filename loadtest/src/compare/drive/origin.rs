//! What stands behind every proxy: two releases of a service whose answers were made once.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::super::wire::http1;

/// What the path of a request for the long body begins with, as the origin sees it.
pub(in crate::compare) const LONG: &str = "/media/";
/// Bytes of the long body.
const LONG_BYTES: usize = 16 << 10;
/// How the releases call themselves.
pub(in crate::compare) const RELEASES: [&str; 2] = ["api-41", "api-42"];

/// The origin's listeners and connections.
pub(super) struct Origin {
    releases: [Release; 2],
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// The latest request, while it is wanted.
    pub(super) heard: Option<String>,
}

/// One release, and how often it was asked.
struct Release {
    listener: TcpListener,
    short: Vec<u8>,
    long: Vec<u8>,
    hits: u64,
}

struct Connection {
    stream: TcpStream,
    release: usize,
    input: Vec<u8>,
    out: Vec<u8>,
    sent: usize,
}

impl Release {
    fn new(name: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let answer = |kind: &str, body: &[u8]| {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\ncache-control: no-store\r\nx-release: {name}\r\n\r\n",
                body.len()
            );
            [head.as_bytes(), body].concat()
        };
        Ok(Self {
            listener,
            short: answer(
                "application/json",
                br#"{"items":[{"id":1,"name":"tea"},{"id":2,"name":"cups"}],"next":null}"#,
            ),
            long: answer("image/webp", &[0x5a; LONG_BYTES]),
            hits: 0,
        })
    }
}

impl Origin {
    /// Listens on two ports; the tokens of the listeners are 0 and 1.
    pub(super) fn new(registry: &Registry) -> io::Result<Self> {
        let mut releases = [Release::new(RELEASES[0])?, Release::new(RELEASES[1])?];
        for (token, release) in releases.iter_mut().enumerate() {
            registry.register(&mut release.listener, Token(token), Interest::READABLE)?;
        }
        Ok(Self { releases, connections: Vec::new(), free: Vec::new(), heard: None })
    }

    /// Where each release listens.
    pub(super) fn addresses(&self) -> io::Result<[SocketAddr; 2]> {
        Ok([self.releases[0].listener.local_addr()?, self.releases[1].listener.local_addr()?])
    }

    /// How often each release was asked.
    pub(super) fn hits(&self) -> [u64; 2] {
        [self.releases[0].hits, self.releases[1].hits]
    }

    /// Takes all connections that wait at a release. `token` gives the token of a connection by its number.
    pub(super) fn accept(
        &mut self,
        release: usize,
        registry: &Registry,
        token: impl Fn(usize) -> Token,
    ) -> io::Result<()> {
        loop {
            let mut stream = match self.releases[release].listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let number = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            registry.register(&mut stream, token(number), Interest::READABLE | Interest::WRITABLE)?;
            let connection = Connection { stream, release, input: Vec::new(), out: Vec::new(), sent: 0 };
            self.connections[number] = Some(connection);
        }
    }

    /// Reads and answers what one connection has for us.
    pub(super) fn serve(&mut self, number: usize, closed: bool, scratch: &mut [u8]) {
        // An event of a connection that was closed in the same batch.
        let Some(Some(connection)) = self.connections.get_mut(number) else { return };
        let release = &mut self.releases[connection.release];
        // A proxy that breaks off takes the connection with it; what it lost, the client counts.
        if !matches!(connection.serve(release, &mut self.heard, closed, scratch), Ok(true)) {
            self.connections[number] = None;
            self.free.push(number);
        }
    }
}

impl Connection {
    /// False at the connection's end.
    fn serve(
        &mut self,
        release: &mut Release,
        heard: &mut Option<String>,
        closed: bool,
        scratch: &mut [u8],
    ) -> io::Result<bool> {
        let mut open = true;
        loop {
            match self.stream.read(scratch) {
                Ok(0) => open = false,
                Ok(bytes) => {
                    self.input.extend_from_slice(&scratch[..bytes]);
                    if closed || bytes == scratch.len() {
                        continue;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            break;
        }
        let mut begin = 0;
        while let Some(length) = http1::request_length(&self.input[begin..]) {
            let request = &self.input[begin..begin + length];
            let path = request.strip_prefix(b"GET ").unwrap_or_default();
            let long = path.starts_with(LONG.as_bytes());
            self.out.extend_from_slice(if long { &release.long } else { &release.short });
            release.hits += 1;
            if let Some(heard) = heard {
                *heard = String::from_utf8_lossy(request).into_owned();
            }
            begin += length;
        }
        self.input.drain(..begin);
        self.flush()?;
        Ok(open)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }
}
