//! Endpoints that fail requests are put aside, within bounds, and come back; retries stay within theirs.

use crate::support::{Behaviour, Config, Fault, Gateway, ONE_ORIGIN, Origin, one_origin};

/// A service at `{a}`, `{b}` and `{c}`, each in turn.
const THREE: &str = r#"
services:
  api:
    endpoints: ["{a}", "{b}", "{c}"]
    balance: round_robin
    retry: { attempts: 0 }
    eject: { consecutive_failures: 3, for: 1h, max: 50% }
routes:
  all: { match: { host: shop.example }, service: api }
"#;

struct Three {
    gateway: Gateway,
    origins: [Origin; 3],
    config: Config,
}

impl Three {
    /// Three endpoints: the last so many behave like this, the others are good.
    async fn with(yaml: &str, bad: usize, behaviour: Behaviour) -> Self {
        let mut origins = Vec::new();
        for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
            let behaviour = if index + bad < 3 { Behaviour::status(200) } else { behaviour.clone() };
            origins.push(Origin::script(behaviour).named(name).start().await);
        }
        let config = origins.iter().fold(Config::new(yaml), Config::origin);
        let origins = origins.try_into().unwrap();
        Self { gateway: Gateway::run(&config).await, origins, config }
    }

    /// How many of so many requests did not end with 200.
    async fn failed(&self, count: usize) -> usize {
        count - self.gateway.get("/").repeat(count).await.with_status(200)
    }

    async fn ejections(&self) -> f64 {
        self.gateway.metrics().await.sum("upstream_ejections_total", &[("service", "api")])
    }

    async fn up(&self) -> f64 {
        self.gateway.metrics().await.sum("upstream_endpoint_up", &[("service", "api")])
    }
}

#[tokio::test]
async fn an_endpoint_is_ejected_after_so_many_failures_in_a_row() {
    for behaviour in [
        Behaviour::status(500),
        Behaviour::status(200).fault(Fault::ResetBeforeHeader),
        Behaviour::status(200).fault(Fault::CloseBeforeHeader),
    ] {
        let three = Three::with(THREE, 1, behaviour.clone()).await;
        assert_eq!(three.failed(60).await, 3, "{behaviour:?}");
        assert_eq!((three.ejections().await, three.up().await), (1.0, 2.0));
        let metrics = three.gateway.metrics().await;
        assert_eq!(metrics.sum("upstream_endpoint_up", &[("endpoint", three.origins[2].address())]), 0.0);
        assert!(three.gateway.log().contains("endpoint is ejected"));
    }
}

#[tokio::test]
async fn a_success_between_failures_and_what_clients_do_wrong_eject_nobody() {
    for behaviour in [Behaviour::status(200).failing_every(2, 500), Behaviour::status(404)] {
        let three = Three::with(THREE, 1, behaviour.clone()).await;
        three.failed(60).await;
        assert_eq!((three.ejections().await, three.up().await), (0.0, 3.0), "{behaviour:?}");
        assert_eq!(three.origins[2].hits(), 20, "{behaviour:?}");
    }
}

#[tokio::test]
async fn an_ejected_endpoint_comes_back_by_itself() {
    let three = Three::with(&THREE.replace("1h", "300ms"), 1, Behaviour::status(500)).await;
    assert!(three.failed(9).await >= 3);
    three.origins[2].set_behaviour(Behaviour::status(200));
    three.gateway.eventually("all are up", async || three.up().await == 3.0).await;
    let hits = three.origins[2].hits();
    assert_eq!(three.failed(30).await, 0);
    assert_eq!(three.origins[2].hits() - hits, 10);
    assert!(three.gateway.log().contains("endpoint is back from its ejection"));
}

#[tokio::test]
async fn an_endpoint_that_fails_on_stays_out_for_longer_each_time() {
    let three = Three::with(&THREE.replace("1h", "200ms"), 1, Behaviour::status(500)).await;
    for length in ["for=200ms", "for=400ms", "for=600ms"] {
        let ejected = async || {
            three.failed(9).await;
            three.gateway.log().replace('"', "").replace("for:", "for=").contains(length)
        };
        three.gateway.eventually(length, ejected).await;
    }
}

#[tokio::test]
async fn no_more_than_the_share_is_ejected() {
    for (max, ejected) in [("10%", 0.0), ("34%", 1.0), ("50%", 1.0), ("67%", 2.0)] {
        let three = Three::with(&THREE.replace("50%", max), 2, Behaviour::status(500)).await;
        three.failed(60).await;
        assert_eq!((three.ejections().await, three.up().await), (ejected, 3.0 - ejected), "max {max}");
    }
}

#[tokio::test]
async fn the_last_endpoint_is_never_ejected() {
    let three = Three::with(&THREE.replace("50%", "100%"), 3, Behaviour::status(500)).await;
    assert_eq!(three.failed(60).await, 60);
    assert_eq!((three.ejections().await, three.up().await), (2.0, 1.0));
    let hits: usize = three.origins.iter().map(Origin::hits).sum();
    assert_eq!(hits, 60);

    let origin = Origin::always(500).start().await;
    let alone = ONE_ORIGIN.replace("] }", "], eject: { consecutive_failures: 1, max: 100% } }");
    let gateway = Gateway::run(one_origin(&origin).with_yaml(alone)).await;
    gateway.get("/").repeat(10).await;
    assert_eq!(origin.hits(), 10);
    assert_eq!(gateway.metrics().await.sum("upstream_endpoint_up", &[]), 1.0);
}

#[tokio::test]
async fn an_ejection_survives_a_reload_and_ends_with_its_key() {
    let three = Three::with(THREE, 1, Behaviour::status(500)).await;
    assert_eq!(three.failed(20).await, 3);
    let other = three.config.replace("service: api }", "service: api, timeout: 9s }");
    three.gateway.change_config(&other).await;
    assert_eq!((three.failed(20).await, three.up().await), (0, 2.0));
    let line = THREE.lines().find(|line| line.contains("eject:")).unwrap();
    three.gateway.change_config(three.config.replace(line, "")).await;
    three.gateway.eventually("all are up", async || three.up().await == 3.0).await;
    assert_eq!(three.failed(30).await, 10);
}

#[tokio::test]
async fn a_dead_release_under_load_is_not_buried_under_retries() {
    let line = THREE.lines().find(|line| line.contains("retry:")).unwrap();
    let retrying = THREE.replace(line, "    retry: { attempts: 2, on: [connect, reset], budget: 20% }");
    let three = Three::with(&retrying, 3, Behaviour::status(200).fault(Fault::ResetBeforeHeader)).await;
    assert_eq!(three.failed(600).await, 600);
    let hits: usize = three.origins.iter().map(Origin::hits).sum();
    // A fifth of the requests, or 30 in 10 s; a slow machine sees a few of those windows.
    assert!((600..=600 + 120 + 90).contains(&hits), "{hits} attempts for 600 requests");
    let retries = three.gateway.metrics().await.sum("upstream_retries_total", &[("service", "api")]);
    assert_eq!(retries as usize, hits - 600);
}
