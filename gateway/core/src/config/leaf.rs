//! The scalars of the grammar: how each is written, checked and described.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use ipnet::IpNet;
use regex::{Regex, RegexBuilder};

use super::decode::{Fault, Leaf, choice};
use super::host::{HostError, host_name, host_pattern};
use super::model::{
    Address, Balance, Gate, LimitKey, LimitScope, NotifyEvent, NotifyFormat, Protocol, Socket, StoreDown,
    TlsVersion,
};
use super::problem::Code;
use crate::route::rule::HostPattern;
use crate::unit::{ByteSize, InvalidUnit, Multiple, Rate, Ratio, Weight, parse_duration};

/// Gives a type the schema of a string with a description and examples.
macro_rules! text_schema {
    ($type:ty, $description:literal, [$($example:literal),*]) => {
        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $description, "examples": [$($example),*] })
            }
        }
    };
}

/// A type of its own around one that belongs to another crate.
macro_rules! wrapper {
    ($(#[$doc:meta])* $name:ident($inner:ty), $what:literal, $description:literal, [$($example:literal),*], $parse:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub(crate) struct $name(pub(crate) $inner);

        impl Leaf for $name {
            const WHAT: &'static str = $what;

            fn parse(text: &str) -> Result<Self, Fault> {
                let parse: fn(&str) -> Result<$inner, Fault> = $parse;
                parse(text).map(Self)
            }
        }

        text_schema!($name, $description, [$($example),*]);
    };
}

macro_rules! unit {
    ($($type:ty, $what:literal, $description:literal, [$($example:literal),*];)+) => {$(
        impl Leaf for $type {
            const WHAT: &'static str = $what;

            fn parse(text: &str) -> Result<Self, Fault> {
                <$type>::from_str(text).map_err(unit_fault)
            }
        }

        text_schema!($type, $description, [$($example),*]);
    )+};
}

unit! {
    Weight, "a percentage", "A share of the traffic, 0% to 100%.", ["10%", "0.5%"];
    Ratio, "a percentage", "A percentage, 0% to 100%.", ["5%", "99.9%"];
    Multiple, "a multiple", "A multiple, 1x or more.", ["1.2x", "2x"];
    Rate, "a rate", "So many in a second, minute or hour.", ["100/s", "30/m", "500/h"];
    ByteSize, "a size", "A number of bytes with its unit.", ["512B", "64KiB", "10MiB"];
}

fn unit_fault(error: InvalidUnit) -> Fault {
    Fault { code: Code::InvalidUnit, ..Fault::new(error.to_string()) }
}

wrapper!(
    /// A duration.
    Period(Duration), "a duration", "A duration with its unit: ms, s, m, h or d.", ["500ms", "10s", "5m", "1h"],
    |text| parse_duration(text).map_err(unit_fault)
);

wrapper!(
    /// An address to listen on.
    ListenAddress(SocketAddr), "an address", "IP address and port; an IPv6 address stands in brackets.",
    ["[::]:443", "127.0.0.1:8080"], listen_address
);

wrapper!(
    /// A range of addresses.
    Cidr(IpNet), "an address range", "A range of addresses, or a single one.", ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"],
    cidr
);

wrapper!(
    /// A request method.
    MethodName(Method), "a method", "A request method, in capitals.", ["GET", "POST"], method
);

wrapper!(
    /// The name of a header field.
    FieldName(HeaderName), "a header name", "The name of a header field; case does not matter.", ["x-request-id"],
    |text| HeaderName::from_str(text).map_err(|_| Fault::new(format!("`{text}` is not a header name")))
);

wrapper!(
    /// The value of a header field.
    FieldValue(HeaderValue), "a header value", "The value of a header field.", ["no-store"],
    |text| HeaderValue::from_str(text).map_err(|_| Fault::new("a header value cannot hold line breaks or control characters"))
);

wrapper!(
    /// A regular expression.
    Expression(Regex), "a regular expression", "A regular expression (syntax of the Rust regex crate); anchor it with ^ and $.",
    ["^/users/[0-9]+$"], expression
);

wrapper!(
    /// A host a route answers to.
    Host(HostPattern), "a host name", "A host name, or `*.` and a domain for everything below it.", ["shop.example", "*.shop.example"],
    |text| host_pattern(text).map_err(host_fault)
);

wrapper!(
    /// A path in a URL.
    UrlPath(String), "a path", "A path that begins with `/`, as it reads after normalisation.", ["/api"], url_path
);

wrapper!(
    /// A path in the file system.
    FilePath(PathBuf), "a file path", "A path, relative to the directory of this file.", ["certs/shop.pem"],
    |text| match text {
        "" => Err(Fault::new("a path cannot be empty")),
        _ => Ok(PathBuf::from(text)),
    }
);

/// A status code, written as a number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Status(pub(crate) StatusCode);

impl Leaf for Status {
    const WHAT: &'static str = "a status code";

    fn parse(text: &str) -> Result<Self, Fault> {
        let status = text.parse().ok().and_then(|code: u16| StatusCode::from_u16(code).ok());
        let good = status.filter(|status| (200..600).contains(&status.as_u16()));
        good.map(Self).ok_or_else(|| Fault::new(format!("`{text}` is not a status code from 200 to 599")))
    }
}

impl schemars::JsonSchema for Status {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Status".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": 200, "maximum": 599 })
    }
}

macro_rules! integers {
    ($($type:ty),+) => {$(
        impl Leaf for $type {
            const WHAT: &'static str = "a whole number";

            fn parse(text: &str) -> Result<Self, Fault> {
                text.parse().map_err(|_| {
                    Fault::new(format!("`{text}` is not a whole number from 0 to {}", <$type>::MAX))
                })
            }
        }
    )+};
}

integers!(u32, u64);

impl Leaf for String {
    const WHAT: &'static str = "a text";

    fn parse(text: &str) -> Result<Self, Fault> {
        Ok(text.to_owned())
    }
}

impl Leaf for bool {
    const WHAT: &'static str = "true or false";

    fn parse(text: &str) -> Result<Self, Fault> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(Fault::new(format!("`{text}` is neither true nor false"))),
        }
    }
}

choice!(TlsVersion, "a TLS version": "1.2" => Self::Tls12, "1.3" => Self::Tls13);
choice!(Balance, "a way to balance": "round_robin" => Self::RoundRobin, "least_requests" => Self::LeastRequests, "hash" => Self::Hash);
choice!(Protocol, "a protocol": "http1" => Self::Http1, "h2" => Self::H2, "h2c" => Self::H2c);
choice!(Gate, "a gate": "automatic" => Self::Automatic, "manual" => Self::Manual);
choice!(NotifyFormat, "a format": "json" => Self::Json, "slack" => Self::Slack);
choice!(NotifyEvent, "an event": "started" => Self::Started, "promoted" => Self::Promoted, "held" => Self::Held, "rolled_back" => Self::RolledBack, "completed" => Self::Completed);
choice!(LimitScope, "a scope": "local" => Self::Local, "fleet" => Self::Fleet);
choice!(StoreDown, "a behaviour": "local" => Self::Local, "allow" => Self::Allow, "deny" => Self::Deny);

impl Leaf for Socket {
    const WHAT: &'static str = "an address";

    fn parse(text: &str) -> Result<Self, Fault> {
        match text.strip_prefix("unix:") {
            Some("") => Err(Fault::new("the path of the unix socket is missing")
                .help("for example unix:/run/gateway/admin.sock")),
            Some(path) => Ok(Self::Unix(path.into())),
            None => listen_address(text).map(Self::Tcp),
        }
    }
}

text_schema!(
    Socket,
    "IP address and port, or `unix:` and a path.",
    ["127.0.0.1:9901", "unix:/run/gateway/admin.sock"]
);

impl Leaf for Address {
    const WHAT: &'static str = "an endpoint";

    fn parse(text: &str) -> Result<Self, Fault> {
        const FORMS: &str =
            "an endpoint is 10.0.0.7:8000, [2001:db8::7]:8000, web:3000 or unix:/run/app.sock";
        if let Some(path) = text.strip_prefix("unix:") {
            let absolute = path.starts_with('/');
            return if absolute {
                Ok(Self::Unix(path.into()))
            } else {
                Err(Fault::new("the path of a unix socket begins with `/`").help(FORMS))
            };
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let help = format!("write `{}`; https is `tls: {{}}` of the service", rest.trim_end_matches('/'));
            return Err(Fault::new(format!("an endpoint has no scheme `{scheme}://`")).help(help));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return if address.port() == 0 {
                Err(Fault::new("port 0 cannot be connected to"))
            } else {
                Ok(Self::Ip(address))
            };
        }
        let (host, port) =
            text.rsplit_once(':').ok_or_else(|| Fault::new(format!("`{text}` has no port")).help(FORMS))?;
        let port = port.parse().ok().filter(|&port: &u16| port != 0);
        let port =
            port.ok_or_else(|| Fault::new(format!("`{text}` has no port from 1 to 65535")).help(FORMS))?;
        let host = host_name(host).map_err(host_fault).map_err(|fault| fault.help(FORMS))?;
        Ok(Self::Name { host, port })
    }
}

text_schema!(
    Address,
    "IP address and port, host name and port, or `unix:` and a path.",
    ["10.0.0.7:8000", "web:3000", "unix:/run/app.sock"]
);

impl Leaf for LimitKey {
    const WHAT: &'static str = "a key";

    fn parse(text: &str) -> Result<Self, Fault> {
        match text.split_once(':') {
            Some(("header", name)) => <FieldName as Leaf>::parse(name).map(|name| Self::Header(name.0)),
            Some(("cookie", name)) if !name.is_empty() => Ok(Self::Cookie(name.to_owned())),
            None if text == "client_ip" => Ok(Self::ClientIp),
            None if text == "route" => Ok(Self::Route),
            None if text == "global" => Ok(Self::Global),
            _ => Err(Fault::new(format!("`{text}` is not a key to count by"))
                .help("one of: client_ip, route, global, header:NAME, cookie:NAME")),
        }
    }
}

text_schema!(
    LimitKey,
    "Whose requests are counted together.",
    ["client_ip", "route", "global", "header:x-api-key", "cookie:session"]
);

/// One kind of failed attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Failure {
    Connect,
    Timeout,
    Reset,
    ServerErrors,
    Status(StatusCode),
}

impl Leaf for Failure {
    const WHAT: &'static str = "a failure";

    fn parse(text: &str) -> Result<Self, Fault> {
        match text {
            "connect" => Ok(Self::Connect),
            "timeout" => Ok(Self::Timeout),
            "reset" => Ok(Self::Reset),
            "5xx" => Ok(Self::ServerErrors),
            _ => <Status as Leaf>::parse(text).map(|status| Self::Status(status.0)).map_err(|_| {
                Fault::new(format!("`{text}` is not a failure"))
                    .help("one of: connect, timeout, reset, 5xx, or a single status like 404")
            }),
        }
    }
}

impl schemars::JsonSchema for Failure {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Failure".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "anyOf": [
            { "enum": ["connect", "timeout", "reset", "5xx"] },
            { "type": "integer", "minimum": 200, "maximum": 599 },
        ] })
    }
}

fn listen_address(text: &str) -> Result<SocketAddr, Fault> {
    text.parse().map_err(|_| {
        let fault = Fault::new(format!("`{text}` is not an IP address with a port"));
        match text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
            Ok(port) => {
                fault.help(format!("did you mean `[::]:{port}` (all addresses) or `127.0.0.1:{port}`?"))
            }
            Err(_) => fault.help("for example [::]:443, 0.0.0.0:80 or 127.0.0.1:8080"),
        }
    })
}

fn cidr(text: &str) -> Result<IpNet, Fault> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
    let net = net.map_err(|_| {
        Fault::new(format!("`{text}` is not a range of addresses"))
            .help("for example 10.0.0.0/8 or 2001:db8::/32")
    })?;
    match net.trunc() {
        whole if whole == net => Ok(net),
        whole => Err(Fault::new(format!("`{text}` names one address and a range at once"))
            .help(format!("write `{whole}` for the range or `{}` for the address", net.addr()))),
    }
}

fn method(text: &str) -> Result<Method, Fault> {
    let capitals = text.to_ascii_uppercase();
    match Method::from_str(text) {
        Ok(_) if capitals != text => {
            Err(Fault::new(format!("`{text}` is not a method: case matters"))
                .help(format!("write `{capitals}`")))
        }
        Ok(method) => Ok(method),
        Err(_) => Err(Fault::new(format!("`{text}` is not a method"))),
    }
}

fn expression(text: &str) -> Result<Regex, Fault> {
    const SIZE: usize = 1 << 20;
    RegexBuilder::new(text).size_limit(SIZE).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => Fault::new("this regular expression is too large"),
        error => {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or("").trim_start_matches("error: ");
            Fault::new(format!("this is not a regular expression: {reason}"))
        }
    })
}

fn url_path(text: &str) -> Result<String, Fault> {
    let fault = |message: &str| Fault::new(format!("`{text}` {message}"));
    let strange = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '\\');
    match text {
        _ if !text.starts_with('/') => Err(fault("does not begin with `/`").help(format!("write `/{text}`"))),
        _ if text.contains(strange) => Err(fault("is not a path: it holds a space, `?`, `#` or `\\`")),
        _ if text.contains("//") => Err(fault("holds `//`, which no request has after normalisation")),
        _ if text.split('/').any(|segment| matches!(segment, "." | "..")) => {
            Err(fault("holds `.` or `..`, which no request has after normalisation"))
        }
        _ => normal_encoding(text).map_err(fault),
    }
}

/// The path as requests have it after normalisation: characters that need no encoding stand bare, others in capitals
/// (RFC 3986 §6.2.2).
fn normal_encoding(text: &str) -> Result<String, &'static str> {
    let mut path = String::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let (byte, encoded) = match byte {
            b'%' => (
                hex_pair(bytes.next(), bytes.next())
                    .ok_or("has a `%` that is not followed by two hex digits")?,
                true,
            ),
            _ => (byte, !byte.is_ascii()),
        };
        match byte {
            b'/' | 0 if encoded => return Err("holds an encoded `/` or NUL, which is always refused"),
            b if !encoded || b.is_ascii_alphanumeric() || b"-._~".contains(&b) => path.push(char::from(b)),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(path)
}

fn hex_pair(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

fn host_fault(error: HostError) -> Fault {
    let fault = Fault::new(error.to_string());
    match error {
        HostError::Port { host } => {
            fault.help(format!("write `{host}`: a route holds for every port of its listeners"))
        }
        HostError::NotAscii => fault.help("write the name as it stands in DNS: `xn--…`"),
        _ => fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_as_requests_have_them() {
        assert_eq!(url_path("/%7euser/%c3%bc").ok().as_deref(), Some("/~user/%C3%BC"));
        assert_eq!(url_path("/ü").ok().as_deref(), Some("/%C3%BC"));
        assert_eq!(url_path("/a:b@c;d=1").ok().as_deref(), Some("/a:b@c;d=1"));
        for path in ["/%", "/%4", "/%zz", "/%2f", "/%00", "a", "", "/a/./b"] {
            assert!(url_path(path).is_err(), "{path}");
        }
    }

    #[test]
    fn addresses_of_every_kind() {
        let read = |text: &str| <Address as Leaf>::parse(text).ok().map(|address| address.to_string());
        for text in
            ["10.0.0.7:8000", "[2001:db8::7]:8000", "web:3000", "unix:/run/app.sock", "my_app.internal:1"]
        {
            assert_eq!(read(text).as_deref(), Some(text));
        }
        assert_eq!(read("Web.Example.:80").as_deref(), Some("web.example:80"));
        for text in
            ["", "web", "web:0", "web:65536", "unix:app.sock", "http://web:80", "::1:80", "user@web:80"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
