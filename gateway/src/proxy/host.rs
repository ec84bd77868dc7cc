//! The host a request names, as routes are looked up by it.

/// Lower case, without port, brackets and trailing dot (RFC 3986 §3.2.2, RFC 9110 §7.2).
///
/// `None` for what is no host: empty, user information, spaces, a port that is no number.
pub(crate) fn normalise(authority: &str) -> Option<String> {
    let (host, port) = split_port(authority)?;
    let valid_port = port.is_none_or(|port| port.is_empty() || port.parse::<u16>().is_ok());
    let name = host.strip_suffix('.').unwrap_or(host);
    let valid_name = if host.starts_with('[') {
        host.strip_prefix('[')?.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().is_ok()
    } else {
        !name.is_empty() && name.len() <= 253 && name.bytes().all(is_host_byte)
    };
    (valid_port && valid_name).then(|| name.to_ascii_lowercase())
}

fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(end) = authority.find(']') {
        let (host, rest) = authority.split_at(end + 1);
        return match rest {
            "" => Some((host, None)),
            _ => Some((host, Some(rest.strip_prefix(':')?))),
        };
    }
    match authority.split_once(':') {
        Some((host, port)) => Some((host, Some(port))),
        None => Some((authority, None)),
    }
}

/// Underscores are no host name by RFC 952, and in use everywhere.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_port_and_trailing_dot_do_not_matter() {
        for text in
            ["shop.example", "SHOP.example:8443", "shop.example.", "shop.example.:443", "shop.example:"]
        {
            assert_eq!(normalise(text).as_deref(), Some("shop.example"), "{text}");
        }
        assert_eq!(normalise("[::1]:80").as_deref(), Some("[::1]"));
        assert_eq!(normalise("127.0.0.1:80").as_deref(), Some("127.0.0.1"));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in
            ["", ":80", ".", "a b", "a/b", "user@host", "a:b", "a:99999", "[::1", "[::1]x", "a,b", "a:1:2"]
        {
            assert_eq!(normalise(text), None, "{text}");
        }
    }
}
