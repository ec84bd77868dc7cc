//! The admin API: health, metrics, what the gateway is doing, and a reload on demand.
//!
//! It has a listener of its own, which ordinary traffic cannot reach. Reading changes nothing; what changes something is
//! guarded (see [`guard`]). Errors are problems (RFC 9457).

mod guard;
mod problem;
mod rollouts;
mod socket;
mod views;

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use gateway_core::config::report::Report;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::guard::Guard;
use self::problem::Problem;
pub(crate) use self::socket::AdminListener;
use self::socket::{Acceptor, Stream};
use crate::explain::{self, Question};
use crate::reload;
use crate::runtime::Runtime;

/// Connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 256;

/// A request's header must be there within this time, from the first byte to the last.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest request header and the largest body.
const MAX_HEADER: usize = 64 << 10;
const MAX_BODY: usize = 64 << 10;

/// How long nothing is accepted after the system refused to.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers until the process ends.
pub(crate) async fn serve(listener: AdminListener, runtime: Arc<Runtime>) {
    let app = router(runtime, listener.is_unix());
    let acceptor = match Acceptor::new(listener) {
        Ok(acceptor) => acceptor,
        Err(error) => return tracing::error!(%error, "the admin listener cannot be served"),
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(place) = places.clone().acquire_owned().await {
        match acceptor.accept().await {
            Ok(stream) => drop(tokio::spawn(converse(stream, app.clone(), place))),
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(stream: Stream, app: Router, _place: OwnedSemaphorePermit) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    if let Err(error) = connection.await {
        tracing::debug!(%error, "an admin connection broke");
    }
}

fn router(runtime: Arc<Runtime>, unix: bool) -> Router {
    let guard = Guard { runtime: runtime.clone(), any_host: unix };
    Router::new()
        .route("/healthz", get(healthz))
        .route("/health", get(healthz))
        .route("/readyz", get(readyz))
        .route("/ready", get(readyz))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .route("/v1/config", get(config))
        .route("/v1/reload", post(reload_now))
        .route("/v1/routes", get(routes))
        .route("/v1/services", get(services))
        .route("/v1/certificates", get(certificates))
        .route("/v1/explain", get(explain_request))
        .merge(rollouts::router())
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(Arc::new(guard), guard::check))
        .with_state(runtime)
}

type Shared = State<Arc<Runtime>>;

async fn not_found(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not take {method}", uri.path()))
}

async fn healthz() -> Json<Value> {
    Json(json!({ "alive": true }))
}

async fn readyz(State(runtime): Shared) -> (StatusCode, Json<Value>) {
    let readiness = views::readiness(&runtime);
    let status = if readiness["ready"] == true { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}

async fn metrics(State(runtime): Shared) -> Response {
    let text = runtime.metrics.encode(&runtime.snapshot().model.metrics_namespace);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn status(State(runtime): Shared) -> Json<Value> {
    Json(views::status(&runtime))
}

async fn config(State(runtime): Shared) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], runtime.snapshot().shown.clone()).into_response()
}

async fn routes(State(runtime): Shared) -> Json<Value> {
    Json(views::routes(&runtime.snapshot()))
}

async fn services(State(runtime): Shared) -> Json<Value> {
    Json(views::services(&runtime.snapshot()))
}

async fn certificates(State(runtime): Shared) -> Json<Value> {
    Json(views::certificates(&runtime.snapshot()))
}

/// Reloads to the end even when the caller hangs up meanwhile.
async fn reload_now(State(runtime): Shared) -> Response {
    let reloading = tokio::spawn(async move { reload::reload(&runtime).await });
    match reloading.await {
        Ok(Ok(outcome)) => Json(json!({
            "revision": outcome.revision,
            "changed": outcome.changed,
            "warnings": outcome.warnings.to_json(),
        }))
        .into_response(),
        Ok(Err(report)) => refused(&report).into_response(),
        Err(_) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the reload broke off".into()).into_response()
        }
    }
}

fn refused(report: &Report) -> Problem {
    let errors = report.errors();
    let plural = if errors == 1 { "" } else { "s" };
    let detail = format!("{errors} error{plural}; the previous configuration serves on");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
        .with("diagnostics", report.to_json())
        .with("rendered", report.to_string().into())
}

async fn explain_request(
    State(runtime): Shared,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Response {
    let asked = query.map_err(|error| error.body_text()).and_then(|Query(pairs)| question(pairs));
    match asked {
        Ok(question) => Json(explain::explain(&runtime.snapshot(), &question)).into_response(),
        Err(detail) => Problem::new(StatusCode::BAD_REQUEST, detail).into_response(),
    }
}

/// Reads `url`, `method`, `from` and any number of `header`; a sentence on what is wrong with them.
fn question(pairs: Vec<(String, String)>) -> Result<Question, String> {
    let (mut url, mut method, mut peer) = (None, Method::GET, IpAddr::from(Ipv4Addr::LOCALHOST));
    let mut headers = HeaderMap::new();
    for (key, value) in pairs {
        let bad = |what: &str| format!("`{value}` is not {what}");
        match key.as_str() {
            "url" => url = Some(value.parse::<Uri>().map_err(|_| bad("a URL"))?),
            "method" => method = value.parse().map_err(|_| bad("a method"))?,
            "from" => peer = value.parse().map_err(|_| bad("an IP address"))?,
            "header" => {
                let (name, text) = value.split_once(':').ok_or_else(|| bad("of the form `name: value`"))?;
                let name: HeaderName = name.trim().parse().map_err(|_| bad("a header with a valid name"))?;
                let text =
                    HeaderValue::from_str(text.trim()).map_err(|_| bad("a header with a valid value"))?;
                headers.append(name, text);
            }
            _ => return Err(format!("`{key}` is not one of url, method, header, from")),
        }
    }
    let url = url.ok_or("say which `url`, with scheme and host")?;
    match (url.scheme_str(), url.host()) {
        (Some("http" | "https"), Some(_)) => Ok(Question { url, method, headers, peer }),
        _ => Err("write the `url` whole, like https://shop.example/api".to_owned()),
    }
}

#[cfg(test)]
mod tests;
