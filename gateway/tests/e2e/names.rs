//! Endpoints that are host names: found, found again as their records expire, and kept while nobody answers.

use crate::support::dns::NameServer;
use crate::support::ports::Port;
use crate::support::{Config, Gateway, Origin, Place};

/// Everything to `api.internal` on `{port}`, as `{dns}` says.
const NAMED: &str = r#"
runtime: { nameservers: ["{dns}"] }
services:
  api: { endpoints: ["api.internal:{port}"], balance: round_robin }
routes:
  all: { match: { host: shop.example }, service: api }
"#;

const NAME: &str = "api.internal";

/// Origins on one port of several addresses, and the name server that chooses among them.
struct World {
    names: NameServer,
    port: Port,
}

impl World {
    async fn new() -> Self {
        Self { names: NameServer::start().await, port: Port::reserve() }
    }

    async fn origin(&self, address: &str) -> Origin {
        let listen = (address.parse::<std::net::IpAddr>().unwrap(), self.port.number()).into();
        Origin::always(200).named(address).listen(listen).start().await
    }

    fn config(&self) -> Config {
        Config::new(NAMED).value("dns", self.names.address()).value("port", &self.port.number().to_string())
    }
}

/// Waits until requests are served by exactly these.
async fn served_by(gateway: &Gateway, origins: &[&str]) {
    let mut expected = origins.to_vec();
    expected.sort_unstable();
    let what = format!("requests go to {expected:?}");
    gateway
        .eventually(&what, async || {
            let answers = gateway.get("/").repeat(6).await;
            answers.releases.keys().map(String::as_str).eq(expected.iter().copied())
        })
        .await;
}

#[tokio::test]
async fn an_endpoint_follows_its_records_over_both_families() {
    let world = World::new().await;
    let _origins =
        [world.origin("127.0.0.1").await, world.origin("127.0.0.2").await, world.origin("::1").await];
    world.names.set(NAME, &["127.0.0.1"]);
    let gateway = Gateway::run(world.config()).await;
    assert_eq!(gateway.get("/").await.release(), "127.0.0.1", "names are known before the first request");

    world.names.set(NAME, &["127.0.0.2"]);
    served_by(&gateway, &["127.0.0.2"]).await;
    world.names.set(NAME, &["127.0.0.1", "127.0.0.2", "::1"]);
    served_by(&gateway, &["127.0.0.1", "127.0.0.2", "::1"]).await;
    world.names.set(NAME, &["::1"]);
    served_by(&gateway, &["::1"]).await;
}

#[tokio::test]
async fn a_name_that_is_lost_keeps_its_last_addresses() {
    let world = World::new().await;
    let _origin = world.origin("127.0.0.1").await;
    world.names.set(NAME, &["127.0.0.1"]);
    let gateway = Gateway::run(world.config()).await;
    world.names.remove(NAME);
    gateway
        .eventually("the loss is told", async || gateway.log().contains("keeping what is known of it"))
        .await;
    assert_eq!(gateway.get("/").repeat(5).await.with_status(200), 5);
}

#[tokio::test]
async fn a_name_that_comes_late_is_served_from_then_on() {
    let world = World::new().await;
    let _origin = world.origin("127.0.0.1").await;
    let gateway = Gateway::run(world.config()).await;
    assert_eq!(gateway.get("/").await.status, 503);
    world.names.set(NAME, &["127.0.0.1"]);
    gateway.eventually("the name is found", async || gateway.get("/").await.status == 200).await;
}

#[tokio::test]
async fn other_name_servers_are_asked_at_once() {
    let (world, other) = (World::new().await, NameServer::start().await);
    let _origins = [world.origin("127.0.0.1").await, world.origin("127.0.0.2").await];
    world.names.set(NAME, &["127.0.0.1"]);
    other.set(NAME, &["127.0.0.2"]);
    let gateway = Gateway::run(world.config()).await;
    gateway.change_config(world.config().replace("{dns}", other.address())).await;
    assert_eq!(gateway.get("/").repeat(5).await.releases.len(), 1);
    assert_eq!(gateway.get("/").await.release(), "127.0.0.2");
}

#[tokio::test]
async fn check_asks_the_name_servers_of_the_file() {
    let world = World::new().await;
    let place = Place::new(world.config());
    let unknown = place.command(&["check"]).await;
    assert_eq!(unknown.code(), 0, "{unknown:?}");
    assert!(unknown.text().contains("`api.internal` does not resolve"), "{unknown:?}");
    world.names.set(NAME, &["127.0.0.1"]);
    let known = place.command(&["check"]).await;
    assert!(!known.text().contains("does not resolve"), "{known:?}");
}
