//! HTTP/1.1 as bytes (RFC 9112): heads, framing and bodies, without a socket.
//!
//! Where two parties read one connection differently, one of them can be made to see a request that the other never saw.
//! So everything that decides where a message begins and ends stands here, is strict, and is made from values:
//!
//! ```text
//! bytes ─HeadReader→ head ─check_authority, request_framing→ Framing ─Decoder→ pieces ─Encoder→ bytes
//! ```
//!
//! Whoever reads sockets owns the inbox, a [`bytes::BytesMut`], and how large it may grow: nothing here bounds a head in
//! bytes. Heads and pieces are split off it without a copy, and what follows a message stays in it. After an error the
//! inbox is not to be read again and the connection has to end.

mod authority;
mod body;
mod framing;
mod head;
mod write;

#[cfg(test)]
mod tests;

pub use authority::check_authority;
pub use body::{BadBody, ChunkPrefix, Decoded, Decoder, Encoder};
pub use framing::{
    Framing, RequestFraming, ResponseFraming, content_length, is_persistent, request_framing,
    response_framing,
};
pub use head::{BadHead, HeadReader, MOST_FIELDS, RequestHead, ResponseHead};
pub use write::{write_request, write_response};
