//! A client's connection: nonblocking, with or without TLS.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};

/// What one read takes at most.
pub(super) const READ_BYTES: usize = 64 << 10;

/// How to speak TLS.
#[derive(Debug, Clone)]
pub(in crate::compare) struct Tls {
    /// Trust, ALPN and tickets.
    pub(in crate::compare) config: Arc<ClientConfig>,
    /// Whom to ask for.
    pub(in crate::compare) name: ServerName<'static>,
}

/// Bytes to and from a peer.
#[derive(Debug)]
pub(super) struct Transport {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// What is to be sent, before encryption.
    pub(super) out: Vec<u8>,
    sent: usize,
}

impl Transport {
    /// Begins to connect. What is put into `out` meanwhile is sent when the peer is ready for it.
    pub(super) fn connect(
        to: SocketAddr,
        tls: Option<&Tls>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let tls = match tls {
            Some(tls) => Some(Box::new(
                ClientConnection::new(Arc::clone(&tls.config), tls.name.clone()).map_err(io::Error::other)?,
            )),
            None => None,
        };
        Ok(Self { stream, tls, out: Vec::new(), sent: 0 })
    }

    /// Whether the TLS session of before was taken up again; `None` before that is known, and without TLS.
    pub(super) fn resumed(&self) -> Option<bool> {
        let kind = self.tls.as_ref()?.handshake_kind()?;
        Some(kind == HandshakeKind::Resumed)
    }

    /// Sends what can be sent.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            while self.sent < self.out.len() {
                match self.stream.write(&self.out[self.sent..]) {
                    Ok(bytes) => self.sent += bytes,
                    Err(error) if later(&error) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            self.out.clear();
            self.sent = 0;
            return Ok(());
        };
        tls.writer().write_all(&self.out)?;
        self.out.clear();
        while tls.wants_write() {
            match tls.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if later(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Appends what has arrived to `input`, all of it if the peer has `closed`; false when that is the end.
    ///
    /// Without `closed`, a read that does not fill `scratch` is the last: the next bytes bring another event.
    pub(super) fn receive(
        &mut self,
        closed: bool,
        input: &mut Vec<u8>,
        scratch: &mut [u8],
    ) -> io::Result<bool> {
        loop {
            let bytes = match self.stream.read(scratch) {
                Ok(0) => return Ok(false),
                Ok(bytes) => bytes,
                Err(error) if later(&error) => return Ok(true),
                Err(error) => return Err(error),
            };
            match &mut self.tls {
                Some(tls) => decrypt(tls, &scratch[..bytes], input)?,
                None => input.extend_from_slice(&scratch[..bytes]),
            }
            if bytes < scratch.len() && !closed {
                return Ok(true);
            }
        }
    }

    /// Says goodbye as TLS wants it, then closes.
    pub(super) fn close(mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            // Whoever closes does not wait for the peer to hear it.
            let _ = tls.write_tls(&mut self.stream);
        }
    }
}

fn decrypt(tls: &mut ClientConnection, mut bytes: &[u8], input: &mut Vec<u8>) -> io::Result<()> {
    while !bytes.is_empty() {
        tls.read_tls(&mut bytes)?;
        let state = tls.process_new_packets().map_err(io::Error::other)?;
        let (begin, length) = (input.len(), state.plaintext_bytes_to_read());
        input.resize(begin + length, 0);
        tls.reader().read_exact(&mut input[begin..])?;
    }
    Ok(())
}

/// Whether there is nothing to do now, but later.
fn later(error: &io::Error) -> bool {
    // A connection that is still being made is not connected.
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}
