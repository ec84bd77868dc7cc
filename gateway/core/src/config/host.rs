//! Host names, as routes and endpoints write them.

use crate::route::rule::HostPattern;

/// Why a text is not a host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HostError {
    #[error("a host name cannot be empty")]
    Empty,
    #[error("a host has no port here")]
    Port { host: String },
    #[error("a host name is written in ASCII")]
    NotAscii,
    #[error("`{text}` is not a host name: the part `{label}` does not fit")]
    Label { text: String, label: String },
    #[error("`{text}` is longer than 253 characters")]
    TooLong { text: String },
    #[error("`{text}`: a `*` stands alone in front of a domain, as in `*.shop.example`")]
    Star { text: String },
}

/// A name, or `*.` and a name. IP addresses are taken as they stand.
pub(crate) fn host_pattern(text: &str) -> Result<HostPattern, HostError> {
    if let Some(domain) = text.strip_prefix("*.") {
        return host_name(domain).map(HostPattern::Wildcard);
    }
    if text.contains('*') {
        return Err(HostError::Star { text: text.into() });
    }
    let with_port = text.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
    if let Some((host, _)) = with_port.filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(HostError::Port { host: host.into() });
    }
    if text.starts_with('[') && text.ends_with(']') {
        let address = text[1..text.len() - 1].parse::<std::net::Ipv6Addr>();
        let label = || HostError::Label { text: text.into(), label: text.into() };
        return address.map(|address| HostPattern::Exact(format!("[{address}]"))).map_err(|_| label());
    }
    host_name(text).map(HostPattern::Exact)
}

/// A DNS name in lower case, without the trailing dot.
pub(crate) fn host_name(text: &str) -> Result<String, HostError> {
    const LONGEST: usize = 253;
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return Err(HostError::Empty);
    }
    if !name.is_ascii() {
        return Err(HostError::NotAscii);
    }
    if name.len() > LONGEST {
        return Err(HostError::TooLong { text: text.into() });
    }
    match name.split('.').find(|label| !is_label(label)) {
        Some(label) => Err(HostError::Label { text: text.into(), label: label.into() }),
        None => Ok(name.to_ascii_lowercase()),
    }
}

/// 1 to 63 letters, digits, `-` and `_` (container names have it), not beginning or ending with `-`.
fn is_label(label: &str) -> bool {
    const LONGEST: usize = 63;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=LONGEST).contains(&label.len())
        && label.bytes().all(fits)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_without_the_last_dot() {
        assert_eq!(host_pattern("Shop.Example."), Ok(HostPattern::Exact("shop.example".into())));
        assert_eq!(host_pattern("*.Shop.example"), Ok(HostPattern::Wildcard("shop.example".into())));
        assert_eq!(host_pattern("127.0.0.1"), Ok(HostPattern::Exact("127.0.0.1".into())));
        assert_eq!(host_pattern("[::0:1]"), Ok(HostPattern::Exact("[::1]".into())));
    }

    #[test]
    fn ports_stars_and_other_alphabets_are_refused() {
        assert_eq!(host_pattern("a.example:80"), Err(HostError::Port { host: "a.example".into() }));
        assert_eq!(host_pattern("[::1]:80"), Err(HostError::Port { host: "[::1]".into() }));
        assert_eq!(host_pattern("münchen.example"), Err(HostError::NotAscii));
        for text in ["a.*.example", "*", "a*.example"] {
            assert_eq!(host_pattern(text), Err(HostError::Star { text: text.into() }));
        }
        for text in ["", ".", "a..b", "-a", "a b", "a/b", "*.", "http://a"] {
            assert!(host_pattern(text).is_err(), "{text}");
        }
    }
}
