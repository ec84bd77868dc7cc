//! Bodies: pieces out of an inbox, and pieces framed to go out (RFC 9112 §6, §7).

use std::ops::Deref;

use bytes::{Buf, Bytes, BytesMut};

use super::framing::Framing;

/// The most bytes of chunk extensions in a body, and the most of trailers (RFC 9112 §7.1.1: a recipient ought to limit
/// them). The sum over a whole body counts: else a body of one-byte chunks could bring any amount along with each byte.
const MOST_AROUND_BYTES: u16 = 16 * 1024;

/// 16 hexadecimal digits are 64 bits, so no size can overflow.
const MOST_SIZE_DIGITS: u8 = 16;

/// Why a body is refused. The connection has to end, since where its next message begins is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadBody {
    /// The line before a chunk is not a hexadecimal size, without a sign, with at most 16 digits, and then CR LF.
    #[error("a chunk has no proper size")]
    ChunkSize,
    /// CR LF is missing after a chunk.
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    /// What follows the last chunk is neither a field nor the end.
    #[error("a trailer is not a field")]
    Trailer,
    /// Extensions or trailers beyond 16 KiB.
    #[error("too many bytes of chunk extensions or trailers")]
    TooMuchAround,
    /// The connection closed, or a sender ended, before the body was complete.
    #[error("the body ended too early")]
    Truncated,
    /// A sender had more bytes than it had announced.
    #[error("the body is longer than announced")]
    TooLong,
}

/// What an inbox had of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// Bytes of the body, never none.
    Piece(Bytes),
    /// Nothing before more bytes come.
    More,
    /// The body is complete; what is in the inbox belongs to the next message.
    End,
}

/// Decodes the body of one message.
#[derive(Debug)]
pub struct Decoder {
    /// Bytes to come of the body or of the chunk; while a size is read, what it is so far.
    left: u64,
    /// Bytes of extensions so far, or of trailers.
    around: u16,
    /// Digits of the size so far.
    digits: u8,
    at: At,
}

const _: () = assert!(size_of::<Decoder>() <= 16, "every connection has two of them");

/// What the next byte is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Counted,
    UntilClose,
    Size,
    /// Blanks after a size, which old origins pad it with.
    AfterSize,
    Extension,
    SizeLf,
    Chunk,
    ChunkCr,
    ChunkLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

impl Decoder {
    /// For a body that ends as `framing` says.
    pub fn new(framing: Framing) -> Self {
        let (at, left) = match framing {
            Framing::Empty | Framing::Length(0) => (At::Done, 0),
            Framing::Length(length) => (At::Counted, length),
            Framing::Chunked => (At::Size, 0),
            Framing::UntilClose => (At::UntilClose, 0),
        };
        Self { left, around: 0, digits: 0, at }
    }

    /// Whether the body is complete. After the last piece of a chunked one it is not yet.
    pub fn is_done(&self) -> bool {
        self.at == At::Done
    }

    /// Takes what `inbox` has: a piece of the body without a copy, of a chunked one at most the rest of a chunk.
    ///
    /// # Errors
    /// [`BadBody::ChunkSize`], [`BadBody::ChunkEnd`], [`BadBody::Trailer`] and [`BadBody::TooMuchAround`]. CR LF has to be
    /// both everywhere: who takes a bare LF or CR for the end of a chunk's line sees other chunks than the next one does.
    pub fn decode(&mut self, inbox: &mut BytesMut) -> Result<Decoded, BadBody> {
        let (used, framed) = self.read_framing(inbox);
        inbox.advance(used);
        framed?;
        Ok(match self.at {
            At::Done => Decoded::End,
            _ if inbox.is_empty() => Decoded::More,
            At::UntilClose => Decoded::Piece(inbox.split().freeze()),
            _ => Decoded::Piece(self.take(inbox)),
        })
    }

    /// The peer has closed and `inbox` had been decoded before.
    ///
    /// # Errors
    /// [`BadBody::Truncated`] unless that is a proper end.
    pub fn end_of_stream(&mut self) -> Result<(), BadBody> {
        match self.at {
            At::Done | At::UntilClose => {
                self.at = At::Done;
                Ok(())
            }
            _ => Err(BadBody::Truncated),
        }
    }

    /// Bytes that count, from an inbox that has some.
    fn take(&mut self, inbox: &mut BytesMut) -> Bytes {
        let length = usize::try_from(self.left).map_or(inbox.len(), |left| left.min(inbox.len()));
        self.left -= length as u64;
        if self.left == 0 {
            self.at = if self.at == At::Chunk { At::ChunkCr } else { At::Done };
        }
        inbox.split_to(length).freeze()
    }

    /// Reads what stands around chunks, up to the next byte of the body or the end. Gives how many bytes that were.
    fn read_framing(&mut self, bytes: &[u8]) -> (usize, Result<(), BadBody>) {
        let mut used = 0;
        while !matches!(self.at, At::Chunk | At::Counted | At::UntilClose | At::Done)
            && let Some(byte) = bytes.get(used)
        {
            if let Err(bad) = self.step(*byte) {
                return (used, Err(bad));
            }
            used += 1;
        }
        (used, Ok(()))
    }

    fn step(&mut self, byte: u8) -> Result<(), BadBody> {
        self.at = match (self.at, byte) {
            (At::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => return self.add_digit(byte),
            (At::Size | At::AfterSize | At::Extension, b'\r') if self.digits > 0 => At::SizeLf,
            (At::Size | At::AfterSize, b' ' | b'\t') if self.digits > 0 => self.count(At::AfterSize)?,
            (At::Size | At::AfterSize, b';') if self.digits > 0 => self.count(At::Extension)?,
            (At::Extension, byte) if is_text(byte) => self.count(At::Extension)?,
            (At::SizeLf, b'\n') => self.begin_chunk(),
            (At::ChunkCr, b'\r') => At::ChunkLf,
            (At::ChunkLf, b'\n') => At::Size,
            (At::TrailerStart, b'\r') => At::EndLf,
            (At::TrailerStart | At::TrailerName, byte) if is_token(byte) => self.count(At::TrailerName)?,
            (At::TrailerName, b':') => self.count(At::TrailerValue)?,
            (At::TrailerValue, b'\r') => self.count(At::TrailerLf)?,
            (At::TrailerValue, byte) if is_text(byte) => self.count(At::TrailerValue)?,
            (At::TrailerLf, b'\n') => self.count(At::TrailerStart)?,
            (At::EndLf, b'\n') => At::Done,
            (At::Size | At::AfterSize | At::Extension | At::SizeLf, _) => return Err(BadBody::ChunkSize),
            (At::ChunkCr | At::ChunkLf, _) => return Err(BadBody::ChunkEnd),
            _ => return Err(BadBody::Trailer),
        };
        Ok(())
    }

    fn add_digit(&mut self, byte: u8) -> Result<(), BadBody> {
        let digit = char::from(byte).to_digit(16).ok_or(BadBody::ChunkSize)?;
        if self.digits == MOST_SIZE_DIGITS {
            return Err(BadBody::ChunkSize);
        }
        self.digits += 1;
        self.left = self.left << 4 | u64::from(digit);
        Ok(())
    }

    fn begin_chunk(&mut self) -> At {
        self.digits = 0;
        if self.left > 0 {
            return At::Chunk;
        }
        self.around = 0;
        At::TrailerStart
    }

    fn count(&mut self, next: At) -> Result<At, BadBody> {
        if self.around == MOST_AROUND_BYTES {
            return Err(BadBody::TooMuchAround);
        }
        self.around += 1;
        Ok(next)
    }
}

/// What may stand in an extension or in the value of a trailer.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Frames a body that goes out; it writes nothing itself.
#[derive(Debug)]
pub struct Encoder {
    left: Left,
}

#[derive(Debug)]
enum Left {
    Counted(u64),
    Chunked,
    UntilClose,
}

impl Encoder {
    /// For a body that ends as `framing` says.
    pub fn new(framing: Framing) -> Self {
        let left = match framing {
            Framing::Empty => Left::Counted(0),
            Framing::Length(length) => Left::Counted(length),
            Framing::Chunked => Left::Chunked,
            Framing::UntilClose => Left::UntilClose,
        };
        Self { left }
    }

    /// What to put before and after a piece of `length` bytes. For one of no bytes that is nothing: a chunk of size zero
    /// would end the body.
    ///
    /// # Errors
    /// [`BadBody::TooLong`] when it is longer than what was announced; nothing of it may be sent.
    pub fn piece(&mut self, length: usize) -> Result<(ChunkPrefix, &'static [u8]), BadBody> {
        match &mut self.left {
            Left::Counted(left) => *left = left.checked_sub(length as u64).ok_or(BadBody::TooLong)?,
            Left::Chunked if length > 0 => return Ok((ChunkPrefix::sized(length), b"\r\n")),
            Left::Chunked | Left::UntilClose => {}
        }
        Ok((ChunkPrefix::NONE, b""))
    }

    /// What ends the body, once; afterwards no piece can follow.
    ///
    /// # Errors
    /// [`BadBody::Truncated`] when fewer bytes went out than announced: only closing the connection tells the peer.
    pub fn end(&mut self) -> Result<&'static [u8], BadBody> {
        let last = match self.left {
            Left::Counted(1..) => return Err(BadBody::Truncated),
            Left::Chunked => b"0\r\n\r\n".as_slice(),
            Left::Counted(0) | Left::UntilClose => b"",
        };
        self.left = Left::Counted(0);
        Ok(last)
    }
}

/// The line before a chunk, or nothing.
#[derive(Debug, Clone, Copy)]
pub struct ChunkPrefix {
    line: [u8; Self::LONGEST],
    start: u8,
}

impl ChunkPrefix {
    const LONGEST: usize = MOST_SIZE_DIGITS as usize + 2;
    const NONE: Self = Self { line: [0; Self::LONGEST], start: Self::LONGEST as u8 };

    fn sized(length: usize) -> Self {
        let mut line = [0; Self::LONGEST];
        let mut start = Self::LONGEST - 2;
        line[start..].copy_from_slice(b"\r\n");
        let mut rest = length;
        while rest > 0 {
            start -= 1;
            line[start] = b"0123456789abcdef"[rest & 15];
            rest >>= 4;
        }
        Self { line, start: start as u8 }
    }
}

impl Deref for ChunkPrefix {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.line[usize::from(self.start)..]
    }
}
