//! The codings themselves: bytes in, bytes out, everything that went in recoverable from what came out so far.
//!
//! Levels are where each coding stops giving much for its time. Windows bound what a stream holds on to, told in
//! docs/shaping.md: next to nothing for a short body of known length, at most 2 MiB for any.

use std::io::{self, Write};

use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::Compression as GzipLevel;
use flate2::write::GzEncoder;
use gateway_core::content_coding::Coding;
use zstd::stream::write::Encoder as ZstdEncoder;

const ZSTD_LEVEL: i32 = 3;

/// As a power of two: 128 KiB. Decoders in browsers take up to 8 MiB (RFC 9659).
const ZSTD_WINDOW: u32 = 17;

const BROTLI_LEVEL: u32 = 4;

/// As powers of two: from 1 KiB for the shortest body to 256 KiB.
const BROTLI_WINDOWS: (u32, u32) = (10, 18);

/// What the encoder hands on at a time.
const BROTLI_BUFFER_BYTES: usize = 4 << 10;

const GZIP_LEVEL: GzipLevel = GzipLevel::new(5);

/// One body in one coding.
pub(crate) enum Encoder {
    Zstd(ZstdEncoder<'static, Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl Encoder {
    /// For a body of `length` bytes, if that is known: a short one needs no large tables.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(super) fn new(coding: Coding, length: Option<u64>) -> io::Result<Self> {
        Ok(match coding {
            Coding::Zstd => {
                let mut encoder = ZstdEncoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(ZSTD_WINDOW)?;
                encoder.set_pledged_src_size(length)?;
                Self::Zstd(encoder)
            }
            Coding::Brotli => {
                let window = brotli_window(length);
                let encoder = CompressorWriter::new(Vec::new(), BROTLI_BUFFER_BYTES, BROTLI_LEVEL, window);
                Self::Brotli(Box::new(encoder))
            }
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), GZIP_LEVEL)),
        })
    }

    /// Takes a piece and gives all of it at once, so that a stream is not held back.
    ///
    /// # Errors
    /// When it is more than was announced.
    pub(super) fn pass(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        fn push(writer: &mut impl Write, piece: &[u8]) -> io::Result<()> {
            writer.write_all(piece)?;
            writer.flush()
        }
        let coded = match self {
            Self::Zstd(encoder) => {
                push(encoder, piece)?;
                encoder.get_mut()
            }
            Self::Brotli(encoder) => {
                push(encoder, piece)?;
                encoder.get_mut()
            }
            Self::Gzip(encoder) => {
                push(encoder, piece)?;
                encoder.get_mut()
            }
        };
        Ok(std::mem::take(coded).into())
    }

    /// Takes the last piece and gives the end; there is nothing after it.
    ///
    /// # Errors
    /// When the body has not the length that was announced.
    pub(super) fn finish(self, piece: &[u8]) -> io::Result<Bytes> {
        let coded = match self {
            Self::Zstd(mut encoder) => {
                encoder.write_all(piece)?;
                encoder.finish()?
            }
            Self::Brotli(mut encoder) => {
                encoder.write_all(piece)?;
                encoder.into_inner()
            }
            Self::Gzip(mut encoder) => {
                encoder.write_all(piece)?;
                encoder.finish()?
            }
        };
        Ok(coded.into())
    }
}

/// The smallest window that holds the whole body.
fn brotli_window(length: Option<u64>) -> u32 {
    let (least, most) = BROTLI_WINDOWS;
    length.map_or(most, |length| (u64::BITS - length.leading_zeros()).clamp(least, most))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const CODINGS: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

    /// Everything that can be decoded of what may be incomplete.
    fn decoded(coding: Coding, coded: &[u8]) -> (Vec<u8>, bool) {
        let mut reader: Box<dyn Read> = match coding {
            Coding::Zstd => Box::new(zstd::stream::read::Decoder::new(coded).expect("a decoder")),
            Coding::Brotli => Box::new(brotli::Decompressor::new(coded, 4096)),
            Coding::Gzip => Box::new(flate2::read::GzDecoder::new(coded)),
        };
        let mut plain = Vec::new();
        let complete = reader.read_to_end(&mut plain).is_ok();
        (plain, complete)
    }

    #[test]
    fn every_piece_can_be_read_as_soon_as_it_is_passed_and_only_the_last_completes() {
        let pieces = ["one".repeat(1000), "2".to_owned(), "three".repeat(30_000)];
        for coding in CODINGS {
            let mut encoder = Encoder::new(coding, None).expect("an encoder");
            let (mut plain, mut coded) = (Vec::new(), Vec::new());
            for piece in &pieces {
                plain.extend_from_slice(piece.as_bytes());
                coded.extend_from_slice(&encoder.pass(piece.as_bytes()).expect("coded"));
                assert_eq!(decoded(coding, &coded), (plain.clone(), false), "{coding:?}");
            }
            coded.extend_from_slice(&encoder.finish(b"").expect("coded"));
            assert_eq!(decoded(coding, &coded), (plain, true), "{coding:?}");
        }
    }

    #[test]
    fn bodies_of_known_length_are_whole_at_once() {
        for coding in CODINGS {
            for length in [0, 1, 256, 70_000, 1 << 20] {
                let plain: Vec<u8> = (0..length).map(|at: u32| (at / 7 % 251) as u8).collect();
                let encoder = Encoder::new(coding, Some(length.into())).expect("an encoder");
                let coded = encoder.finish(&plain).expect("coded");
                assert_eq!(decoded(coding, &coded), (plain, true), "{coding:?} {length}");
            }
        }
    }

    #[test]
    fn a_window_is_as_large_as_the_body_and_no_larger_than_the_bound() {
        let windows = [None, Some(0), Some(1024), Some(1 << 15), Some(u64::MAX)].map(brotli_window);
        assert_eq!(windows, [18, 10, 11, 16, 18]);
    }
}
