//! The PROXY protocol, versions 1 and 2: who a load balancer in front of us says the client is.
//!
//! Follows "The PROXY protocol", versions 1 & 2, W. Tarreau, HAProxy (proxy-protocol.txt).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest version 1 line, CRLF included (§2.1).
pub const MAX_V1_BYTES: usize = 107;
/// The longest version 2 header accepted, all of it; the format would allow 64 KiB.
pub const MAX_V2_BYTES: usize = V2_FIXED_BYTES + 4096;

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED_BYTES: usize = 16;
const TLV_CRC32C: u8 = 0x03;

/// What the first bytes of a connection turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header; more bytes are needed.
    Incomplete,
    /// A whole header.
    Header(Header),
}

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The client; `None` for LOCAL, UNKNOWN and what is not TCP over IP: then the socket's own peer stands.
    pub source: Option<SocketAddr>,
    /// What the client connected to.
    pub destination: Option<SocketAddr>,
    /// How many bytes it takes; the client's own follow.
    pub length: usize,
}

/// Why a connection is closed without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// It begins with something else.
    #[error("the connection does not begin with a PROXY header")]
    Absent,
    /// A version 1 line that is not as it should be.
    #[error("the PROXY line is malformed")]
    Line,
    /// A version 2 header that is not as it should be.
    #[error("the binary PROXY header is malformed")]
    Binary,
    /// Longer than [`MAX_V1_BYTES`] or [`MAX_V2_BYTES`].
    #[error("the PROXY header is too long")]
    TooLong,
    /// Its CRC32c is wrong.
    #[error("the checksum of the PROXY header is wrong")]
    Checksum,
}

/// Reads the header at the start of `bytes`, the first ones of a connection. Of version 2's extensions only the
/// checksum is read, and verified if there; the others are skipped.
///
/// # Errors
/// [`Malformed`] as soon as the bytes at hand can no longer become a header.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    if starts_alike(bytes, V2_START) {
        return if bytes.len() < V2_FIXED_BYTES { v2_begun(bytes) } else { v2(bytes) };
    }
    if starts_alike(bytes, V1_START) { v1(bytes) } else { Err(Malformed::Absent) }
}

/// Whether one begins with the other.
fn starts_alike(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(a, b)| a == b)
}

fn v1(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let line = &bytes[..bytes.len().min(MAX_V1_BYTES)];
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return if line.len() < MAX_V1_BYTES { Ok(Parsed::Incomplete) } else { Err(Malformed::TooLong) };
    };
    let line = std::str::from_utf8(&line[..end]).map_err(|_| Malformed::Line)?;
    let mut words = line.split(' ').skip(1);
    let addresses = match words.next() {
        Some("UNKNOWN") => None,
        Some("TCP4") => Some(line_addresses::<Ipv4Addr>(words)?),
        Some("TCP6") => Some(line_addresses::<Ipv6Addr>(words)?),
        _ => return Err(Malformed::Line),
    };
    Ok(header(addresses, end + 2))
}

fn line_addresses<'a, A>(
    mut words: impl Iterator<Item = &'a str>,
) -> Result<(SocketAddr, SocketAddr), Malformed>
where
    A: std::str::FromStr + Into<IpAddr>,
{
    let mut word = || words.next().ok_or(Malformed::Line);
    let address = |word: &str| word.parse::<A>().map(Into::into).map_err(|_| Malformed::Line);
    let (source, destination) = (address(word()?)?, address(word()?)?);
    let addresses = (SocketAddr::new(source, port(word()?)?), SocketAddr::new(destination, port(word()?)?));
    if words.next().is_some() { Err(Malformed::Line) } else { Ok(addresses) }
}

/// Digits alone, without leading zero (§2.1).
fn port(word: &str) -> Result<u16, Malformed> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    word.parse().ok().filter(|_| plain).ok_or(Malformed::Line)
}

fn header(addresses: Option<(SocketAddr, SocketAddr)>, length: usize) -> Parsed {
    let (source, destination) = addresses.unzip();
    Parsed::Header(Header { source, destination, length })
}

/// Version 2 before its length is known: what is there must be able to go on.
fn v2_begun(bytes: &[u8]) -> Result<Parsed, Malformed> {
    match bytes.get(V2_START.len()) {
        Some(0x20 | 0x21) | None => Ok(Parsed::Incomplete),
        Some(_) => Err(Malformed::Binary),
    }
}

fn v2(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let is_proxied = match bytes[12] {
        0x20 => false,
        0x21 => true,
        _ => return Err(Malformed::Binary),
    };
    let address_bytes = match bytes[13] {
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        _ => return Err(Malformed::Binary),
    };
    let length = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if length > MAX_V2_BYTES {
        return Err(Malformed::TooLong);
    }
    if is_proxied && length < V2_FIXED_BYTES + address_bytes {
        return Err(Malformed::Binary);
    }
    let Some(bytes) = bytes.get(..length) else { return Ok(Parsed::Incomplete) };
    if !is_proxied {
        // Whatever follows a LOCAL header is to be skipped unread (§2.2).
        return Ok(header(None, length));
    }
    verify_extensions(bytes, V2_FIXED_BYTES + address_bytes)?;
    Ok(header(binary_addresses(bytes[13], &bytes[V2_FIXED_BYTES..]), length))
}

/// `None` for anything but TCP over IP.
fn binary_addresses(family: u8, bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let width = match family {
        0x11 => 4,
        0x21 => 16,
        _ => return None,
    };
    let (source, rest) = bytes.split_at_checked(width)?;
    let (destination, ports) = rest.split_at_checked(width)?;
    let [a, b, c, d, ..] = *ports else { return None };
    let (source_port, destination_port) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Some((SocketAddr::new(ip(source)?, source_port), SocketAddr::new(ip(destination)?, destination_port)))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from).ok();
    v4.or_else(|| <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok())
}

/// Walks the type-length-value vectors from `start` to the end of the header.
fn verify_extensions(header: &[u8], start: usize) -> Result<(), Malformed> {
    let mut at = start;
    while at < header.len() {
        let [kind, high, low, ..] = header[at..] else { return Err(Malformed::Binary) };
        let value = at + 3;
        at = value + usize::from(u16::from_be_bytes([high, low]));
        let Some(value_bytes) = header.get(value..at) else { return Err(Malformed::Binary) };
        if kind == TLV_CRC32C {
            let expected = value_bytes.try_into().map(u32::from_be_bytes).map_err(|_| Malformed::Binary)?;
            if crc32c(header, value..at) != expected {
                return Err(Malformed::Checksum);
            }
        }
    }
    Ok(())
}

/// CRC32c (RFC 3720 §B.4) of `bytes`, those in `zeroed` taken as zero (§2.2.3).
fn crc32c(bytes: &[u8], zeroed: std::ops::Range<usize>) -> u32 {
    let step = |crc: u32, (index, byte): (usize, &u8)| {
        let byte = if zeroed.contains(&index) { 0 } else { *byte };
        CRC32C[(crc as u8 ^ byte) as usize] ^ (crc >> 8)
    };
    !bytes.iter().enumerate().fold(!0, step)
}

const CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let (mut crc, mut bit) = (index as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(text: &str) -> Option<SocketAddr> {
        Some(text.parse().expect("an address"))
    }

    fn binary(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).expect("a short payload").to_be_bytes();
        [V2_START, &[command, family], &length, payload].concat()
    }

    const TCP4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x10, 0x92, 1, 187];

    fn with_checksum() -> Vec<u8> {
        let mut header =
            binary(0x21, 0x11, &[&TCP4[..], &[TLV_CRC32C, 0, 4, 0, 0, 0, 0], &[0xEA, 0, 1, 9]].concat());
        let value = 16 + 12 + 3..16 + 12 + 7;
        let crc = crc32c(&header, value.clone()).to_be_bytes();
        header[value].copy_from_slice(&crc);
        header
    }

    #[test]
    fn the_check_value_of_crc32c_is_met() {
        assert_eq!(crc32c(b"123456789", 0..0), 0xE306_9283);
    }

    #[test]
    fn a_line_names_both_ends() {
        let line = b"PROXY TCP4 192.0.2.7 10.0.0.1 4242 443\r\nGET / HTTP/1.1\r\n";
        let expected =
            Header { source: address("192.0.2.7:4242"), destination: address("10.0.0.1:443"), length: 40 };
        assert_eq!(parse(line), Ok(Parsed::Header(expected)));
        let line = b"PROXY TCP6 2001:db8::7 ::1 65535 0\r\n";
        let expected =
            Header { source: address("[2001:db8::7]:65535"), destination: address("[::1]:0"), length: 36 };
        assert_eq!(parse(line), Ok(Parsed::Header(expected)));
    }

    #[test]
    fn unknown_and_local_name_nobody() {
        for (bytes, length) in [
            (b"PROXY UNKNOWN\r\n".to_vec(), 15),
            (b"PROXY UNKNOWN ffff::1 x 1 2\r\nGET".to_vec(), 29),
            (binary(0x20, 0x00, &[]), 16),
            (binary(0x20, 0x11, &[1, 2, 3]), 19),
            (binary(0x21, 0x00, &[]), 16),
            (binary(0x21, 0x12, &TCP4), 28),
            (binary(0x21, 0x31, &[0; 216]), 232),
        ] {
            let expected = Header { source: None, destination: None, length };
            assert_eq!(parse(&bytes), Ok(Parsed::Header(expected)), "{bytes:?}");
        }
    }

    #[test]
    fn a_binary_header_names_both_ends_and_its_extensions_are_skipped() {
        let bytes = binary(0x21, 0x11, &[&TCP4[..], &[0x05, 0, 2, 7, 7], &[0x04, 0, 0]].concat());
        let expected =
            Header { source: address("192.0.2.7:4242"), destination: address("10.0.0.1:443"), length: 36 };
        assert_eq!(parse(&bytes), Ok(Parsed::Header(expected)));
        let mut v6 = [0; 36];
        (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 80, 90);
        let expected = Header { source: address("[::1]:80"), destination: address("[::2]:90"), length: 52 };
        assert_eq!(parse(&binary(0x21, 0x21, &v6)), Ok(Parsed::Header(expected)));
    }

    #[test]
    fn a_wrong_checksum_is_refused() {
        let mut bytes = with_checksum();
        assert!(matches!(parse(&bytes), Ok(Parsed::Header(Header { source: Some(_), .. }))));
        bytes[16] ^= 1;
        assert_eq!(parse(&bytes), Err(Malformed::Checksum));
    }

    #[test]
    fn what_is_no_header_is_refused_at_once() {
        for (bytes, why) in [
            (&b"G"[..], Malformed::Absent),
            (b"GET / HTTP/1.1\r\n", Malformed::Absent),
            (b"PROXY_", Malformed::Absent),
            (b"\r\n\r\n\0\r\nQUIT ", Malformed::Absent),
            (b"PROXY TCP5 a b 1 2\r\n", Malformed::Line),
            (b"PROXY TCP4 ::1 ::1 1 2\r\n", Malformed::Line),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n", Malformed::Line),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 2 3\r\n", Malformed::Line),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 +1 2\r\n", Malformed::Line),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 01 2\r\n", Malformed::Line),
            (b"PROXY TCP4 1.1.1.1 1.1.1.1 65536 2\r\n", Malformed::Line),
            (b"PROXY TCP4  1.1.1.1 1.1.1.1 1 2\r\n", Malformed::Line),
            (b"PROXY \xff\r\n", Malformed::Line),
            (b"\r\n\r\n\0\r\nQUIT\n\x31", Malformed::Binary),
            (&binary(0x22, 0x11, &TCP4), Malformed::Binary),
            (&binary(0x21, 0x13, &TCP4), Malformed::Binary),
            (&binary(0x21, 0x11, &TCP4[..11]), Malformed::Binary),
            (&binary(0x21, 0x11, &[&TCP4[..], &[4, 0]].concat()), Malformed::Binary),
            (&binary(0x21, 0x11, &[&TCP4[..], &[4, 0, 1]].concat()), Malformed::Binary),
            (&binary(0x21, 0x11, &[&TCP4[..], &[3, 0, 1, 0]].concat()), Malformed::Binary),
        ] {
            assert_eq!(parse(bytes), Err(why), "{bytes:?}");
        }
    }

    #[test]
    fn the_longest_headers_are_taken_and_longer_ones_refused_before_they_are_read() {
        let line =
            |length: usize| [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; length - 16], b"\r\n".to_vec()].concat();
        assert!(matches!(parse(&line(107)), Ok(Parsed::Header(Header { length: 107, .. }))));
        assert_eq!(parse(&line(108)), Err(Malformed::TooLong));
        assert!(matches!(parse(&binary(0x20, 0, &[0; 4096])), Ok(Parsed::Header(_))));
        assert_eq!(parse(&binary(0x20, 0, &[0; 4097])[..16]), Err(Malformed::TooLong));
    }

    fn any_header() -> impl Strategy<Value = Vec<u8>> {
        let line = any::<(Ipv4Addr, Ipv4Addr, u16, u16)>()
            .prop_map(|(a, b, c, d)| format!("PROXY TCP4 {a} {b} {c} {d}\r\n").into_bytes());
        let line6 = any::<(Ipv6Addr, Ipv6Addr, u16, u16)>()
            .prop_map(|(a, b, c, d)| format!("PROXY TCP6 {a} {b} {c} {d}\r\n").into_bytes());
        let v2 =
            (any::<[u8; 12]>(), prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(addresses, value)| {
                let length = value.len() as u8;
                binary(0x21, 0x11, &[&addresses[..], &[0xE0, 0, length], &value].concat())
            });
        prop_oneof![line, line6, v2, Just(with_checksum())]
    }

    proptest! {
        #[test]
        fn every_beginning_of_a_header_is_incomplete_and_what_follows_does_not_matter(
            header in any_header(),
            rest: Vec<u8>,
        ) {
            for end in 0..header.len() {
                prop_assert_eq!(parse(&header[..end]), Ok(Parsed::Incomplete));
            }
            let whole = parse(&header);
            let is_whole = matches!(whole, Ok(Parsed::Header(Header { length, .. })) if length == header.len());
            prop_assert!(is_whole);
            prop_assert_eq!(parse(&[header, rest].concat()), whole);
        }

        #[test]
        fn no_bytes_make_it_panic(head in 0..4_usize, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let head = [&b""[..], V1_START, V2_START, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"][head];
            let bytes = [head, &bytes].concat();
            if let Ok(Parsed::Header(header)) = parse(&bytes) {
                prop_assert!(header.length <= bytes.len());
            }
        }
    }
}
