//! The scalars of the grammar: how each is written, checked and described.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use ipnet::IpNet;
use regex::{Regex, RegexBuilder};

use super::decode::{Fault, Leaf, choice};
use super::host::{HostError, host_pattern};
use super::model::{
    Balance, Gate, LimitKey, LimitScope, NotifyEvent, NotifyFormat, Protocol, Readiness, StoreDown,
    TlsVersion,
};
use super::problem::Code;
use crate::route::rule::HostPattern;
use crate::unit::{ByteSize, InvalidUnit, Multiple, Rate, Ratio, Weight, parse_duration};
use address::{cidr, listen_address, name_server};
use health::check_path;
pub(crate) use health::{PortNumber, StatusRange};
use path::url_path;

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

mod address;
mod health;
mod path;

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
    /// A name server.
    NameServer(SocketAddr), "a name server", "IP address of a name server; the port is 53 unless it is given.",
    ["10.0.0.2", "127.0.0.1:5353", "[2001:db8::53]:53"], name_server
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
    /// What a health check asks for.
    CheckPath(String), "a path", "A path that begins with `/`, perhaps with a query.", ["/ready", "/health?full=1"], check_path
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
choice!(Readiness, "a word for readiness": "ignored" => Self::Ignored, "required" => Self::Required);
choice!(Gate, "a gate": "automatic" => Self::Automatic, "manual" => Self::Manual);
choice!(NotifyFormat, "a format": "json" => Self::Json, "slack" => Self::Slack);
choice!(NotifyEvent, "an event": "started" => Self::Started, "promoted" => Self::Promoted, "held" => Self::Held, "rolled_back" => Self::RolledBack, "completed" => Self::Completed);
choice!(LimitScope, "a scope": "local" => Self::Local, "fleet" => Self::Fleet);
choice!(StoreDown, "a behaviour": "local" => Self::Local, "allow" => Self::Allow, "deny" => Self::Deny);

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
