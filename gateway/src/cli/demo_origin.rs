//! `gateway demo-origin`: small applications to try the gateway with.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use clap::ValueEnum;
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{DemoOriginArgs, Failure};

/// The origins `config/gateway.yaml` sends traffic to, on loopback: release, kind, port.
pub const ALL: [(&str, Kind, u16); 4] = [
    ("api-41", Kind::Api, 8041),
    ("api-42", Kind::Api, 8042),
    ("media", Kind::Media, 8031),
    ("web", Kind::Frontend, 8030),
];

const PAGE: &str = include_str!("demo_origin/index.html");
const PICTURE: &str = include_str!("demo_origin/picture.svg");
const MEGABYTE: usize = 1 << 20;

/// How long answers in flight may take once the end is asked for.
const DRAIN: Duration = Duration::from_secs(5);

/// What an origin serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// JSON about the request it got, at /api and below
    Api,
    /// /media/picture.svg, /media/hello.txt and /media/megabyte.bin
    Media,
    /// A page that draws how its calls to /api are divided between releases
    Frontend,
}

/// One origin's name and its count of requests.
#[derive(Debug)]
struct Origin {
    release: String,
    label: HeaderValue,
    requests: AtomicU64,
}

/// Serves until SIGINT or SIGTERM, then lets answers in flight finish.
///
/// # Errors
/// [`Failure::Failed`] names an address that cannot be listened on; then none is served.
pub fn run(args: &DemoOriginArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(&origins(args), out))
}

fn origins(args: &DemoOriginArgs) -> Vec<(String, Kind, SocketAddr)> {
    match args.listen {
        Some(address) => vec![(args.release.clone(), args.kind, address)],
        None => {
            let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            ALL.iter().map(|&(release, kind, port)| (release.to_owned(), kind, local(port))).collect()
        }
    }
}

async fn serve(origins: &[(String, Kind, SocketAddr)], out: &mut dyn Write) -> Result<(), Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut bound = Vec::new();
    for (release, kind, address) in origins {
        let app = router(release, *kind)
            .map_err(|_| Failure::Failed(format!("`{release}` cannot be written in a header")))?;
        let cannot = |error| Failure::Failed(format!("cannot listen on {address} for {release}: {error}"));
        let listener = TcpListener::bind(address).await.map_err(cannot)?;
        writeln!(out, "{release}  http://{}", listener.local_addr()?)?;
        bound.push((listener, app));
    }

    let (stop, stopped) = watch::channel(());
    let mut servers = JoinSet::new();
    for (listener, app) in bound {
        let mut stopped = stopped.clone();
        let until = async move {
            // An error means that the sender is gone, which is the signal.
            let _ = stopped.changed().await;
        };
        servers.spawn(axum::serve(listener, app).with_graceful_shutdown(until).into_future());
    }
    tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
    drop(stop);
    // Whoever is still reading after this time is left behind.
    let _ = timeout(DRAIN, servers.join_all()).await;
    Ok(())
}

/// The application of one origin.
///
/// # Errors
/// A release that cannot be a header value.
pub fn router(release: &str, kind: Kind) -> Result<Router, header::InvalidHeaderValue> {
    let label = HeaderValue::from_str(release)?;
    let origin = Arc::new(Origin { release: release.to_owned(), label, requests: AtomicU64::new(0) });
    let healthy = || async { Json(json!({"status": "ok"})) };
    let common = Router::new()
        .route("/health", get(healthy))
        .route("/ready", get(healthy))
        .route("/metrics", get(metrics));
    let app = match kind {
        Kind::Api => common.route("/api", any(describe)).route("/api/{*path}", any(describe)),
        Kind::Media => common
            .route("/media/picture.svg", get(([(header::CONTENT_TYPE, "image/svg+xml")], PICTURE)))
            .route("/media/hello.txt", get("Hello from the media service.\n"))
            .route("/media/megabyte.bin", get(megabyte)),
        Kind::Frontend => common.route("/", get(Html(PAGE))),
    };
    let app = app.fallback(|| async { (StatusCode::NOT_FOUND, Json(json!({"error": "not_found"}))) });
    Ok(app.layer(middleware::from_fn_with_state(origin.clone(), sign)).with_state(origin))
}

/// Counts the request and puts the release's name on the answer.
async fn sign(State(origin): State<Arc<Origin>>, request: Request, next: Next) -> Response {
    origin.requests.fetch_add(1, Ordering::Relaxed);
    let mut response = next.run(request).await;
    response.headers_mut().insert("x-release", origin.label.clone());
    response
}

async fn metrics(State(origin): State<Arc<Origin>>) -> impl IntoResponse {
    let count = origin.requests.load(Ordering::Relaxed);
    let release = origin.release.replace('\\', r"\\").replace('"', "\\\"");
    let text = format!(
        "# HELP demo_origin_requests_total Requests answered.\n# TYPE demo_origin_requests_total counter\n\
         demo_origin_requests_total{{release=\"{release}\"}} {count}\n"
    );
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

async fn megabyte() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/octet-stream")], vec![b'm'; MEGABYTE])
}

/// What arrived: the request line, the headers, and how many bytes of body.
async fn describe(State(origin): State<Arc<Origin>>, request: Request) -> Response {
    let (parts, mut body) = request.into_parts();
    let mut body_bytes = 0;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => body_bytes += frame.data_ref().map_or(0, |data| data.len()),
            Err(_) => return StatusCode::BAD_REQUEST.into_response(),
        }
    }
    let mut headers = Map::new();
    for name in parts.headers.keys() {
        let values =
            parts.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        headers.insert(name.to_string(), Value::String(values.collect::<Vec<_>>().join(", ")));
    }
    let answer = json!({
        "release": origin.release,
        "method": parts.method.as_str(),
        "path": parts.uri.path(),
        "query": parts.uri.query(),
        "body_bytes": body_bytes,
        "headers": headers,
    });
    ([(header::CONTENT_TYPE, "application/json")], format!("{answer:#}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    async fn ask(
        app: &Router,
        request: axum::http::request::Builder,
        body: &'static str,
    ) -> (Response<()>, String) {
        let request = request.body(Body::from(body)).expect("a request");
        let (parts, body) =
            TowerToHyperService::new(app.clone()).call(request).await.expect("never fails").into_parts();
        let bytes = body.collect().await.expect("whole").to_bytes();
        (Response::from_parts(parts, ()), String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn get(app: &Router, path: &str) -> (Response<()>, String) {
        ask(app, Request::get(path), "").await
    }

    #[tokio::test]
    async fn the_api_tells_what_arrived_and_who_answers() {
        let app = router("api-41", Kind::Api).expect("a router");
        let request =
            Request::post("/api/orders?page=2").header("x-request-id", "7").header("X-Request-Id", "8");

        let (response, body) = ask(&app, request, "hello").await;

        assert_eq!(response.headers()["x-release"], "api-41");
        let told: Value = serde_json::from_str(&body).expect("JSON");
        let expected = json!({
            "release": "api-41", "method": "POST", "path": "/api/orders", "query": "page=2", "body_bytes": 5,
            "headers": {"x-request-id": "7, 8"}
        });
        assert_eq!(told, expected);
    }

    #[tokio::test]
    async fn every_kind_is_healthy_and_serves_its_own_paths_alone() {
        let paths = [("/api/x", Kind::Api), ("/media/picture.svg", Kind::Media), ("/", Kind::Frontend)];
        for kind in [Kind::Api, Kind::Media, Kind::Frontend] {
            let app = router("r", kind).expect("a router");
            assert_eq!(get(&app, "/health").await.0.status(), StatusCode::OK);
            assert_eq!(get(&app, "/ready").await.0.status(), StatusCode::OK);
            for (path, owner) in paths {
                let expected = if owner == kind { StatusCode::OK } else { StatusCode::NOT_FOUND };
                assert_eq!(get(&app, path).await.0.status(), expected, "{kind:?} {path}");
            }
        }
    }

    #[tokio::test]
    async fn requests_are_counted_under_the_release() {
        let app = router("api-41", Kind::Api).expect("a router");
        get(&app, "/api").await;
        get(&app, "/nowhere").await;
        let (_, text) = get(&app, "/metrics").await;
        assert!(text.ends_with("demo_origin_requests_total{release=\"api-41\"} 3\n"), "{text}");
    }

    #[tokio::test]
    async fn a_taken_port_is_named_and_nothing_is_served() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("an address");
        let failure =
            serve(&[("web".into(), Kind::Frontend, address)], &mut Vec::new()).await.expect_err("taken");
        let sentence = failure.to_string();
        assert!(sentence.starts_with(&format!("error: cannot listen on {address} for web: ")), "{sentence}");
    }
}
