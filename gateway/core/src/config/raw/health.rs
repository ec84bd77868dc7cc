//! `services.*.health`: what endpoints are asked, and how often.

use std::borrow::Cow;

use miette::SourceSpan;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::config::decode::{Decode, OneOrMany, Problems, mapping};
use crate::config::document::{Kind, Node};
use crate::config::leaf::{CheckPath, Period, PortNumber, StatusRange};
use crate::config::model::{At, Readiness};
use crate::config::problem::{Code, Problem};

mapping! {
    /// Active checks: one of `path`, `tcp` and `grpc` says what is asked.
    pub(crate) struct Health {
        /// HTTP: asked for with GET, in what the service speaks. May have a query.
        path: Option<Asked<CheckPath>>,
        /// What an endpoint answers that is healthy: classes like 2xx and single statuses. Default: 2xx.
        status: Option<At<OneOrMany<StatusRange>>>,
        /// TCP: a connection is opened, with its TLS handshake if the service has `tls`, and closed. Only `{}`.
        tcp: Option<Asked<Nothing>>,
        /// gRPC: grpc.health.v1.Health/Check; `{}` asks about the server as a whole.
        grpc: Option<Asked<Grpc>>,
        /// The host asked for, by `path` and `grpc`. Default: `tls.sni`, else the endpoint's own host; with the port.
        host: Option<At<String>>,
        /// Endpoints are checked at this port. Default: their own.
        port: Option<At<PortNumber>>,
        /// How often. Default: 5s.
        interval: Option<At<Period>>,
        /// How long a check may take in all. Default: 1s.
        timeout: Option<At<Period>>,
        /// Failures in a row that make an endpoint unhealthy. Default: 3.
        unhealthy_after: Option<At<u32>>,
        /// Successes in a row that make it healthy. Default: 2.
        healthy_after: Option<At<u32>>,
        /// Whether the gateway is ready only while this service has a healthy endpoint. Default: ignored.
        readiness: Option<Readiness>,
    }

    /// A check as gRPC services have it.
    pub(crate) struct Grpc {
        /// The name that is asked about. Default: none, which is the server as a whole.
        service: Option<String>,
    }
}

/// One way to ask, with its place. It stays known as asked when it did not fit, so that it is not reported as missing too.
#[derive(Debug)]
pub(crate) struct Asked<T> {
    pub(crate) value: Option<T>,
    pub(crate) span: SourceSpan,
}

impl<T: Decode> Decode for Asked<T> {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        Some(Self { value: T::decode(node, problems), span: node.span })
    }
}

impl<T: JsonSchema> JsonSchema for Asked<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A mapping that holds nothing.
#[derive(Debug)]
pub(crate) struct Nothing;

impl Decode for Nothing {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        match &node.kind {
            Kind::Mapping(entries) if entries.is_empty() => Some(Self),
            Kind::Refused => None,
            _ => {
                let problem = Problem::error(Code::InvalidValue, "a TCP check has no settings of its own");
                problems.push(problem.at(node.span, "here").help("write `tcp: {}`"));
                None
            }
        }
    }
}

impl JsonSchema for Nothing {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Nothing".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "maxProperties": 0 })
    }
}
