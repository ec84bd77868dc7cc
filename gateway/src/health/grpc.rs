//! The messages of `grpc.health.v1.Health/Check`: one field each way, written and read by hand.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>. On the wire a message follows five bytes: whether it
//! is compressed, and its length.

use bytes::{BufMut, Bytes, BytesMut};

/// The method.
pub(super) const PATH: &str = "/grpc.health.v1.Health/Check";

/// Compressed or not, and the length in four bytes.
const FRAME: usize = 5;

/// `HealthCheckRequest { string service = 1; }` in its frame. An empty name is left out, and asks about the server.
pub(super) fn request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(1 << 3 | LENGTH_DELIMITED);
        put_varint(&mut message, service.len() as u64);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(FRAME + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(&message);
    frame.freeze()
}

/// Reads `HealthCheckResponse { ServingStatus status = 1; }` in its frame, which has to be all there is.
///
/// # Errors
/// The status that is not SERVING, or what is wrong with the answer.
pub(super) fn read(frame: &[u8]) -> Result<(), String> {
    const MALFORMED: &str = "the answer is malformed";
    let (head, message) = frame.split_at_checked(FRAME).ok_or("the answer has no message")?;
    if head != [&[0], &(message.len() as u32).to_be_bytes()[..]].concat() {
        return Err(MALFORMED.to_owned());
    }
    match status(message).ok_or(MALFORMED)? {
        0 => Err("UNKNOWN".to_owned()),
        1 => Ok(()),
        2 => Err("NOT_SERVING".to_owned()),
        3 => Err("SERVICE_UNKNOWN".to_owned()),
        other => Err(format!("status {other}")),
    }
}

const VARINT: u8 = 0;
const FIXED_64: u8 = 1;
const LENGTH_DELIMITED: u8 = 2;
const FIXED_32: u8 = 5;

/// The last field 1; fields that are not known are passed over.
fn status(mut message: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !message.is_empty() {
        let key = take_varint(&mut message)?;
        let length = match (key & 7) as u8 {
            VARINT => {
                let value = take_varint(&mut message)?;
                if key >> 3 == 1 {
                    status = value;
                }
                0
            }
            FIXED_64 => 8,
            FIXED_32 => 4,
            LENGTH_DELIMITED => usize::try_from(take_varint(&mut message)?).ok()?,
            _ => return None,
        };
        message = message.get(length..)?;
    }
    Some(status)
}

fn put_varint(into: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        into.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    into.put_u8(value as u8);
}

/// At most ten bytes.
fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_the_service_or_nothing() {
        assert_eq!(&request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&request("a.B")[..], [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        let long = request(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 2]);
    }

    #[test]
    fn only_serving_is_good() {
        assert_eq!(read(&[0, 0, 0, 0, 2, 8, 1]), Ok(()));
        assert_eq!(read(&[0, 0, 0, 0, 2, 8, 2]), Err("NOT_SERVING".into()));
        assert_eq!(read(&[0, 0, 0, 0, 0]), Err("UNKNOWN".into()), "the default is not written");
        assert_eq!(read(&[0, 0, 0, 0, 2, 8, 9]), Err("status 9".into()));
    }

    #[test]
    fn fields_of_later_versions_are_passed_over() {
        let message = [0x12, 2, 8, 2, 0x1d, 1, 2, 3, 4, 0x21, 1, 2, 3, 4, 5, 6, 7, 8, 0x28, 0xff, 1, 8, 1];
        let frame = [&[0, 0, 0, 0, message.len() as u8], &message[..]].concat();
        assert_eq!(read(&frame), Ok(()));
    }

    #[test]
    fn what_is_cut_or_compressed_is_not_believed() {
        let bad: [&[u8]; 9] = [
            &[],
            &[0, 0, 0, 0],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 3, 8, 1],
            &[0, 0, 0, 0, 1, 8, 1],
            &[0, 0, 0, 0, 1, 8],
            &[0, 0, 0, 0, 2, 0x12, 9],
            &[0, 0, 0, 0, 1, 0x0b],
            &[0, 0, 0, 0, 11, 8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255],
        ];
        for frame in bad {
            assert!(read(frame).is_err(), "{frame:?}");
        }
        let endless =
            [&[0, 0, 0, 0, 11][..], &[0x12, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]].concat();
        assert!(read(&endless).is_err(), "a length beyond everything");
    }
}
