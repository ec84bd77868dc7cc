//! Values of the grammar that have more than one shape.

use std::path::PathBuf;

use regex::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::config::decode::{Decode, Fault, Leaf, Problems, choice, mapping, wrong_type};
use crate::config::document::{Kind, Node};
use crate::config::leaf::{Expression, FieldName, FilePath, Period};
use crate::config::model::At;
use crate::config::problem::{Code, Problem};
use crate::config::shown;
use crate::template::Template;

/// Gives a type a schema written out by hand.
macro_rules! schema {
    ($type:ty, |$generator:ident| $schema:expr) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

/// `auto` or a number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Threads(pub(crate) Option<usize>);

impl Leaf for Threads {
    const WHAT: &'static str = "a number of threads";

    fn parse(text: &str) -> Result<Self, Fault> {
        const MOST: usize = 1024;
        match text.parse() {
            _ if text == "auto" => Ok(Self(None)),
            Ok(threads) if (1..=MOST).contains(&threads) => Ok(Self(Some(threads))),
            _ => Err(Fault::new(format!("`{text}` is neither `auto` nor a number from 1 to {MOST}"))),
        }
    }
}

schema!(Threads, |_generator| json_schema!({ "anyOf": [
    { "const": "auto" },
    { "type": "integer", "minimum": 1, "maximum": 1024 },
] }));

/// `auto` or a number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MaxConnections(pub(crate) Option<u32>);

impl Leaf for MaxConnections {
    const WHAT: &'static str = "a number of connections";

    fn parse(text: &str) -> Result<Self, Fault> {
        match text.parse() {
            _ if text == "auto" => Ok(Self(None)),
            Ok(connections) if connections > 0 => Ok(Self(Some(connections))),
            _ => Err(Fault::new(format!("`{text}` is neither `auto` nor a number of at least 1"))),
        }
    }
}

schema!(MaxConnections, |_generator| json_schema!({ "anyOf": [
    { "const": "auto" },
    { "type": "integer", "minimum": 1 },
] }));

/// `stdout`, `off` or a file.
#[derive(Debug, Clone)]
pub(crate) enum AccessLogPath {
    Stdout,
    Off,
    File(PathBuf),
}

impl Leaf for AccessLogPath {
    const WHAT: &'static str = "`stdout`, `off` or a file";

    fn parse(text: &str) -> Result<Self, Fault> {
        match text {
            "stdout" => Ok(Self::Stdout),
            "off" => Ok(Self::Off),
            _ => <FilePath as Leaf>::parse(text).map(|path| Self::File(path.0)),
        }
    }
}

schema!(
    AccessLogPath,
    |_generator| json_schema!({ "type": "string", "examples": ["stdout", "off", "access.log"] })
);

/// The shape of the access log.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AccessLogFormat {
    Json,
}

choice!(AccessLogFormat, "a format": "json" => Self::Json);

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientAuthMode {
    Off,
    Optional,
    Required,
}

choice!(ClientAuthMode, "a mode": "off" => Self::Off, "optional" => Self::Optional, "required" => Self::Required);

mapping! {
    /// What makes a user stay with a release.
    pub(crate) struct StickyBy {
        /// A cookie that names the user; minted when absent.
        cookie: Option<At<String>>,
        /// Its Max-Age. Default: 30d.
        ttl: Option<At<Period>>,
        /// A request header.
        header: Option<At<FieldName>>,
    }

    /// What is asked of one header field or query parameter; one of the three.
    pub(crate) struct ValueAsked {
        /// It is there, whatever its value; only `true`.
        present: Option<At<bool>>,
        /// One of its values is this, to the letter.
        exact: Option<At<String>>,
        /// An expression is found in one of its values.
        regex: Option<At<Expression>>,
    }

    /// How many requests are served at a time, and how many wait.
    pub(crate) struct MaxInFlightQueue {
        /// Served at a time.
        requests: At<u32>,
        /// Waiting at a time; 0 refuses at once. Default: as many as `requests`.
        queue: Option<u32>,
        /// How long one may wait. Default: 1s.
        wait: Option<At<Period>>,
    }
}

/// `client_ip`, or a mapping that names a cookie or a header.
#[derive(Debug)]
pub(crate) enum Sticky {
    ClientIp,
    By(At<StickyBy>),
}

impl Decode for Sticky {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        match &node.kind {
            Kind::Scalar(scalar) if scalar.text == "client_ip" => Some(Self::ClientIp),
            Kind::Scalar(scalar) => {
                let message = format!("`{}` is not something a user can stick to", scalar.text);
                let help = "write `client_ip`, `{ cookie: gw_id }` or `{ header: x-user-id }`";
                problems.push(Problem::error(Code::InvalidValue, message).at(node.span, "here").help(help));
                None
            }
            _ => Decode::decode(node, problems).map(Self::By),
        }
    }
}

schema!(Sticky, |generator| json_schema!({ "anyOf": [
    { "const": "client_ip" },
    generator.subschema_for::<StickyBy>(),
] }));

/// What is asked of one header field or query parameter.
#[derive(Debug)]
pub(crate) enum ValueMatch {
    Present,
    Exact(String),
    Regex(Regex),
}

impl Decode for ValueMatch {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        if !matches!(node.kind, Kind::Mapping(_)) {
            return String::decode(node, problems).map(Self::Exact);
        }
        let before = problems.len();
        match ValueAsked::decode(node, problems)? {
            ValueAsked { present: Some(At { value: true, .. }), exact: None, regex: None } => {
                Some(Self::Present)
            }
            ValueAsked { present: None, exact: Some(text), regex: None } => Some(Self::Exact(text.value)),
            ValueAsked { present: None, exact: None, regex: Some(regex) } => Some(Self::Regex(regex.value.0)),
            _ if problems.len() > before => None,
            _ => {
                let problem = Problem::error(
                    Code::InvalidValue,
                    "this asks for no value, or for several things at once",
                );
                problems.push(
                    problem
                        .at(node.span, "here")
                        .help("one of: a text, `{ present: true }`, `{ exact: … }`, `{ regex: … }`"),
                );
                None
            }
        }
    }
}

schema!(ValueMatch, |generator| json_schema!({ "anyOf": [
    { "type": "string" },
    generator.subschema_for::<ValueAsked>(),
] }));

/// The value of a header field, with placeholders.
#[derive(Debug)]
pub(crate) struct HeaderText(pub(crate) Template);

impl Decode for HeaderText {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let Kind::Scalar(scalar) = &node.kind else {
            return wrong_type(node, "a header value", problems);
        };
        let template = Template::new(&scalar.text, &scalar.gaps);
        template
            .map(Self)
            .map_err(|error| {
                problems.push(Problem::error(Code::InvalidValue, error.to_string()).at(node.span, "here"));
            })
            .ok()
    }
}

schema!(HeaderText, |_generator| json_schema!({
    "type": "string",
    "description": "The value of a header field; ${client_ip}, ${request_id}, ${release} and ${host} are filled in.",
    "examples": ["no-store", "${client_ip}"],
}));

/// A number of requests, or that and the queue before it.
#[derive(Debug)]
pub(crate) enum MaxInFlight {
    Requests(At<u32>),
    Queued(MaxInFlightQueue),
}

impl Decode for MaxInFlight {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        match &node.kind {
            Kind::Scalar(_) => Decode::decode(node, problems).map(Self::Requests),
            Kind::Mapping(_) => Decode::decode(node, problems).map(Self::Queued),
            Kind::Sequence(_) | Kind::Null | Kind::Refused => {
                wrong_type(node, "a number of requests, or a mapping with `requests`", problems)
            }
        }
    }
}

schema!(MaxInFlight, |generator| json_schema!({ "anyOf": [
    { "type": "integer", "minimum": 1 },
    generator.subschema_for::<MaxInFlightQueue>(),
] }));

/// A text, or a mapping or list that is sent as JSON.
#[derive(Debug)]
pub(crate) enum BodyText {
    Text(String),
    Json(Value),
}

impl Decode for BodyText {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        match &node.kind {
            Kind::Scalar(scalar) => Some(Self::Text(scalar.text.clone())),
            Kind::Mapping(_) | Kind::Sequence(_) => Some(Self::Json(shown::json(node))),
            Kind::Null | Kind::Refused => wrong_type(node, "a text or a mapping", problems),
        }
    }
}

schema!(BodyText, |_generator| json_schema!({ "anyOf": [
    { "type": "string" },
    { "type": "object" },
    { "type": "array" },
] }));
