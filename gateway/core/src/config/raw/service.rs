//! `services`: releases, their traffic, and how origins are spoken to.

use super::health::Health;
use super::listener::Certificate;
use super::value::{MaxInFlight, Sticky};
use crate::config::decode::{List, Map, OneOrMany, Rare, mapping};
use crate::config::leaf::{Cidr, Failure, FieldName, FilePath, MethodName, Period};
use crate::config::model::{Address, At, Balance, Gate, NotifyEvent, NotifyFormat, Protocol};
use crate::unit::{Multiple, Ratio, Weight};

mapping! {
    /// One application with its releases.
    pub(crate) struct Service {
        /// Addresses of a service with one release that has no name. Instead of `releases`.
        endpoints: Option<List<At<Address>>>,
        /// Deployed versions by name (`api-42`, a git SHA): the name is the release's identity.
        releases: Option<At<Map<Release>>>,
        /// The release that serves what nothing else takes. Default: the only one.
        stable: Option<At<String>>,
        /// The release that is tried. Default: none, all traffic goes to stable.
        canary: Option<At<String>>,
        /// Fixed shares of several releases, relative to each other, instead of a canary.
        split: Option<At<Map<u32>>>,
        /// How much the canary gets, who goes there, and what it must keep.
        rollout: Option<At<Rollout>>,
        /// How an endpoint is chosen. Default: least_requests (of two drawn at random).
        balance: Option<Balance>,
        /// Active checks. Default: none.
        health: Option<Rare<At<Health>>>,
        /// Endpoints that fail again and again are left out for a while. Default: never.
        eject: Option<Eject>,
        /// Another try at another endpoint of the same release.
        retry: Option<Retry>,
        /// How long an origin may take.
        timeouts: Option<Timeouts>,
        /// What is spoken to origins: http1, h2 (over TLS) or h2c (in the clear). Default: http1.
        protocol: Option<At<Protocol>>,
        /// TLS towards origins; `{}` verifies against the system's authorities. Default: in the clear.
        tls: Option<At<UpstreamTls>>,
        /// How many requests of all routes are served at a time: a number, or `{ requests, queue, wait }`; more are 503. Default: any number.
        max_in_flight: Option<Rare<MaxInFlight>>,
    }

    /// One deployed version of a service.
    pub(crate) struct Release {
        /// Its addresses; host names are resolved again by the TTL of their records.
        endpoints: List<At<Address>>,
    }

    /// How much the canary gets, who goes there, and what it must keep.
    pub(crate) struct Rollout {
        /// One fixed share for the canary.
        weight: Option<At<Weight>>,
        /// Shares one after the other, as long as the canary keeps its guard. Instead of `weight`.
        steps: Option<List<At<Step>>>,
        /// What makes a user stay: `client_ip`, `{ cookie: NAME, ttl: 30d }` or `{ header: NAME }`. Default: each request draws for itself.
        sticky: Option<Sticky>,
        /// Who may choose for themselves. Default: nobody.
        override_ as "override": Option<Override>,
        /// The limits a canary must keep.
        guard: Option<Guard>,
        /// A failed canary request is answered by stable. Default: off.
        failover: Option<Failover>,
        /// Who is told.
        notify: Option<Vec<Notify>>,
    }

    /// One weight, held for a time.
    pub(crate) struct Step {
        /// The canary's share; never less than the step before.
        weight: Weight,
        /// How long at least.
        hold: Period,
        /// Attempts on the canary that are needed to go on. Default: 1.
        min_requests: Option<u64>,
        /// `automatic`, or `manual` to wait for `gateway rollout promote` at the end of the step. Default: automatic.
        gate: Option<Gate>,
    }

    /// A header with `always` or `never` that chooses the canary or refuses it.
    pub(crate) struct Override {
        /// Its name.
        header: FieldName,
        /// Clients it is taken from.
        from: OneOrMany<Cidr>,
    }

    /// The limits a canary must keep.
    pub(crate) struct Guard {
        /// Share of failed attempts.
        error_rate: Option<ErrorRate>,
        /// Failure ratio to stable over the same time. Default: 1.2x.
        worse_than_stable: Option<Multiple>,
        /// Response times. Default: not judged.
        latency: Option<Latency>,
        /// Failures in a row that end it. Default: 5.
        consecutive_failures: Option<At<u32>>,
        /// Failures users saw beyond what stable would have given that end it. Default: 25.
        max_failed_requests: Option<At<u32>>,
        /// What counts as a failure: connect, timeout, reset, 5xx or a status. Default: [connect, timeout, reset, 5xx].
        failures: Option<Vec<Failure>>,
        /// 1 − α of each test, over the whole step. Default: 99.9%.
        confidence: Option<At<Ratio>>,
    }

    /// Share of failed attempts.
    pub(crate) struct ErrorRate {
        /// Above it the rollout waits. Default: 1%, or `max` if that is less.
        warn: Option<At<Ratio>>,
        /// Above it the canary is rolled back. Default: 5%.
        max: Option<At<Ratio>>,
    }

    /// A share of requests that must be answered in time.
    pub(crate) struct Latency {
        /// The share.
        quantile: At<Ratio>,
        /// The time to the response header.
        max: At<Period>,
    }

    /// A failed canary request is answered by stable.
    pub(crate) struct Failover {
        /// Where it goes; `stable` is the only place.
        to: Option<At<String>>,
        /// After which failures. Default: [connect, timeout, reset, 5xx].
        on: Option<Vec<Failure>>,
        /// For which methods; others only when nothing was sent. Default: [GET, HEAD, OPTIONS].
        methods: Option<OneOrMany<MethodName>>,
        /// At most this share of the service's requests in the last 10 s. Default: 20%.
        budget: Option<Ratio>,
    }

    /// A webhook.
    pub(crate) struct Notify {
        /// Where.
        url: At<String>,
        /// `json` or `slack`. Default: json.
        format: Option<NotifyFormat>,
        /// What is told. Default: [held, rolled_back, completed].
        on: Option<Vec<NotifyEvent>>,
    }

    /// Endpoints that fail again and again are left out for a while.
    pub(crate) struct Eject {
        /// Failures in a row. Default: 5.
        consecutive_failures: Option<At<u32>>,
        /// For how long the first time. Default: 30s.
        for_ as "for": Option<At<Period>>,
        /// At most this share of a release. Default: 50%.
        max: Option<Ratio>,
    }

    /// Another try at another endpoint of the same release.
    pub(crate) struct Retry {
        /// How many beside the first. Default: 1.
        attempts: Option<u32>,
        /// After which failures. Safe methods only, except before anything was sent. Default: [connect, reset].
        on: Option<Vec<Failure>>,
        /// At most this share of the service's requests in the last 10 s. Default: 20%.
        budget: Option<Ratio>,
    }

    /// How long an origin may take.
    pub(crate) struct Timeouts {
        /// TCP and TLS, each. Default: 3s.
        connect: Option<At<Period>>,
        /// From the request's end to the response's first byte; more is 504. Default: 30s.
        first_byte: Option<At<Period>>,
        /// Silence in the middle of a body, either way. Default: 30s.
        idle: Option<At<Period>>,
        /// How long an unused connection is kept; below what the origin keeps (Node and uvicorn: 5 s). Default: 4s.
        keepalive: Option<At<Period>>,
    }

    /// TLS towards origins.
    pub(crate) struct UpstreamTls {
        /// The name asked for and verified. Default: the endpoint's host.
        sni: Option<At<String>>,
        /// The authorities that may have signed it, as a PEM file. Default: the system's.
        ca: Option<At<FilePath>>,
        /// The certificate the gateway shows. Default: none.
        client_cert: Option<Certificate>,
    }
}
