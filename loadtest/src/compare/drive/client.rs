//! One client connection and the requests that are under way on it.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use mio::{Registry, Token};

use super::super::wire::{Malformed, Request, http1, http2};
use super::transport::{Tls, Transport};

/// Which HTTP is spoken, and what a request is in it.
#[derive(Debug, Clone)]
pub(in crate::compare) enum Speech {
    /// HTTP/1.1: the bytes of the request.
    Http1(Vec<u8>),
    /// HTTP/2: its header blocks.
    Http2(http2::Blocks),
}

impl Speech {
    /// For a request over HTTP/1.1.
    pub(in crate::compare) fn http1(request: &Request) -> Self {
        Self::Http1(http1::request(request))
    }

    /// For a request over HTTP/2 and TLS.
    pub(in crate::compare) fn http2(request: &Request) -> Self {
        Self::Http2(http2::Blocks::new(request, "https"))
    }
}

/// What came of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    /// When it was due.
    pub(super) due: Instant,
    /// How it was answered.
    pub(super) status: u16,
}

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("the proxy closed the connection")]
    Closed,
    #[error("the proxy reset a stream")]
    Reset,
}

/// A connection with its conversation.
#[derive(Debug)]
pub(super) struct Client {
    transport: Transport,
    input: Vec<u8>,
    talk: Talk,
}

#[derive(Debug)]
enum Talk {
    Http1 { due: Option<Instant>, keep_alive: bool },
    Http2 { connection: http2::Connection, open: Vec<(u32, Instant)>, going_away: bool },
}

impl Client {
    /// Begins to connect.
    pub(super) fn connect(
        to: SocketAddr,
        tls: Option<&Tls>,
        speech: &Speech,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let mut transport = Transport::connect(to, tls, registry, token)?;
        let talk = match speech {
            Speech::Http1(_) => Talk::Http1 { due: None, keep_alive: true },
            Speech::Http2(_) => {
                let connection = http2::Connection::new(&mut transport.out);
                Talk::Http2 { connection, open: Vec::new(), going_away: false }
            }
        };
        Ok(Self { transport, input: Vec::new(), talk })
    }

    /// Puts a request into the buffer. The caller sees to it that there is room: one at a time on HTTP/1.1.
    pub(super) fn put(&mut self, speech: &Speech, due: Instant) {
        match (&mut self.talk, speech) {
            (Talk::Http1 { due: waiting, .. }, Speech::Http1(bytes)) => {
                *waiting = Some(due);
                self.transport.out.extend_from_slice(bytes);
            }
            (Talk::Http2 { connection, open, .. }, Speech::Http2(blocks)) => {
                open.push((connection.request(blocks, &mut self.transport.out), due));
            }
            // A connection speaks what it was opened with.
            _ => {}
        }
    }

    /// Sends what is in the buffer.
    pub(super) fn flush(&mut self) -> Result<(), Lost> {
        Ok(self.transport.flush()?)
    }

    /// Takes what has arrived, and puts the requests it ends into `ended`.
    pub(super) fn receive(
        &mut self,
        closed: bool,
        scratch: &mut [u8],
        ended: &mut Vec<Ended>,
    ) -> Result<(), Lost> {
        let open = self.transport.receive(closed, &mut self.input, scratch)?;
        let mut begin = 0;
        while let Some(length) = self.take(begin, ended)? {
            begin += length;
        }
        self.input.drain(..begin);
        if open { Ok(()) } else { Err(Lost::Closed) }
    }

    /// Takes one message or frame at `begin`; its length, `None` while it is incomplete.
    fn take(&mut self, begin: usize, ended: &mut Vec<Ended>) -> Result<Option<usize>, Lost> {
        let input = &self.input[begin..];
        if input.is_empty() {
            return Ok(None);
        }
        match &mut self.talk {
            Talk::Http1 { due, keep_alive } => {
                let Some(answer) = http1::answer(input)? else { return Ok(None) };
                let due = due.take().ok_or(Malformed("an answer nobody asked for"))?;
                *keep_alive = answer.keep_alive;
                ended.push(Ended { due, status: answer.status });
                Ok(Some(answer.length))
            }
            Talk::Http2 { connection, open, going_away } => {
                let Some((length, event)) = connection.take(input, &mut self.transport.out)? else {
                    return Ok(None);
                };
                match event {
                    Some(http2::Event::Answered { stream, status }) => {
                        let at = open.iter().position(|(known, _)| *known == stream);
                        let at = at.ok_or(Malformed("an answer nobody asked for"))?;
                        ended.push(Ended { due: open.swap_remove(at).1, status });
                    }
                    Some(http2::Event::Reset { .. }) => return Err(Lost::Reset),
                    Some(http2::Event::GoAway) => *going_away = true,
                    None => {}
                }
                Ok(Some(length))
            }
        }
    }

    /// Requests under way.
    pub(super) fn waiting(&self) -> usize {
        match &self.talk {
            Talk::Http1 { due, .. } => usize::from(due.is_some()),
            Talk::Http2 { open, .. } => open.len(),
        }
    }

    /// Whether it is to be replaced before the next request.
    pub(super) fn spent(&self) -> bool {
        match &self.talk {
            Talk::Http1 { keep_alive, .. } => !keep_alive,
            Talk::Http2 { going_away, .. } => *going_away,
        }
    }

    /// Whether its TLS session was resumed.
    pub(super) fn resumed(&self) -> bool {
        self.transport.resumed() == Some(true)
    }

    /// Ends the connection politely.
    pub(super) fn close(self) {
        self.transport.close();
    }
}
