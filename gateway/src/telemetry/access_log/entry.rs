//! What the access log says about one request, and how that becomes a line of JSON.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use gateway_core::outcome::Termination;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode, Version};

use super::clock::Clock;
use super::line::Line;
use crate::telemetry::metrics::RequestMetrics;

/// One finished request. Everything is moved or shared into it; nothing is formatted before the writer's thread.
#[derive(Debug)]
pub struct Entry {
    /// When the request's header was complete.
    pub time: SystemTime,
    /// The id that is forwarded and returned.
    pub request_id: Text,
    /// The trace id of `traceparent`, given or made.
    pub trace_id: Option<u128>,
    /// The resolved client address.
    pub client_ip: IpAddr,
    /// Who logged in by `basic_auth`.
    pub user: Option<Arc<str>>,
    /// As sent.
    pub method: Method,
    /// Host or `:authority`.
    pub host: Text,
    /// The path as sent; of a [`PathAndQuery`] only the path is logged, for queries hold secrets.
    pub path: Text,
    /// HTTP version spoken with the client.
    pub protocol: Version,
    /// The request's User-Agent.
    pub user_agent: Option<HeaderValue>,
    /// What the client was answered; `None` when it was not.
    pub status: Option<StatusCode>,
    /// Body bytes sent to the client.
    pub bytes: u64,
    /// Names of route, service and release.
    pub served_by: Arc<RequestMetrics>,
    /// The endpoint of the last attempt.
    pub endpoint: Option<Arc<str>>,
    /// Tries at endpoints.
    pub attempts: u32,
    /// Where the time went.
    pub timers: Timers,
    /// How it ended.
    pub termination: Termination,
}

/// Where the time of a request went. Logged in milliseconds with three decimals.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timers {
    /// Connecting in the last attempt, TLS included; `None` when a pooled connection was used, or none.
    pub connect: Option<Duration>,
    /// From the request's header to the origin's response header, earlier attempts included.
    pub first_byte: Option<Duration>,
    /// From the request's header to the end of the answer.
    pub total: Duration,
}

/// Text of unknown origin, kept in the form it is found in so that logging it copies nothing. It need not be UTF-8.
#[derive(Debug, Clone)]
pub enum Text {
    /// Known beforehand.
    Static(&'static str),
    /// Made for this request.
    Owned(String),
    /// Kept elsewhere.
    Shared(Arc<str>),
    /// A header's value.
    Header(HeaderValue),
    /// Raw bytes.
    Bytes(Bytes),
    /// A request target, of which only the path counts.
    Path(PathAndQuery),
}

impl Text {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Static(text) => text.as_bytes(),
            Self::Owned(text) => text.as_bytes(),
            Self::Shared(text) => text.as_bytes(),
            Self::Header(value) => value.as_bytes(),
            Self::Bytes(bytes) => bytes,
            Self::Path(target) => target.path().as_bytes(),
        }
    }
}

macro_rules! text_from {
    ($($variant:ident($from:ty),)+) => {
        $(impl From<$from> for Text {
            fn from(text: $from) -> Self {
                Self::$variant(text)
            }
        })+
    };
}
text_from!(
    Static(&'static str),
    Owned(String),
    Shared(Arc<str>),
    Header(HeaderValue),
    Bytes(Bytes),
    Path(PathAndQuery),
);

impl Entry {
    /// Appends the entry as one line of JSON, its newline included. Absent things are `null`, so that every line has
    /// every field.
    pub(super) fn write_line(&self, buffer: &mut Vec<u8>, clock: &mut Clock) {
        let named = |name| Some(name).filter(|name: &&str| !name.is_empty());
        let user_agent = self.user_agent.as_ref().map(HeaderValue::as_bytes);
        Line(buffer)
            .time(r#"{"time":"#, self.time, clock)
            .text(r#","request_id":"#, self.request_id.as_bytes())
            .hexadecimal(r#","trace_id":"#, self.trace_id)
            .address(r#","client_ip":"#, self.client_ip)
            .optional_text(r#","user":"#, self.user.as_deref().map(str::as_bytes))
            .word(r#","method":"#, self.method.as_str())
            .text(r#","host":"#, self.host.as_bytes())
            .text(r#","path":"#, self.path.as_bytes())
            .word(r#","protocol":"#, protocol(self.protocol))
            .optional_text(r#","user_agent":"#, user_agent)
            .optional_number(r#","status":"#, self.status.map(|status| status.as_u16().into()))
            .number(r#","bytes":"#, self.bytes)
            .word(r#","route":"#, self.served_by.route())
            .optional_word(r#","service":"#, named(self.served_by.service()))
            .optional_word(r#","release":"#, named(self.served_by.release()))
            .optional_word(r#","endpoint":"#, self.endpoint.as_deref())
            .number(r#","attempts":"#, self.attempts.into())
            .milliseconds(r#","timers":{"connect_ms":"#, self.timers.connect)
            .milliseconds(r#","first_byte_ms":"#, self.timers.first_byte)
            .milliseconds(r#","total_ms":"#, Some(self.timers.total))
            .word(r#"},"termination":"#, self.termination.as_label())
            .raw("}\n");
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    /// A plain entry that can be told from others by its path.
    pub(in super::super) fn entry(path: impl Into<Text>) -> Entry {
        Entry {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_772_368_496_789),
            request_id: "id-1".into(),
            trace_id: None,
            client_ip: "192.0.2.7".parse().unwrap(),
            user: None,
            method: Method::GET,
            host: "shop.example".into(),
            path: path.into(),
            protocol: Version::HTTP_11,
            user_agent: None,
            status: Some(StatusCode::OK),
            bytes: 12,
            served_by: Metrics::new(SystemTime::UNIX_EPOCH).requests(None, None),
            endpoint: None,
            attempts: 0,
            timers: Timers::default(),
            termination: Termination::NoRoute,
        }
    }

    fn line(entry: &Entry) -> String {
        let mut buffer = Vec::new();
        entry.write_line(&mut buffer, &mut Clock::default());
        String::from_utf8(buffer).unwrap()
    }

    #[test]
    fn a_full_entry_reads_as_promised() {
        let names = ("api", "shop", "api-42");
        let names = (
            gateway_core::name::RouteName::new(names.0).unwrap(),
            gateway_core::name::ServiceName::new(names.1).unwrap(),
            gateway_core::name::ReleaseName::new(names.2).unwrap(),
        );
        let full = Entry {
            trace_id: Some(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736),
            user: Some("ann".into()),
            path: PathAndQuery::from_static("/api/x?token=secret").into(),
            protocol: Version::HTTP_2,
            user_agent: Some(HeaderValue::from_static("curl/8")),
            served_by: Metrics::new(SystemTime::UNIX_EPOCH)
                .requests(Some(&names.0), Some((&names.1, &names.2))),
            endpoint: Some("10.0.0.1:80".into()),
            attempts: 2,
            timers: Timers {
                connect: None,
                first_byte: Some(Duration::from_micros(1_500)),
                total: Duration::from_nanos(2_345_678),
            },
            termination: Termination::FailedOver,
            ..entry("")
        };
        assert_eq!(
            line(&full),
            concat!(
                r#"{"time":"2026-03-01T12:34:56.789Z","request_id":"id-1","#,
                r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","client_ip":"192.0.2.7","user":"ann","#,
                r#""method":"GET","#,
                r#""host":"shop.example","path":"/api/x","protocol":"HTTP/2","user_agent":"curl/8","status":200,"#,
                r#""bytes":12,"route":"api","service":"shop","release":"api-42","endpoint":"10.0.0.1:80","#,
                r#""attempts":2,"timers":{"connect_ms":null,"first_byte_ms":1.5,"total_ms":2.345},"#,
                r#""termination":"failed_over"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn nasty_bytes_stay_inside_their_line_and_their_string() {
        let nasty = b"/\"\\\n\r\t\x00\x1b[31m\x7f\xff\xc3\xe2\x80\xa8\"},{";
        let entry = Entry {
            host: HeaderValue::from_bytes(b"\xfe\"evil\\").unwrap().into(),
            user_agent: Some(HeaderValue::from_bytes(b"\x80\t\"").unwrap()),
            request_id: String::from("\u{0}\u{1f}").into(),
            ..entry(Bytes::from_static(nasty))
        };
        let line = line(&entry);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["path"], "/\"\\\n\r\t\u{0}\u{1b}[31m\u{7f}\u{fffd}\u{fffd}\u{2028}\"},{");
        assert_eq!(json["host"], "\u{fffd}\"evil\\");
        assert_eq!(json["user_agent"], "\u{fffd}\t\"");
        assert_eq!(json["request_id"], "\u{0}\u{1f}");
        assert!(line.bytes().all(|byte| byte >= b' ' || byte == b'\n'));
    }

    #[test]
    fn what_is_absent_is_null_and_never_left_out() {
        let unanswered = Entry { status: None, ..entry("/") };
        let json: serde_json::Value = serde_json::from_str(&line(&unanswered)).unwrap();
        for field in ["trace_id", "user", "user_agent", "status", "service", "release", "endpoint"] {
            assert_eq!(json.get(field), Some(&serde_json::Value::Null), "{field}");
        }
        assert_eq!(json["route"], "unmatched");
    }

    #[test]
    fn a_mapped_address_is_written_as_the_one_it_stands_for() {
        let mapped = Entry { client_ip: "::ffff:192.0.2.7".parse().unwrap(), ..entry("/") };
        assert!(line(&mapped).contains(r#""client_ip":"192.0.2.7""#));
    }
}
