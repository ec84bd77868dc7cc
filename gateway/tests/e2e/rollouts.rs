//! Rollouts that judge themselves, seen from outside: by users, by origins and by operators.

mod cutover;
mod drain;
mod failover;
mod memory;
mod operators;
mod reloading;
mod steps;
mod told;
mod verdicts;

use http::Method;
use serde_json::Value;

use crate::support::{Behaviour, Config, Gateway, Origin, Traffic};

/// Two steps that do not end by themselves while a test runs.
const PLAN: &str = "steps: [ { weight: 10%, hold: 10m }, { weight: 100%, hold: 10m } ]";

/// The usual rate of traffic.
const RATE: f64 = 500.0;

const SHOP: &str = r#"
services:
  api:
    releases:
      api-41: { endpoints: ["{api-41}"] }
      api-42: { endpoints: ["{api-42}"] }
      api-43: { endpoints: ["{api-43}"] }
    stable: api-41
    canary: api-42
    rollout: { ROLLOUT }
routes:
  all: { match: { host: shop.example }, service: api }
  other: { match: { host: shop.example, prefix: /other }, service: api }
"#;

/// The service `api` with `api-41` as stable, `api-42` as canary, and `api-43` for later. All of them are well at first.
struct Shop {
    gateway: Gateway,
    stable: Origin,
    canary: Origin,
    next: Origin,
    config: Config,
}

impl Shop {
    /// Starts with this in `rollout`, and waits until the canary has its first traffic.
    async fn start(rollout: &str) -> Self {
        let shop = Self::start_with(SHOP, rollout).await;
        shop.until("the canary has traffic", async || shop.weight("api-42").await > 0.0).await;
        shop
    }

    /// Starts with other YAML, in which `ROLLOUT` stands for `rollout`, and waits for nothing more.
    async fn start_with(yaml: &str, rollout: &str) -> Self {
        let stable = Origin::always(200).named("api-41").start().await;
        let canary = Origin::always(200).named("api-42").start().await;
        let next = Origin::always(200).named("api-43").start().await;
        let config = Config::new(yaml.replace("ROLLOUT", rollout));
        let config = config.origin(&stable).origin(&canary).origin(&next);
        let gateway = Gateway::run(&config).await;
        Self { gateway, stable, canary, next, config }
    }

    /// The usual traffic; `users` keep their cookies.
    fn traffic(&self, method: Method, users: usize) -> Traffic {
        Traffic::begin(&self.gateway, method, RATE, users)
    }

    async fn until(&self, what: &str, condition: impl AsyncFnMut() -> bool) {
        self.gateway.eventually(what, condition).await;
    }

    /// A release's share of the moment, in percent.
    async fn weight(&self, release: &str) -> f64 {
        self.gateway.metrics().await.sum("split_weight", &[("service", "api"), ("release", release)])
    }

    /// Whether the rollout that tries a release is in this state.
    async fn is(&self, release: &str, state: &str) -> bool {
        let labels = [("service", "api"), ("release", release), ("state", state)];
        self.gateway.metrics().await.sum("rollout_state", &labels) == 1.0
    }

    /// Waits until the rollout of `api-42` is in this state.
    async fn becomes(&self, state: &str) {
        self.until(&format!("api-42 is {state}"), async || self.is("api-42", state).await).await;
    }

    /// Attempts on a release that ended like this.
    async fn attempts(&self, release: &str, outcome: &str) -> f64 {
        let labels = [("service", "api"), ("release", release), ("outcome", outcome)];
        self.gateway.metrics().await.sum("upstream_attempts_total", &labels)
    }

    /// The evidence, once it counts so many attempts on the canary: successes are folded in every 100 ms.
    async fn evidence(&self, attempts: usize) -> Value {
        let evidence = async || self.gateway.rollout("api").await["evidence"].clone();
        let what = format!("{attempts} attempts on the canary are evidence");
        self.until(&what, async || evidence().await["canary"]["attempts"] == attempts).await;
        evidence().await
    }

    /// Asks the admin API for something that it must do.
    async fn order(&self, command: &str) {
        let answer = self.gateway.admin("POST", &format!("/v1/rollouts/api/{command}")).await;
        assert_eq!(answer.status, 200, "{command}: {answer:?}");
    }

    /// The configuration with one text in place of another, taken by the gateway.
    async fn edit(&mut self, from: &str, to: &str) {
        self.config = self.config.replace(from, to);
        self.gateway.change_config(&self.config).await;
    }

    /// How often a configuration asked for what was rolled back.
    async fn refusals(&self) -> f64 {
        self.gateway.metrics().await.sum("rollout_refused_total", &[("service", "api")])
    }

    /// The canary fails everything until it is rolled back.
    async fn roll_back(&self) {
        self.canary.set_behaviour(Behaviour::status(500));
        let traffic = self.traffic(Method::GET, 0);
        self.becomes("rolled_back").await;
        traffic.end().await;
    }

    /// A thousand more requests, of which the canary gets none.
    async fn canary_stays_out(&self) {
        let hits = self.canary.hits();
        let answers = self.gateway.get("/").repeat(1000).await;
        assert_eq!(answers.served_by(&self.stable), 1000, "{answers:?}");
        assert_eq!(self.canary.hits(), hits, "the canary was asked again");
    }

    /// The process of the canary ends; what takes its place here listens where nobody looks.
    async fn kill_canary(&mut self) {
        let elsewhere = Origin::always(200).named("api-42").start().await;
        std::mem::replace(&mut self.canary, elsewhere).stop().await;
    }
}
