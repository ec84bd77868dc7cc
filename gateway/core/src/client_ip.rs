//! Who the client is: the one address that limits, allow-lists, logs, hashing and X-Forwarded-For go by.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

/// The most hops that are followed; beyond them the walk stops.
pub const MAX_HOPS: usize = 64;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The networks whose word is taken for who came before them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustedProxies {
    /// Sorted and apart, both ends included.
    v4: Vec<(Ipv4Addr, Ipv4Addr)>,
    v6: Vec<(Ipv6Addr, Ipv6Addr)>,
}

impl TrustedProxies {
    /// Compiles networks, which may overlap.
    pub fn new(networks: &[IpNet]) -> Self {
        let mut trusted = Self::default();
        for network in IpNet::aggregate(&networks.iter().map(unmapped).collect()) {
            match network {
                IpNet::V4(network) => trusted.v4.push((network.network(), network.broadcast())),
                IpNet::V6(network) => trusted.v6.push((network.network(), network.broadcast())),
            }
        }
        trusted.v4.sort_unstable();
        trusted.v6.sort_unstable();
        trusted
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether `address` is in one of the networks. O(log networks).
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => is_within(&self.v4, address),
            IpAddr::V6(address) => is_within(&self.v6, address),
        }
    }
}

/// `::ffff:10.0.0.0/104` is `10.0.0.0/8`, as addresses are compared in their canonical form.
fn unmapped(network: &IpNet) -> IpNet {
    let prefix = network.prefix_len().checked_sub(96);
    if let (IpNet::V6(v6), Some(prefix)) = (network, prefix)
        && let Some(v4) = v6.network().to_ipv4_mapped()
        && let Ok(network) = IpNet::new(v4.into(), prefix)
    {
        return network;
    }
    *network
}

fn is_within<A: Ord + Copy>(ranges: &[(A, A)], address: A) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    after.checked_sub(1).is_some_and(|index| address <= ranges[index].1)
}

/// What is known of where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved<'a> {
    /// The client, in canonical form: an IPv4 address is never mapped into IPv6.
    pub client_ip: IpAddr,
    /// Whether the peer is a trusted proxy, so that its request id and `X-Forwarded-*` are to be kept.
    pub from_trusted: bool,
    /// The scheme the client used, as a trusted proxy tells it; `http` or `https`.
    pub proto: Option<&'a str>,
    /// The host the client asked for, as a trusted proxy tells it; not checked.
    pub host: Option<&'a str>,
}

/// Finds the client behind `peer`, the other end of the socket (or of the PROXY header).
///
/// From an untrusted peer nothing is believed. From a trusted one X-Forwarded-For, its fields joined in order, is read
/// from right to left while the hop is trusted; the first that is not is the client. What does not parse stops the
/// walk at the last good hop. Forwarded (RFC 7239) is read in the same way if there is no X-Forwarded-For. A scheme and
/// host listed hop by hop are taken from the client's place in the list, else the last one is.
///
/// Allocates nothing.
pub fn resolve<'a>(peer: IpAddr, trusted: &TrustedProxies, headers: &'a HeaderMap) -> Resolved<'a> {
    let peer = peer.to_canonical();
    if trusted.is_empty() || !trusted.contains(peer) {
        return Resolved { client_ip: peer, from_trusted: false, proto: None, host: None };
    }
    if !headers.contains_key(&X_FORWARDED_FOR) && headers.contains_key(FORWARDED) {
        return from_forwarded(peer, trusted, headers);
    }
    let (client_ip, hops) = walk(peer, trusted, elements(headers, &X_FORWARDED_FOR));
    let of_client = |name| at_hop(elements(headers, name), hops);
    let proto = of_client(&X_FORWARDED_PROTO).and_then(scheme);
    Resolved { client_ip, from_trusted: true, proto, host: of_client(&X_FORWARDED_HOST) }
}

/// Follows `hops`, the nearest first. Gives the client and how many hops away from us it was named (0: it is the peer).
fn walk<'a>(peer: IpAddr, trusted: &TrustedProxies, hops: impl Iterator<Item = &'a str>) -> (IpAddr, usize) {
    let (mut client, mut count) = (peer, 0);
    for hop in hops.take(MAX_HOPS) {
        let Some(address) = parse_hop(hop) else { break };
        (client, count) = (address, count + 1);
        if !trusted.contains(address) {
            break;
        }
    }
    (client, count)
}

fn from_forwarded<'a>(peer: IpAddr, trusted: &TrustedProxies, headers: &'a HeaderMap) -> Resolved<'a> {
    let addresses = elements(headers, &FORWARDED).map(|element| pair(element, "for").unwrap_or(""));
    let (client_ip, hops) = walk(peer, trusted, addresses);
    let of_client = elements(headers, &FORWARDED).nth(hops.saturating_sub(1));
    let value = |name| of_client.and_then(|element| pair(element, name));
    Resolved { client_ip, from_trusted: true, proto: value("proto").and_then(scheme), host: value("host") }
}

/// The value at the client's place, counted from the nearest hop; the nearest if the list is shorter than that.
fn at_hop<'a>(mut values: impl Iterator<Item = &'a str>, hops: usize) -> Option<&'a str> {
    let nearest = values.next().filter(|value| !value.is_empty())?;
    match hops {
        0 | 1 => Some(nearest),
        _ => values.nth(hops - 2).filter(|value| !value.is_empty()).or(Some(nearest)),
    }
}

fn scheme(text: &str) -> Option<&'static str> {
    ["https", "http"].into_iter().find(|known| text.eq_ignore_ascii_case(known))
}

/// The elements of all fields called `name`, from the last to the first. A field that is not text is one bad element.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    headers.get_all(name).iter().rev().flat_map(|value| from_right(value.to_str().unwrap_or("")))
}

/// The comma-separated elements of `list` from right to left, trimmed; commas in quotes part nothing. Reading from the
/// right, nothing a client put further left can change what a proxy appended.
fn from_right(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let list = rest?;
        let mut quoted = false;
        let comma = list.bytes().rposition(|byte| {
            quoted ^= byte == b'"';
            byte == b',' && !quoted
        });
        let (before, element) = match comma {
            Some(comma) => (Some(&list[..comma]), &list[comma + 1..]),
            None => (None, list),
        };
        rest = before;
        Some(element.trim_matches([' ', '\t']))
    })
}

/// The value of `name` in `for=1.2.3.4;proto=https`, without its quotes.
fn pair<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let value_of = |pair: &'a str| {
        let (key, value) = pair.trim_matches([' ', '\t']).split_once('=')?;
        key.eq_ignore_ascii_case(name).then(|| unquoted(value))
    };
    element.split(';').find_map(value_of)
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

/// Reads `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]` and `[::1]:80`, quoted or not, the first with `for=` before it or not.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let text = unquoted(pair(text, "for").unwrap_or(text));
    let address = match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(bracketed) => bracketed.parse::<Ipv6Addr>().ok()?.into(),
        None => {
            text.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip())).ok()?
        }
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn trusted(networks: &[&str]) -> TrustedProxies {
        let networks: Vec<_> = networks.iter().map(|network| network.parse().expect("a network")).collect();
        TrustedProxies::new(&networks)
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).expect("a field value"));
        }
        headers
    }

    fn client(peer: &str, fields: &[(&'static str, &str)]) -> IpAddr {
        resolve(ip(peer), &trusted(&["10.0.0.0/8", "fd00::/8"]), &headers(fields)).client_ip
    }

    #[test]
    fn an_untrusted_peer_is_the_client_whatever_it_says() {
        let fields =
            [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "https"), ("forwarded", "for=1.1.1.1")];
        let headers = headers(&fields);
        for networks in [trusted(&[]), trusted(&["10.0.0.0/8"])] {
            let resolved = resolve(ip("192.0.2.1"), &networks, &headers);
            let expected =
                Resolved { client_ip: ip("192.0.2.1"), from_trusted: false, proto: None, host: None };
            assert_eq!(resolved, expected);
        }
    }

    #[test]
    fn what_a_client_puts_in_front_is_not_believed() {
        let spoofed =
            [("x-forwarded-for", "127.0.0.1, 10.0.0.9, 192.0.2.7"), ("x-forwarded-for", "10.1.1.1")];
        assert_eq!(client("10.0.0.1", &spoofed), ip("192.0.2.7"));
        let split = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "192.0.2.7, 10.1.1.1")];
        assert_eq!(client("10.0.0.1", &split), ip("192.0.2.7"));
    }

    #[test]
    fn a_hop_that_does_not_parse_stops_the_walk_at_the_last_good_one() {
        for bad in
            ["unknown", "", "_hidden", "1.2.3", "1.2.3.4.5", "[::1", "::1]:80", "fe80::1%eth0", "for=", "\""]
        {
            let list = format!("192.0.2.7, {bad}, 10.2.2.2");
            assert_eq!(client("10.0.0.1", &[("x-forwarded-for", &list)]), ip("10.2.2.2"), "{bad:?}");
        }
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", "garbage")]), ip("10.0.0.1"));
    }

    #[test]
    fn all_hops_trusted_means_the_farthest() {
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", "10.3.3.3,10.2.2.2")]), ip("10.3.3.3"));
        assert_eq!(client("10.0.0.1", &[]), ip("10.0.0.1"));
    }

    #[test]
    fn ports_brackets_and_quotes_are_tolerated() {
        for hop in
            ["192.0.2.7:4711", "\"192.0.2.7\"", "for=192.0.2.7", "For=\"192.0.2.7:80\"", "::ffff:192.0.2.7"]
        {
            assert_eq!(client("10.0.0.1", &[("x-forwarded-for", hop)]), ip("192.0.2.7"), "{hop}");
        }
        for hop in ["2001:db8::7", "[2001:db8::7]", "[2001:db8::7]:443", "\"[2001:db8::7]:443\""] {
            assert_eq!(client("fd00::1", &[("x-forwarded-for", hop)]), ip("2001:db8::7"), "{hop}");
        }
    }

    #[test]
    fn mapped_addresses_are_the_ipv4_ones() {
        let fields = [("x-forwarded-for", "192.0.2.7")];
        assert_eq!(client("::ffff:10.0.0.1", &fields), ip("192.0.2.7"));
        assert_eq!(client("::ffff:192.0.2.1", &fields), ip("192.0.2.1"));
        assert!(trusted(&["::ffff:10.0.0.0/104"]).contains(ip("10.9.9.9")));
    }

    #[test]
    fn forwarded_is_read_where_there_is_no_x_forwarded_for() {
        let headers = headers(&[(
            "forwarded",
            r#"for=6.6.6.6;proto=http, For="[2001:db8::7]:99";Proto=HTTPS;host="shop.example", for=10.1.1.1;proto=http"#,
        )]);
        let resolved = resolve(ip("10.0.0.1"), &trusted(&["10.0.0.0/8"]), &headers);
        let expected = Resolved {
            client_ip: ip("2001:db8::7"),
            from_trusted: true,
            proto: Some("https"),
            host: Some("shop.example"),
        };
        assert_eq!(resolved, expected);
        assert_eq!(
            client("10.0.0.1", &[("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=192.0.2.8")]),
            ip("192.0.2.7")
        );
    }

    #[test]
    fn an_open_quote_of_the_client_swallows_nothing_a_proxy_appended() {
        assert_eq!(client("10.0.0.1", &[("forwarded", r#"for="1.1.1.1, for=192.0.2.7"#)]), ip("192.0.2.7"));
        assert_eq!(
            client("10.0.0.1", &[("forwarded", r#"for="a,for=6.6.6.6", for=192.0.2.7"#)]),
            ip("192.0.2.7")
        );
    }

    #[test]
    fn scheme_and_host_are_those_the_client_used() {
        for (proto, expected) in
            [("https", Some("https")), ("http, https, http", Some("https")), ("gopher", None)]
        {
            let fields = [("x-forwarded-for", "6.6.6.6, 192.0.2.7, 10.1.1.1"), ("x-forwarded-proto", proto)];
            let headers = headers(&fields);
            assert_eq!(resolve(ip("10.0.0.1"), &trusted(&["10.0.0.0/8"]), &headers).proto, expected);
        }
    }

    #[test]
    fn the_walk_ends_after_64_hops() {
        let list = ["192.0.2.7"].into_iter().chain(std::iter::repeat_n("10.1.1.1", MAX_HOPS));
        let list = list.collect::<Vec<_>>().join(",");
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", &list)]), ip("10.1.1.1"));
        let list = list.replacen(",10.1.1.1", "", 1);
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", &list)]), ip("192.0.2.7"));
    }

    proptest! {
        #[test]
        fn being_trusted_is_being_in_one_of_the_networks_in_canonical_form(
            networks in prop::collection::vec((any::<IpAddr>(), 0..=32_u8), 0..8),
            address: IpAddr,
            near in any::<prop::sample::Index>(),
        ) {
            let nets: Vec<IpNet> =
                networks.iter().map(|(address, prefix)| IpNet::new(*address, *prefix).expect("a network")).collect();
            let trusted = TrustedProxies::new(&nets);
            let near = if nets.is_empty() { address } else { near.get(&nets).broadcast() };
            for address in [address, near] {
                prop_assert_eq!(trusted.contains(address), nets.iter().any(|net| net.contains(&address.to_canonical())));
            }
        }

        #[test]
        fn no_header_makes_it_panic(value in prop::collection::vec(32..=255_u8, 0..80), forwarded: bool) {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.insert(if forwarded { FORWARDED } else { X_FORWARDED_FOR.clone() }, value);
            }
            let resolved = resolve(ip("10.0.0.1"), &trusted(&["0.0.0.0/0", "::/0"]), &headers);
            prop_assert!(resolved.from_trusted);
        }
    }
}
