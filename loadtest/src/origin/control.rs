//! A port that changes running origins, and tells what they have done.
//!
//! `GET /` tells of all, `GET /NAME` of one. `PUT /` and `PUT /NAME` take a [`Plan`] and begin it with the next request.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::net::TcpListener;

use super::Origin;
use super::plan::Plan;

/// A plan is a few lines.
const LONGEST_PLAN_BYTES: usize = 64 << 10;

/// Origins with the plans they follow, by name.
#[derive(Debug)]
pub struct Controlled {
    origins: BTreeMap<String, (Origin, Mutex<Plan>)>,
}

/// What an origin has done so far.
#[derive(Debug, Serialize)]
struct Told<'a> {
    address: &'a str,
    requests: usize,
    endings: BTreeMap<String, u64>,
    connections: usize,
    open_connections: usize,
    plan: Plan,
}

impl Controlled {
    /// These origins, which follow this plan now. Of several with one name only the last is kept.
    pub fn new(origins: Vec<Origin>, plan: &Plan) -> Self {
        let entry = |origin: Origin| (origin.name().to_owned(), (origin, Mutex::new(plan.clone())));
        Self { origins: origins.into_iter().map(entry).collect() }
    }

    /// Serves the control port until it is dropped.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn listen(self, address: SocketAddr) -> io::Result<(SocketAddr, impl Future<Output = ()>)> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((address, serve(listener, Arc::new(self))))
    }

    fn told(&self, name: Option<&str>) -> BTreeMap<&str, Told<'_>> {
        let chosen = self.origins.iter().filter(|(own, _)| name.is_none_or(|name| name == *own));
        chosen
            .map(|(name, (origin, plan))| {
                let told = Told {
                    address: origin.address(),
                    requests: origin.hits(),
                    endings: origin.endings(),
                    connections: origin.connections(),
                    open_connections: origin.open_connections(),
                    plan: plan.lock().clone(),
                };
                (name.as_str(), told)
            })
            .collect()
    }

    fn follow(&self, name: Option<&str>, plan: &Plan) -> Result<(), String> {
        let behaviour = plan.behaviour()?;
        for (own, (origin, current)) in &self.origins {
            if name.is_none_or(|name| name == own) {
                origin.set_behaviour(behaviour.clone());
                *current.lock() = plan.clone();
            }
        }
        Ok(())
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let name = Some(request.uri().path().trim_matches('/').to_owned()).filter(|name| !name.is_empty());
        let name = name.as_deref();
        if let Some(unknown) = name.filter(|name| !self.origins.contains_key(*name)) {
            let known: Vec<_> = self.origins.keys().map(String::as_str).collect();
            return sentence(
                StatusCode::NOT_FOUND,
                &format!("no origin `{unknown}`; there are {}", known.join(", ")),
            );
        }
        match *request.method() {
            Method::GET => {}
            Method::PUT => {
                if let Err(problem) = plan(request).await.and_then(|plan| self.follow(name, &plan)) {
                    return sentence(StatusCode::BAD_REQUEST, &problem);
                }
            }
            _ => {
                let mut answer = sentence(StatusCode::METHOD_NOT_ALLOWED, "GET tells, PUT changes");
                answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, PUT"));
                return answer;
            }
        }
        match serde_json::to_vec_pretty(&self.told(name)) {
            Ok(json) => answer(StatusCode::OK, "application/json", json),
            Err(error) => sentence(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }
}

async fn plan(request: Request<Incoming>) -> Result<Plan, String> {
    let body = Limited::new(request.into_body(), LONGEST_PLAN_BYTES);
    let bytes = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

fn sentence(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", format!("{text}\n").into_bytes())
}

fn answer(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

async fn serve(listener: TcpListener, controlled: Arc<Controlled>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: the next one may do better.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        let controlled = Arc::clone(&controlled);
        let service = service_fn(move |request| {
            let controlled = Arc::clone(&controlled);
            async move { Ok::<_, std::convert::Infallible>(controlled.answer(request).await) }
        });
        // How a connection ends is its client's concern.
        connections.spawn(async move {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
