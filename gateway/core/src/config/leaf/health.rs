//! Scalars of health checks.

use std::ops::RangeInclusive;

use super::path::url_path;
use super::{Fault, Leaf, Status};

/// A path with its query, if it has one.
pub(super) fn check_path(text: &str) -> Result<String, Fault> {
    let Some((path, query)) = text.split_once('?') else {
        return url_path(text);
    };
    let path = url_path(path)?;
    match query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        true => Ok(format!("{path}?{query}")),
        false => {
            Err(Fault::new(format!("`{query}` is not a query: encode what is not ASCII, spaces and `#`")))
        }
    }
}

/// A port, written as a number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PortNumber(pub(crate) u16);

impl Leaf for PortNumber {
    const WHAT: &'static str = "a port";

    fn parse(text: &str) -> Result<Self, Fault> {
        let port = text.parse().ok().filter(|&port| port != 0);
        port.map(Self).ok_or_else(|| Fault::new(format!("`{text}` is not a port from 1 to 65535")))
    }
}

impl schemars::JsonSchema for PortNumber {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PortNumber".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": 1, "maximum": 65535 })
    }
}

/// A class of statuses, or a single one.
#[derive(Debug, Clone)]
pub(crate) struct StatusRange(pub(crate) RangeInclusive<u16>);

impl Leaf for StatusRange {
    const WHAT: &'static str = "a status";

    fn parse(text: &str) -> Result<Self, Fault> {
        let class = |first: u16| Self(first..=first + 99);
        match text {
            "2xx" => Ok(class(200)),
            "3xx" => Ok(class(300)),
            "4xx" => Ok(class(400)),
            "5xx" => Ok(class(500)),
            _ => <Status as Leaf>::parse(text)
                .map(|Status(status)| Self(status.as_u16()..=status.as_u16()))
                .map_err(|_| {
                    Fault::new(format!("`{text}` is not a status"))
                        .help("one of: 2xx, 3xx, 4xx, 5xx, or a single status like 204")
                }),
        }
    }
}

impl schemars::JsonSchema for StatusRange {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StatusRange".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "anyOf": [
            { "enum": ["2xx", "3xx", "4xx", "5xx"] },
            { "type": "integer", "minimum": 200, "maximum": 599 },
        ] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_keeps_its_query() {
        assert_eq!(check_path("/re%61dy?full=1&q=%20").ok().as_deref(), Some("/ready?full=1&q=%20"));
        assert_eq!(check_path("/ready").ok().as_deref(), Some("/ready"));
        for text in ["ready?full=1", "/ready?a b", "/ready?a#b", "/ready?ü", "?a"] {
            assert!(check_path(text).is_err(), "{text}");
        }
    }

    #[test]
    fn statuses_are_classes_or_single() {
        let read = |text| <StatusRange as Leaf>::parse(text).ok().map(|StatusRange(range)| range);
        assert_eq!(read("2xx"), Some(200..=299));
        assert_eq!(read("404"), Some(404..=404));
        for text in ["1xx", "6xx", "2XX", "199", "600", "200-299", ""] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
