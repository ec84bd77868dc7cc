//! Where the frames of a WebSocket begin and end, so that one can be added between them (RFC 6455 §5.2).

/// A close frame from a server with status 1001, "going away" (RFC 6455 §7.4.1): unmasked, two bytes of payload.
pub const GOING_AWAY: [u8; 4] = [0x88, 0x02, 0x03, 0xe9];

/// The longest frame header: two bytes, eight of length, four of mask.
const LONGEST_HEADER: usize = 14;

/// Walks one direction of a WebSocket. O(1) memory, and O(frames) time whatever their size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FrameWatch {
    header: [u8; LONGEST_HEADER],
    filled: usize,
    payload_left: u64,
}

impl FrameWatch {
    /// Takes the next bytes, in pieces of any size.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(&byte) = bytes.first() {
            if self.payload_left > 0 {
                let skipped = bytes.len().min(usize::try_from(self.payload_left).unwrap_or(usize::MAX));
                self.payload_left -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            self.header[self.filled] = byte;
            self.filled += 1;
            bytes = &bytes[1..];
            if let Some(length) = self.payload_length() {
                self.payload_left = length;
                self.filled = 0;
            }
        }
    }

    /// Whether the last byte ended a frame, or none has come.
    pub fn is_between_frames(&self) -> bool {
        self.filled == 0 && self.payload_left == 0
    }

    /// The length of the payload, once the header is complete.
    fn payload_length(&self) -> Option<u64> {
        let second = *self.header[..self.filled].get(1)?;
        let mask_bytes = if second & 0x80 == 0 { 0 } else { 4 };
        let length_bytes = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.filled < 2 + length_bytes + mask_bytes {
            return None;
        }
        let extended = &self.header[2..2 + length_bytes];
        let length = extended.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Some(if length_bytes == 0 { u64::from(second & 0x7f) } else { length })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x82];
        match length {
            0..=125 => frame.push(mask | length as u8),
            126..=65_535 => {
                frame.push(mask | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(if masked { &[1, 2, 3, 4][..] } else { &[] });
        frame.extend(vec![0x55; length]);
        frame
    }

    #[test]
    fn nothing_has_begun_before_the_first_byte() {
        assert!(FrameWatch::default().is_between_frames());
    }

    #[test]
    fn the_close_frame_is_a_whole_frame() {
        let mut watch = FrameWatch::default();
        watch.feed(&GOING_AWAY[..3]);
        assert!(!watch.is_between_frames());
        watch.feed(&GOING_AWAY[3..]);
        assert!(watch.is_between_frames());
    }

    proptest! {
        #[test]
        fn every_prefix_of_frames_is_between_them_only_at_their_ends(
            frames in proptest::collection::vec((prop_oneof![0..300usize, 65_000..66_000usize], any::<bool>()), 1..4),
            piece in 1..5_000usize,
        ) {
            let (mut bytes, mut ends) = (Vec::new(), vec![0]);
            for (length, masked) in frames {
                bytes.extend(frame(length, masked));
                ends.push(bytes.len());
            }
            let (mut watch, mut fed) = (FrameWatch::default(), 0);
            for chunk in bytes.chunks(piece) {
                watch.feed(chunk);
                fed += chunk.len();
                prop_assert_eq!(watch.is_between_frames(), ends.contains(&fed));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            FrameWatch::default().feed(&bytes);
        }
    }
}
