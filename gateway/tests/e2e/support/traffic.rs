//! Requests at a fixed rate while a test does something else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;
use loadtest::load::{Load, Summary, Trust};
use tokio::task::JoinHandle;

use super::gateway::Gateway;

/// Requests that may be under way at a time: each connection has one.
pub(crate) const IN_FLIGHT: usize = 16;

/// Should a test forget to end it.
const LONGEST: Duration = Duration::from_secs(120);

/// Open-loop traffic over TLS, under way until it is ended.
pub(crate) struct Traffic {
    done: Arc<AtomicBool>,
    running: JoinHandle<Summary>,
}

impl Traffic {
    /// Begins so many requests a second for `/`; `users` of them keep their cookies.
    pub(crate) fn begin(gateway: &Gateway, method: Method, rate: f64, users: usize) -> Self {
        let body = if method == Method::POST { "order" } else { "" };
        let load = Load {
            method,
            body: body.into(),
            users,
            connections: IN_FLIGHT,
            trust: Trust::Authority(gateway.place().file("certs/ca.pem")),
            connect_to: Some(gateway.place().https()),
            ..Load::new("https://shop.example/".parse().unwrap(), rate, LONGEST)
        };
        let done = Arc::new(AtomicBool::new(false));
        let running = {
            let done = Arc::clone(&done);
            tokio::spawn(async move { load.run_until(move || done.load(Ordering::Relaxed)).await.unwrap() })
        };
        Self { done, running }
    }

    /// Sends no more, waits for what is under way, and tells what it came to.
    pub(crate) async fn end(self) -> Summary {
        self.done.store(true, Ordering::Relaxed);
        self.running.await.expect("the load does not panic")
    }
}
