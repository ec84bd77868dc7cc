//! What a verified client certificate says, as header fields for services; and that nobody else can say it.

use std::fmt::Write;

use aws_lc_rs::digest::{SHA256, digest};
use gateway_core::config::model::ClientHeaders;
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::{Oid, ToDer};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// A subject that takes more room is not forwarded: cut short, it could be somebody else's.
const LONGEST_SUBJECT: usize = 2048;

/// Fields that a connection's client has earned in its handshake.
pub(crate) type Fields = Vec<(HeaderName, HeaderValue)>;

/// The fields for a certificate that was verified. Some microseconds, once for each connection.
pub(crate) fn fields(certificate: &CertificateDer<'_>, names: &ClientHeaders) -> Fields {
    let subject = names.subject.as_ref().and_then(|name| Some((name.clone(), subject(certificate)?)));
    let fingerprint = names.fingerprint.as_ref();
    let fingerprint = fingerprint.and_then(|name| Some((name.clone(), fingerprint_of(certificate)?)));
    subject.into_iter().chain(fingerprint).collect()
}

/// Names that only the gateway may write, on whatever listener a request comes in.
#[derive(Debug, Default)]
pub(crate) struct Reserved(Vec<HeaderName>);

impl Reserved {
    pub(crate) fn new<'a>(names: impl Iterator<Item = &'a HeaderName>) -> Self {
        Self(names.cloned().collect())
    }

    /// Puts what the gateway knows in place of what the client says, before anything reads the request.
    pub(crate) fn settle(&self, headers: &mut HeaderMap, known: &Fields) {
        if self.0.is_empty() && known.is_empty() {
            return;
        }
        let said: Vec<HeaderName> = headers.keys().filter(|name| self.holds(name)).cloned().collect();
        for name in &said {
            headers.remove(name);
        }
        for (name, value) in known {
            headers.insert(name.clone(), value.clone());
        }
    }

    /// CGI, and with it WSGI, makes one variable of `x-client-subject` and `x_client_subject` (RFC 3875 §4.1.18).
    fn holds(&self, name: &HeaderName) -> bool {
        let plain = |byte: u8| if byte == b'_' { b'-' } else { byte };
        let alike = |own: &HeaderName| own.as_str().bytes().map(plain).eq(name.as_str().bytes().map(plain));
        self.0.iter().any(alike)
    }
}

/// SHA-256 of the whole certificate, in lower-case hexadecimal.
fn fingerprint_of(certificate: &CertificateDer<'_>) -> Option<HeaderValue> {
    let mut text = String::with_capacity(64);
    hexadecimal(&mut text, digest(&SHA256, certificate).as_ref());
    HeaderValue::try_from(text).ok()
}

/// The subject by RFC 4514; nothing for a certificate without one.
fn subject(certificate: &CertificateDer<'_>) -> Option<HeaderValue> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let text = distinguished_name(parsed.subject())?;
    HeaderValue::try_from(text).ok().filter(|text| !text.is_empty() && text.len() <= LONGEST_SUBJECT)
}

/// The string of a name, last part first (RFC 4514 §2.1): `CN=alice,O=Shop`. Printable ASCII: other characters are
/// written as the hexadecimal pairs the RFC has for them.
fn distinguished_name(name: &X509Name<'_>) -> Option<String> {
    let mut parts = Vec::new();
    for rdn in name.iter_rdn() {
        let pairs: Option<Vec<String>> = rdn.iter().map(pair).collect();
        parts.push(pairs?.join("+"));
    }
    parts.reverse();
    Some(parts.join(","))
}

fn pair(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    let mut text = match short_name(attribute.attr_type()) {
        Some(name) => format!("{name}="),
        None => format!("{}=", attribute.attr_type().to_id_string()),
    };
    match attribute.as_str() {
        Ok(value) if short_name(attribute.attr_type()).is_some() => escape(&mut text, value),
        // RFC 4514 §2.4: what has no string of its own is given by its encoding.
        _ => {
            text.push('#');
            hexadecimal(&mut text, &attribute.attr_value().to_der_vec().ok()?);
        }
    }
    Some(text)
}

/// The names of RFC 4514 §3, and the one that is met besides.
fn short_name(kind: &Oid<'_>) -> Option<&'static str> {
    Some(match kind.to_id_string().as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.6" => "C",
        "2.5.4.9" => "STREET",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

/// RFC 4514 §2.4. What it lets stand and is not printable ASCII is escaped as well.
fn escape(text: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' ' if at == 0 || at == last => text.push_str("\\ "),
            b'#' if at == 0 => text.push_str("\\#"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                text.push('\\');
                hexadecimal(text, &[byte]);
            }
        }
    }
}

fn hexadecimal(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    use super::*;

    fn certificate(parts: &[(DnType, DnValue)]) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn name_of(kind: DnType, value: impl Into<DnValue>) -> Option<String> {
        Some(subject(&certificate(&[(kind, value.into())]))?.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_subject_is_written_last_part_first() {
        let parts = [
            (DnType::CountryName, "DE".into()),
            (DnType::OrganizationName, "Shop".into()),
            (DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 1]), "a1".into()),
            (DnType::CommonName, "alice".into()),
        ];
        assert_eq!(subject(&certificate(&parts)).unwrap(), "CN=alice,UID=a1,O=Shop,C=DE");
        assert_eq!(subject(&certificate(&[])), None);
    }

    #[test]
    fn no_value_can_pass_for_another_part_or_another_field() {
        let common_name = |value: &str| name_of(DnType::CommonName, value).unwrap();
        assert_eq!(common_name("alice,O=Admin"), "CN=alice\\,O=Admin");
        assert_eq!(common_name("a+b;c<d>e\"f\\g"), "CN=a\\+b\\;c\\<d\\>e\\\"f\\\\g");
        assert_eq!(common_name("a\r\nx-admin: 1\0"), "CN=a\\0d\\0ax-admin: 1\\00");
        assert_eq!(common_name("zoë"), "CN=zo\\c3\\ab");
        assert_eq!(
            (common_name(" a b "), common_name("#1"), common_name(" ")),
            ("CN=\\ a b\\ ".into(), "CN=\\#1".into(), "CN=\\ ".into())
        );
        let serial_number = name_of(DnType::CustomDnType(vec![2, 5, 4, 5]), "7").unwrap();
        assert_eq!(serial_number, "2.5.4.5=#0c0137");
        let bmp = DnValue::BmpString("a".try_into().unwrap());
        assert_eq!(name_of(DnType::CommonName, bmp).unwrap(), "CN=#1e020061");
    }

    #[test]
    fn a_subject_that_is_too_long_is_left_out_and_never_cut() {
        assert!(name_of(DnType::CommonName, "x".repeat(LONGEST_SUBJECT - 3)).is_some());
        assert_eq!(name_of(DnType::CommonName, "x".repeat(LONGEST_SUBJECT - 2)), None);
    }

    #[test]
    fn what_a_client_says_under_a_reserved_name_goes_however_it_is_spelt() {
        let names = [HeaderName::from_static("x-client-subject"), HeaderName::from_static("x_user")];
        let reserved = Reserved::new(names.iter());
        let mut headers = HeaderMap::new();
        for name in
            ["X-Client-Subject", "x_client-subject", "X-USER", "x_user", "x-client-subject2", "x-users"]
        {
            headers
                .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("root"));
        }
        let known = vec![(names[0].clone(), HeaderValue::from_static("CN=alice"))];
        reserved.settle(&mut headers, &known);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-client-subject", "x-client-subject2", "x-users"]);
        assert_eq!(headers["x-client-subject"], "CN=alice");
    }
}
