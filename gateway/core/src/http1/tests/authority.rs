use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;

use crate::http1::{BadHead, check_authority};

fn check(method: Method, target: impl AsRef<[u8]>, hosts: &[&str]) -> Result<(), BadHead> {
    let mut headers = HeaderMap::new();
    for host in hosts {
        headers.append("host", HeaderValue::from_bytes(host.as_bytes()).unwrap());
    }
    check_authority(&method, target.as_ref(), &headers)
}

#[test]
fn one_host_passes() {
    for target in ["/", "//other/", "/a?b=http://user@evil/", "/users/a@b", "/\\x", "/a:b", "/x?y=a:1:2"] {
        assert_eq!(check(Method::GET, target, &["a.example"]), Ok(()), "{target}");
        assert_eq!(check(Method::GET, target, &[]), Ok(()), "{target}");
    }
    for host in [
        "a",
        "a_b.c-d.example",
        "a.example:8443",
        "a.example:",
        "127.0.0.1:80",
        "[::1]",
        "[::1]:443",
        "",
        "a,b",
    ] {
        assert_eq!(check(Method::GET, "/", &[host]), Ok(()), "{host}");
    }
    assert_eq!(check(Method::GET, b"/caf\xe9", &["a"]), Ok(()));
    assert_eq!(check(Method::OPTIONS, "*", &["a"]), Ok(()));
    for target in ["http://a.example", "HTTP://a.example/", "https://a.example?b", "hTTps://a.example/x@y"] {
        assert_eq!(check(Method::GET, target, &["a.example"]), Ok(()), "{target}");
        assert_eq!(check(Method::OPTIONS, target, &[]), Ok(()), "{target}");
    }
    assert_eq!(check(Method::GET, "http://[::1]:80/", &["[::1]:80"]), Ok(()));
}

#[test]
fn several_hosts_are_refused() {
    assert_eq!(check(Method::GET, "/", &["a", "b"]), Err(BadHead::ManyHosts));
    assert_eq!(check(Method::GET, "/", &["a", "a"]), Err(BadHead::ManyHosts));
    assert_eq!(check(Method::GET, "http://a/", &["a", ""]), Err(BadHead::ManyHosts));
}

#[test]
fn what_is_no_host_is_refused() {
    for host in [
        "user@a",
        "user:pass@a",
        "@",
        "a/b",
        "a?b",
        "a#b",
        "a\\b",
        "a b",
        "a\tb",
        "a:b",
        "a:80x",
        "a:1:2",
        "a:-1",
        ":80",
        ":",
        "a%2fb",
        "user%40a",
        "::1",
        "[::1",
        "::1]",
        "[]",
        "[a]",
        "[::1]x",
        "[::1]:x",
        "[::1]:1:2",
        "[[::1]]",
        "[v1.a]",
        "[fe80::1%25eth0]",
        "a[b]",
        "a<b",
        "a\"b",
        "a|b",
        "a^b",
        "caf\u{e9}",
        "http://a",
    ] {
        assert_eq!(check(Method::GET, "/", &[host]), Err(BadHead::Host), "{host}");
    }
}

#[test]
fn a_target_of_another_host_is_refused() {
    for host in ["b", "", "A", "a:80", "a."] {
        assert_eq!(check(Method::GET, "http://a/", &[host]), Err(BadHead::HostDiffers), "{host}");
    }
}

#[test]
fn targets_of_other_forms_are_refused() {
    let cases: &[(&str, &[u8])] = &[
        ("nothing", b""),
        ("asterisk for GET", b"*"),
        ("no slash", b"a"),
        ("query alone", b"?a"),
        ("authority form", b"a:80"),
        ("fragment", b"/a#b"),
        ("fragment in absolute form", b"http://a/#b"),
        ("fragment ends the authority", b"http://a#@b/"),
        ("backslashes for slashes", b"http:/\\a/"),
        ("backslashes around slashes", b"http:/\\/\\a/"),
        ("two backslashes", b"http:\\\\a/"),
        ("no slashes", b"http:a/"),
        ("one slash", b"http:/a/"),
        ("backslash in the authority", b"http://a\\b/"),
        ("backslash before userinfo", b"http://a\\@b/"),
        ("userinfo", b"http://user@a/"),
        ("userinfo with password", b"http://user:pass@a/"),
        ("empty userinfo", b"http://@a/"),
        ("no authority", b"http:///a"),
        ("no authority before a query", b"https://?a"),
        ("no authority at all", b"http://"),
        ("no scheme", b"://a/"),
        ("other scheme", b"ftp://a/"),
        ("WebSocket scheme", b"ws://a/"),
        ("scheme alike", b"httpx://a/"),
        ("scheme with blanks of other kind", b"ht\xa0tp://a/"),
        ("file", b"file:///etc/passwd"),
        ("percent-encoded authority", b"http://a%2fb/"),
        ("two ports", b"http://a:443:80/"),
        ("port of letters", b"http://a:b/"),
        ("bracket left open", b"http://[::1/"),
        ("bracket inside", b"http://a[b]/"),
        ("obs-text in the authority", b"http://a\xe9/"),
    ];
    for (name, target) in cases {
        assert_eq!(check(Method::GET, target, &[]), Err(BadHead::Target), "{name}");
        assert_eq!(check(Method::GET, target, &["a"]), Err(BadHead::Target), "{name}");
    }
    assert_eq!(check(Method::OPTIONS, "*x", &["a"]), Err(BadHead::Target));
    assert_eq!(check(Method::from_bytes(b"options").unwrap(), "*", &["a"]), Err(BadHead::Target));
}

#[test]
fn connect_is_told_apart() {
    for target in ["a:443", "/", "http://a/", "*"] {
        assert_eq!(check(Method::CONNECT, target, &["a"]), Err(BadHead::Connect));
    }
    assert_eq!(
        check(Method::from_bytes(b"connect").unwrap(), "/", &["a"]),
        Ok(()),
        "methods are case-sensitive"
    );
}

proptest! {
    #[test]
    fn whatever_passes_is_an_authority_to_others_too(
        authority in "[a-zA-Z0-9:\\[\\]@%./\\\\?#_~!$&'()*+,;= -]{1,12}",
    ) {
        let target = format!("http://{authority}/x");
        if check(Method::GET, &target, &[]).is_ok() && check(Method::GET, &target, &[&authority]).is_ok() {
            let parsed = Authority::try_from(authority.as_str());
            prop_assert!(parsed.is_ok_and(|parsed| parsed.as_str() == authority), "{}", authority);
            prop_assert!(!authority.contains(['@', '/', '\\', '?', '#', ' ']));
        }
    }
}
