//! What still runs on a release that was rolled back.

use std::time::{Duration, Instant};

use http::Method;

use super::{SHOP, Shop};
use crate::support::Behaviour;

/// What is under way has half a minute; the rest is for a slow machine.
const DRAINED: Duration = Duration::from_secs(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_on_a_rolled_back_release_has_half_a_minute_and_ends_as_it_should() {
    let shop = Shop::start("steps: [ { weight: 100%, hold: 10m } ], failover: {}").await;
    shop.canary.set_behaviour(Behaviour::websocket());
    let mut socket = shop.gateway.websocket("/ws").await;
    assert_eq!(socket.echo("on the canary").await, "on the canary");
    shop.canary.set_behaviour(Behaviour::status(200).drip("piece ", 600, Duration::from_millis(200)));
    let mut stream = shop.gateway.get("/stream").start().await.unwrap();
    assert!(stream.chunk().await.unwrap().is_some());

    shop.roll_back().await;
    let began = Instant::now();
    assert_eq!(socket.echo("still open").await, "still open");
    let (code, broken) = tokio::join!(socket.closed(DRAINED), stream.finish());
    assert_eq!(code, Some(1001), "going away (RFC 6455 §7.4.1)");
    assert!(broken.unwrap().broken.is_some(), "half a stream does not look complete");
    assert!(began.elapsed() > Duration::from_secs(20), "they had their time");
    shop.until("nothing is left on the canary", async || shop.canary.open_connections() == 0).await;
    assert_eq!(shop.gateway.request(Method::GET, "/").await.release(), "api-41");
}

#[tokio::test]
async fn idle_connections_to_a_rolled_back_release_are_closed_at_once_and_others_stay() {
    let yaml = SHOP.replace("    stable:", "    timeouts: { keepalive: 10m }\n    stable:");
    let shop = Shop::start_with(&yaml, "steps: [ { weight: 50%, hold: 10m } ]").await;
    shop.until("the canary has traffic", async || shop.weight("api-42").await > 0.0).await;
    shop.gateway.get("/").repeat(200).await;
    let stable = shop.stable.open_connections();
    assert!(stable > 0 && shop.canary.open_connections() > 0);

    shop.order("abort").await;
    shop.until("nothing is left on the canary", async || shop.canary.open_connections() == 0).await;
    assert_eq!(shop.stable.open_connections(), stable);
}
