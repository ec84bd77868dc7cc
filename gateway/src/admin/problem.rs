//! What is answered when a call fails (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

/// A problem; its type is `about:blank`, so that the status says what kind it is.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    fields: Map<String, Value>,
}

impl Problem {
    /// `detail` is a sentence on this very case.
    pub(super) fn new(status: StatusCode, detail: String) -> Self {
        let mut fields = Map::new();
        fields.insert("type".into(), "about:blank".into());
        fields.insert("title".into(), status.canonical_reason().unwrap_or("Error").into());
        fields.insert("status".into(), status.as_u16().into());
        fields.insert("detail".into(), detail.into());
        Self { status, fields }
    }

    /// Adds a member of its own.
    pub(super) fn with(mut self, name: &str, value: Value) -> Self {
        self.fields.insert(name.into(), value);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Value::Object(self.fields).to_string()).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §15.5.2: a 401 names what it asks for.
            let challenge = HeaderValue::from_static("Bearer realm=\"gateway\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
