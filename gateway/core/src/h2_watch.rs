//! How far a client's side of an HTTP/2 connection has come, seen from outside the library that speaks it.
//!
//! The library hands over a request once its header block is whole, so it cannot say how long a block has been on its
//! way. Fed with the bytes as they come, this can, and the caller puts a deadline on it.

/// What a client begins an HTTP/2 connection with (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const FRAME_HEADER_BYTES: usize = 9;
/// Where the frame's type stands in its header.
const TYPE_AT: usize = 3;
const HEADERS: u8 = 0x1;
const SETTINGS: u8 = 0x4;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

/// Where the last byte fed has led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Before the end of the preface and the first SETTINGS frame. Never left if the client sends anything else.
    Preface,
    /// Between frames.
    Idle,
    /// In a header block: from the first byte of a HEADERS frame to the last of the frame that ends it. A frame whose
    /// type has not come yet counts too, as it may become one.
    InHeaderBlock {
        /// Unlike that of every other block of the connection, so that two in a row are told apart.
        block: u64,
    },
    /// In any other frame.
    InFrame,
}

/// Walks the client's bytes of one connection. O(1) memory, and O(frames) time whatever their size.
///
/// It judges nothing: what is not HTTP/2 is for the library to refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct H2Watch {
    at: At,
    /// Frames begun.
    frames: u64,
    /// The frame that began the open header block.
    block: Option<u64>,
    settings_seen: bool,
    last_stream: u32,
    streams: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// After so many bytes of the preface.
    Preface(usize),
    /// What came was not the preface.
    Lost,
    /// Within or before a frame header.
    Header { bytes: [u8; FRAME_HEADER_BYTES], filled: usize },
    /// So many bytes before the end of a frame.
    Payload { kind: u8, flags: u8, left: usize },
}

const BETWEEN: At = At::Header { bytes: [0; FRAME_HEADER_BYTES], filled: 0 };

impl Default for H2Watch {
    fn default() -> Self {
        Self::new()
    }
}

impl H2Watch {
    /// Before the first byte after TLS.
    pub fn new() -> Self {
        Self { at: At::Preface(0), frames: 0, block: None, settings_seen: false, last_stream: 0, streams: 0 }
    }

    /// Takes the next bytes, in pieces of any size.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match self.at {
                At::Preface(matched) => self.feed_preface(matched, bytes),
                At::Lost => return,
                At::Header { bytes: header, filled } => self.feed_header(header, filled, bytes),
                At::Payload { kind, flags, left } => self.feed_payload(kind, flags, left, bytes),
            };
        }
    }

    /// Where the last byte has led.
    pub fn state(&self) -> State {
        match (self.at, self.block) {
            _ if !self.settings_seen => State::Preface,
            (_, Some(block)) => State::InHeaderBlock { block },
            (At::Header { filled: 0, .. }, None) => State::Idle,
            (At::Header { filled: 1..=TYPE_AT, .. }, None) => State::InHeaderBlock { block: self.frames },
            _ => State::InFrame,
        }
    }

    /// Whether the client owes the rest of a preface or header block, so that a deadline runs. It begins anew whenever
    /// [`state`](Self::state) changes: one read may end a block and begin the next.
    pub fn header_is_due(&self) -> bool {
        matches!(self.state(), State::Preface | State::InHeaderBlock { .. })
    }

    /// How many streams the client has opened.
    pub fn streams(&self) -> u64 {
        self.streams
    }

    fn feed_preface<'a>(&mut self, matched: usize, bytes: &'a [u8]) -> &'a [u8] {
        let (bytes, rest) = bytes.split_at(bytes.len().min(PREFACE.len() - matched));
        let matched_now = matched + bytes.len();
        self.at = match matched_now {
            _ if PREFACE[matched..matched_now] != *bytes => At::Lost,
            24 => BETWEEN,
            _ => At::Preface(matched_now),
        };
        rest
    }

    fn feed_header<'a>(
        &mut self,
        mut header: [u8; FRAME_HEADER_BYTES],
        filled: usize,
        bytes: &'a [u8],
    ) -> &'a [u8] {
        self.frames += u64::from(filled == 0);
        let (bytes, rest) = bytes.split_at(bytes.len().min(FRAME_HEADER_BYTES - filled));
        let filled_now = filled + bytes.len();
        header[filled..filled_now].copy_from_slice(bytes);
        if filled_now > TYPE_AT && header[TYPE_AT] == HEADERS {
            self.block.get_or_insert(self.frames);
        }
        self.at = At::Header { bytes: header, filled: filled_now };
        if filled_now == FRAME_HEADER_BYTES {
            self.begin_payload(header);
        }
        rest
    }

    fn begin_payload(&mut self, [a, b, c, kind, flags, stream @ ..]: [u8; FRAME_HEADER_BYTES]) {
        // The first bit is reserved.
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        if kind == HEADERS && stream > self.last_stream {
            self.last_stream = stream;
            self.streams += 1;
        }
        let left = u32::from_be_bytes([0, a, b, c]) as usize;
        self.at = At::Payload { kind, flags, left };
        if left == 0 {
            self.end_frame(kind, flags);
        }
    }

    fn feed_payload<'a>(&mut self, kind: u8, flags: u8, left: usize, bytes: &'a [u8]) -> &'a [u8] {
        let taken = left.min(bytes.len());
        self.at = At::Payload { kind, flags, left: left - taken };
        if taken == left {
            self.end_frame(kind, flags);
        }
        &bytes[taken..]
    }

    fn end_frame(&mut self, kind: u8, flags: u8) {
        if matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS != 0 {
            self.block = None;
        }
        self.settings_seen |= kind == SETTINGS;
        self.at = BETWEEN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DATA: u8 = 0x0;

    fn frame(kind: u8, flags: u8, stream: u32, payload: usize) -> Vec<u8> {
        let length = (payload as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), &vec![0xAA; payload]].concat()
    }

    /// Past the preface.
    fn begun() -> H2Watch {
        let mut watch = H2Watch::new();
        watch.feed(PREFACE);
        watch.feed(&frame(SETTINGS, 0, 0, 6));
        watch
    }

    fn states(watch: &mut H2Watch, bytes: &[u8]) -> Vec<State> {
        let mut states: Vec<_> = bytes
            .iter()
            .map(|byte| {
                watch.feed(&[*byte]);
                watch.state()
            })
            .collect();
        states.dedup();
        states
    }

    #[test]
    fn the_preface_lasts_to_the_end_of_the_first_settings() {
        let mut watch = H2Watch::new();
        let start = [&PREFACE[..], &frame(SETTINGS, 0, 0, 6)].concat();
        let (last, before) = start.split_last().expect("bytes");
        assert_eq!(states(&mut watch, before), [State::Preface]);
        assert!(watch.header_is_due());
        assert_eq!(states(&mut watch, &[*last]), [State::Idle]);
    }

    #[test]
    fn what_is_not_http2_never_gets_past_the_preface() {
        let mut watch = H2Watch::new();
        let bytes = [&b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, 0)].concat();
        assert_eq!(states(&mut watch, &bytes), [State::Preface]);
        let mut watch = H2Watch::new();
        watch.feed(PREFACE);
        assert_eq!(states(&mut watch, &frame(HEADERS, END_HEADERS, 1, 5)), [State::Preface]);
    }

    #[test]
    fn a_header_block_lasts_from_its_first_byte_to_its_last() {
        let mut watch = begun();
        let bytes = frame(HEADERS, END_HEADERS, 1, 20);
        let (last, before) = bytes.split_last().expect("bytes");
        assert_eq!(states(&mut watch, before), [State::InHeaderBlock { block: 2 }]);
        assert!(watch.header_is_due());
        assert_eq!(states(&mut watch, &[*last]), [State::Idle]);
        assert!(!watch.header_is_due());
    }

    #[test]
    fn continuations_belong_to_their_block_and_so_do_the_pauses_between() {
        let mut watch = begun();
        let open =
            [frame(HEADERS, 0, 1, 5), frame(CONTINUATION, 0, 1, 0), frame(CONTINUATION, 0, 1, 7)].concat();
        assert_eq!(states(&mut watch, &open), [State::InHeaderBlock { block: 2 }]);
        watch.feed(&frame(CONTINUATION, END_HEADERS, 1, 3));
        assert_eq!(watch.state(), State::Idle);
        assert_eq!(watch.streams(), 1);
    }

    #[test]
    fn two_blocks_in_a_row_are_told_apart() {
        let mut watch = begun();
        let mut state_after = |bytes: &[u8]| {
            watch.feed(bytes);
            watch.state()
        };
        let second = frame(HEADERS, END_HEADERS, 3, 20);
        let first = state_after(&frame(HEADERS, END_HEADERS, 1, 20)[..15]);
        let next = state_after(&[&[0xAA; 14], &second[..15]].concat());
        assert_eq!((first, next), (State::InHeaderBlock { block: 2 }, State::InHeaderBlock { block: 3 }));
    }

    #[test]
    fn other_frames_are_no_block_once_their_type_is_known() {
        let mut watch = begun();
        let bytes = frame(DATA, 0, 1, 100);
        let seen = states(&mut watch, &bytes);
        assert_eq!(seen, [State::InHeaderBlock { block: 2 }, State::InFrame, State::Idle]);
        // END_STREAM of DATA and ACK of SETTINGS share bits with nothing that ends a block.
        watch.feed(&frame(HEADERS, 0, 1, 5));
        watch.feed(&frame(DATA, END_HEADERS, 1, 5));
        assert_eq!(watch.state(), State::InHeaderBlock { block: 3 });
    }

    #[test]
    fn streams_are_counted_once_and_trailers_not() {
        let mut watch = begun();
        for stream in [1, 3, 3, 1, 5 | 0x8000_0000, 5] {
            watch.feed(&frame(HEADERS, END_HEADERS, stream, 1));
        }
        assert_eq!(watch.streams(), 3);
    }

    #[test]
    fn a_frame_of_the_largest_size_is_skipped() {
        let mut watch = begun();
        watch.feed(&frame(DATA, 0, 1, 0xff_ffff));
        assert_eq!(watch.state(), State::Idle);
    }

    proptest! {
        #[test]
        fn chunking_does_not_matter(
            frames in prop::collection::vec((0..12_u8, any::<u8>(), 0..9_u32, 0..40_usize), 0..12),
            start: bool,
            cut in any::<usize>(),
            sizes in prop::collection::vec(1..30_usize, 1..8),
        ) {
            let frames = frames.into_iter().flat_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, payload));
            let start = if start { [&PREFACE[..], &frame(SETTINGS, 0, 0, 0)].concat() } else { Vec::new() };
            let mut bytes: Vec<_> = start.into_iter().chain(frames).collect();
            bytes.truncate(bytes.len() - cut % (bytes.len() + 1));
            let (mut whole, mut pieces) = (H2Watch::new(), H2Watch::new());
            whole.feed(&bytes);
            let mut rest = &bytes[..];
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at(rest.len().min(*size));
                pieces.feed(piece);
                rest = after;
            }
            prop_assert_eq!(whole, pieces);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let mut watch = H2Watch::new();
            watch.feed(PREFACE);
            watch.feed(&bytes);
            prop_assert!(watch.streams() <= bytes.len() as u64);
        }
    }
}
