//! HTTP/2 as a client that asks for one thing again and again: frames are walked, header blocks of answers are only
//! looked at for their status.
//!
//! The request's fields enter the peer's dynamic table with the first request of a connection (RFC 7541 §6.2.1) and are
//! named by index ever after, as browsers do.

use super::{Malformed, Request};

const FRAME_HEADER: usize = 9;
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;
/// The longest frame a peer may send, as nothing else was asked for.
const LONGEST_FRAME: usize = 16 << 10;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;

/// What has to be told of a peer's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::compare) enum Event {
    /// A stream's answer is complete; the status is 0 when it was not said in the one way all peers say 200.
    Answered { stream: u32, status: u16 },
    /// The peer gave a stream up.
    Reset { stream: u32 },
    /// The peer takes no more requests on this connection.
    GoAway,
}

/// The blocks of a request, made once for all connections.
#[derive(Debug, Clone)]
pub(in crate::compare) struct Blocks {
    first: Vec<u8>,
    later: Vec<u8>,
}

impl Blocks {
    /// For a request over `https`, or `http` in the clear.
    pub(in crate::compare) fn new(request: &Request, scheme: &str) -> Self {
        let pseudo = [
            (":method", "GET"),
            (":scheme", scheme),
            (":authority", &request.host),
            (":path", &request.path),
        ];
        let fields = request.fields.iter().map(|(name, value)| (*name, value.as_str()));
        let all: Vec<_> = pseudo.into_iter().chain(fields).collect();
        let mut first = Vec::new();
        let mut later = Vec::new();
        for (place, (name, value)) in all.iter().enumerate() {
            first.push(0x40); // a new name, indexed
            literal(&mut first, name);
            literal(&mut first, value);
            // The newest entry is 62. There are fewer than 64 fields, so an index is one byte.
            let index = 62 + all.len() - 1 - place;
            later.push(0x80 | u8::try_from(index).unwrap_or(u8::MAX));
        }
        Self { first, later }
    }
}

fn literal(block: &mut Vec<u8>, text: &str) {
    let length = text.len();
    match u8::try_from(length) {
        Ok(short) if short < 127 => block.push(short),
        _ => {
            // Seven bits are full, and the rest follows in groups of seven (RFC 7541 §5.1).
            block.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                block.push((rest % 128) as u8 | 0x80);
                rest /= 128;
            }
            block.push(rest as u8);
        }
    }
    block.extend_from_slice(text.as_bytes());
}

/// One connection's side of the conversation.
#[derive(Debug)]
pub(in crate::compare) struct Connection {
    next_stream: u32,
    known: bool,
    /// Bytes of bodies since the connection's window was last opened.
    consumed: u32,
    /// The status of answers whose body is still under way.
    statuses: Vec<(u32, u16)>,
}

impl Connection {
    /// A new conversation; what opens it is put into `out`.
    pub(in crate::compare) fn new(out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frame(out, SETTINGS, 0, 0, 12);
        out.extend_from_slice(&[0, 2, 0, 0, 0, 0]); // no push
        out.extend_from_slice(&[0, 4]);
        out.extend_from_slice(&STREAM_WINDOW.to_be_bytes());
        window_update(out, CONNECTION_WINDOW);
        Self { next_stream: 1, known: false, consumed: 0, statuses: Vec::new() }
    }

    /// Puts a request into `out`; the number of its stream.
    pub(in crate::compare) fn request(&mut self, blocks: &Blocks, out: &mut Vec<u8>) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let block = if self.known { &blocks.later } else { &blocks.first };
        self.known = true;
        frame(out, HEADERS, END_HEADERS | END_STREAM, stream, block.len());
        out.extend_from_slice(block);
        stream
    }

    /// Takes the frame at the beginning of `input`: its length, and what there is to tell. `None` while it is incomplete.
    /// What must be answered at once is put into `out`.
    ///
    /// # Errors
    /// [`Malformed`] for a frame no peer sends.
    pub(in crate::compare) fn take(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<(usize, Option<Event>)>, Malformed> {
        let Some(&[a, b, c, kind, flags, s0, s1, s2, s3]) = input.first_chunk::<FRAME_HEADER>() else {
            return Ok(None);
        };
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if length > LONGEST_FRAME {
            return Err(Malformed("a frame that is too long"));
        }
        let Some(payload) = input.get(FRAME_HEADER..FRAME_HEADER + length) else { return Ok(None) };
        let stream = u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff;
        let event = self.frame(kind, flags, stream, payload, out);
        Ok(Some((FRAME_HEADER + length, event)))
    }

    fn frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<Event> {
        match kind {
            DATA => {
                self.consume(payload.len(), out);
                (flags & END_STREAM != 0)
                    .then(|| Event::Answered { stream, status: self.forget(stream).unwrap_or(0) })
            }
            HEADERS => {
                let padding = usize::from(flags & PADDED != 0);
                // A second block on a stream is trailers: the status was in the first.
                let status =
                    self.forget(stream).unwrap_or_else(|| status(payload.get(padding..).unwrap_or(&[])));
                if flags & END_STREAM != 0 {
                    return Some(Event::Answered { stream, status });
                }
                self.statuses.push((stream, status));
                None
            }
            RST_STREAM => {
                self.forget(stream);
                Some(Event::Reset { stream })
            }
            SETTINGS if flags & ACK == 0 => {
                frame(out, SETTINGS, ACK, 0, 0);
                None
            }
            PING if flags & ACK == 0 => {
                frame(out, PING, ACK, 0, payload.len());
                out.extend_from_slice(payload);
                None
            }
            GOAWAY => Some(Event::GoAway),
            _ => None,
        }
    }

    /// Opens the connection's window again when half of it is used up. Streams end before theirs is.
    fn consume(&mut self, bytes: usize, out: &mut Vec<u8>) {
        // A frame is at most LONGEST_FRAME bytes, and half the window fits with it.
        self.consumed += bytes as u32;
        if self.consumed > CONNECTION_WINDOW / 2 {
            window_update(out, self.consumed);
            self.consumed = 0;
        }
    }

    fn forget(&mut self, stream: u32) -> Option<u16> {
        let at = self.statuses.iter().position(|(known, _)| *known == stream)?;
        Some(self.statuses.swap_remove(at).1)
    }
}

/// The status a block begins with: `:status` comes first, and of the static table's seven by index.
fn status(mut block: &[u8]) -> u16 {
    // Changes of the table's size may come before it (RFC 7541 §6.3); the long ones go on in further bytes (§5.1).
    while let [update, rest @ ..] = block
        && update & 0xe0 == 0x20
    {
        let more = rest.iter().take_while(|&&byte| byte & 0x80 != 0).count() + 1;
        block = if update & 0x1f == 0x1f { rest.get(more..).unwrap_or_default() } else { rest };
    }
    match block.first() {
        Some(0x88) => 200,
        Some(0x89) => 204,
        Some(0x8a) => 206,
        Some(0x8b) => 304,
        Some(0x8c) => 400,
        Some(0x8d) => 404,
        Some(0x8e) => 500,
        _ => 0,
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, length: usize) {
    // What this side sends is far below 16 MiB.
    let [_, a, b, c] = (length as u32).to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

fn window_update(out: &mut Vec<u8>, increment: u32) {
    frame(out, WINDOW_UPDATE, 0, 0, 4);
    out.extend_from_slice(&increment.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame(&mut bytes, kind, flags, stream, payload.len());
        bytes.extend_from_slice(payload);
        bytes
    }

    fn take_all(connection: &mut Connection, mut input: &[u8]) -> (Vec<Event>, Vec<u8>) {
        let (mut events, mut out) = (Vec::new(), Vec::new());
        while let Some((length, event)) = connection.take(input, &mut out).unwrap() {
            input = &input[length..];
            events.extend(event);
        }
        assert!(input.is_empty(), "{} bytes are left", input.len());
        (events, out)
    }

    #[test]
    fn an_answer_ends_with_its_stream_and_keeps_its_status() {
        let mut connection = Connection::new(&mut Vec::new());
        let input = [
            whole(HEADERS, END_HEADERS, 1, &[0x3f, 0xe1, 0x1f, 0x88]),
            whole(HEADERS, END_HEADERS | END_STREAM, 3, &[0x8d]),
            whole(DATA, 0, 1, b"hel"),
            whole(DATA, END_STREAM, 1, b"lo"),
            whole(RST_STREAM, 0, 5, &[0; 4]),
            whole(GOAWAY, 0, 0, &[0; 8]),
        ]
        .concat();
        let mut out = Vec::new();
        for end in 0..13 {
            assert_eq!(connection.take(&input[..end.min(12)], &mut out), Ok(None));
        }
        let (events, out) = take_all(&mut connection, &input);
        assert_eq!(
            events,
            [
                Event::Answered { stream: 3, status: 404 },
                Event::Answered { stream: 1, status: 200 },
                Event::Reset { stream: 5 },
                Event::GoAway,
            ]
        );
        assert!(out.is_empty() && connection.statuses.is_empty());
    }

    #[test]
    fn settings_and_pings_are_acknowledged_once() {
        let mut connection = Connection::new(&mut Vec::new());
        let input =
            [whole(SETTINGS, 0, 0, &[]), whole(SETTINGS, ACK, 0, &[]), whole(PING, 0, 0, b"12345678")]
                .concat();
        let (_, out) = take_all(&mut connection, &input);
        assert_eq!(out, [whole(SETTINGS, ACK, 0, &[]), whole(PING, ACK, 0, b"12345678")].concat());
    }

    #[test]
    fn the_window_is_opened_before_it_is_used_up() {
        let mut connection = Connection::new(&mut Vec::new());
        let data = whole(DATA, 0, 1, &[0; LONGEST_FRAME]);
        let (mut out, mut opened) = (Vec::new(), 0);
        for _ in 0..2 * CONNECTION_WINDOW as usize / LONGEST_FRAME {
            connection.take(&data, &mut out).unwrap();
            if let Some(update) = out.get(FRAME_HEADER..) {
                opened += u32::from_be_bytes(update.try_into().unwrap());
                out.clear();
            }
        }
        assert!(opened >= CONNECTION_WINDOW, "{opened}");
    }

    #[test]
    fn fields_are_named_by_index_after_the_first_request() {
        let request = Request { host: "h".into(), path: "/".repeat(200), fields: vec![("a", "b".into())] };
        let blocks = Blocks::new(&request, "https");
        let mut connection = Connection::new(&mut Vec::new());
        let (mut first, mut second) = (Vec::new(), Vec::new());
        assert_eq!(
            (connection.request(&blocks, &mut first), connection.request(&blocks, &mut second)),
            (1, 3)
        );
        assert!(first.ends_with(&[0x40, 1, b'a', 1, b'b']));
        // 200 is 127 and 73.
        assert!(first.windows(7).any(|window| window == [b'p', b'a', b't', b'h', 127, 73, b'/']));
        assert_eq!(second[FRAME_HEADER..], [0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62]);
    }
}
