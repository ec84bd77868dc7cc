//! Every metric of the gateway by name, and the handles through which they are counted.
//!
//! The parts of a snapshot ask for their handles once, while it is built, and keep them; a request only adds to
//! counters. To add a metric: a field, a line in [`Metrics::new`], one in [`Metrics::encode`], and a handle.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gateway_core::name::{LimitName, ListenerName, ReleaseName, RouteName, ServiceName};
use gateway_core::outcome::{Failure, Outcome};
use gateway_core::rollout::State;
use gateway_core::unit::Weight;
use http::{Method, StatusCode};

use super::counters::ShardedCounter;
use super::family::{self, Family, Single};
use super::instruments::{CounterBy, Gauge, Histogram, Occupancy, Occupied, OneOf, RequestCounts};
use super::labels::{
    AuthDecision, BadRequest, Handshake, InFlightDecision, LimitDecision, Mirrored, Notification, Reload,
    Rollback,
};
use super::process;
use crate::limits::registry::Place;

/// The route label of requests that no route matched.
pub const UNMATCHED: &str = "unmatched";

/// All metrics of the process. They outlive every reload.
pub struct Metrics {
    requests: Family<RequestCounts, 3>,
    request_durations: Family<Histogram, 3>,
    in_flight: Family<Occupancy, 1>,
    attempts: Family<CounterBy<Outcome>, 2>,
    responses: Family<Histogram, 2>,
    endpoints: Family<Gauge, 3>,
    retries: Family<CounterBy<Failure>, 1>,
    weights: Family<Gauge, 2>,
    failovers: Family<ShardedCounter, 2>,
    ejections: Family<ShardedCounter, 2>,
    rollout_refused: Family<ShardedCounter, 1>,
    rollout_states: Family<OneOf<State>, 2>,
    rollout_steps: Family<Gauge, 1>,
    rollbacks: Family<CounterBy<Rollback>, 1>,
    notifications: Single<CounterBy<Notification>>,
    state_write_failures: Single<ShardedCounter>,
    reloads: Single<CounterBy<Reload>>,
    reload_successful: Single<Gauge>,
    reload_time: Single<Gauge>,
    certificates: Family<Gauge, 2>,
    handshakes: Family<CounterBy<Handshake>, 1>,
    connections: Family<Occupancy, 1>,
    connections_refused: Family<ShardedCounter, 1>,
    max_connections: Single<Gauge>,
    bad_requests: Family<CounterBy<BadRequest>, 1>,
    rate_limits: Family<CounterBy<LimitDecision>, 1>,
    maintenance: Family<Gauge, 1>,
    kill_switch: Single<Gauge>,
    mirrors: Family<CounterBy<Mirrored>, 2>,
    mirrors_in_flight: Family<Occupancy, 2>,
    auth: Family<CounterBy<AuthDecision>, 1>,
    in_flight_decisions: Family<CounterBy<InFlightDecision>, 2>,
    in_flight_waiting: Family<Occupancy, 2>,
    access_log_dropped: Single<ShardedCounter>,
    build: Single<Gauge, 1>,
}

impl Metrics {
    /// Metrics of a process whose first configuration was loaded at `loaded`.
    pub fn new(loaded: SystemTime) -> Self {
        const SERVED: [&str; 3] = ["route", "service", "release"];
        const RELEASE: [&str; 2] = ["service", "release"];
        const LIMITED: [&str; 2] = ["route", "service"];
        let metrics = Self {
            requests: Family::new("http_requests_total", "Finished requests.", SERVED),
            request_durations: Family::new(
                "http_request_duration_seconds",
                "From a request's header to the end of its answer.",
                SERVED,
            ),
            in_flight: Family::new("http_requests_in_flight", "Requests being served.", ["route"]),
            attempts: Family::new("upstream_attempts_total", "Tries at one endpoint.", RELEASE),
            responses: Family::new(
                "upstream_response_seconds",
                "From the start of an attempt to its response header.",
                RELEASE,
            ),
            endpoints: Family::new(
                "upstream_endpoint_up",
                "1 when requests are sent to the endpoint, 0 when it is unhealthy or ejected.",
                ["service", "release", "endpoint"],
            ),
            retries: Family::new("upstream_retries_total", "Attempts beside the first.", ["service"]),
            ejections: Family::new(
                "upstream_ejections_total",
                "Endpoints put aside for failing one attempt after another.",
                RELEASE,
            ),
            failovers: Family::new(
                "failovers_total",
                "Requests that stable answered after the release had failed them.",
                RELEASE,
            ),
            rollout_refused: Family::new(
                "rollout_refused_total",
                "Configurations that asked for a release that was rolled back.",
                ["service"],
            ),
            rollout_states: Family::new(
                "rollout_state",
                "1 for the state of the rollout that tries the release, 0 for the others.",
                RELEASE,
            ),
            rollout_steps: Family::new(
                "rollout_step",
                "The step under way, the first being 0; -1 when none is.",
                ["service"],
            ),
            rollbacks: Family::new("rollbacks_total", "Canaries rolled back.", ["service"]),
            notifications: Single::new("notifications_total", "Messages to webhooks about rollouts.", []),
            state_write_failures: Single::new(
                "state_write_failures_total",
                "Files of remembered state that could not be written; each is tried again.",
                [],
            ),
            weights: Family::new("split_weight", "The release's share of its service, 0 to 100.", RELEASE),
            reloads: Single::new("config_reloads_total", "Reloads of the configuration.", []),
            reload_successful: Single::new(
                "config_last_reload_successful",
                "1 when the last configuration read is the one that serves.",
                [],
            ),
            reload_time: Single::new(
                "config_last_reload_timestamp_seconds",
                "When the configuration that serves was loaded, in Unix time.",
                [],
            ),
            certificates: Family::new(
                "tls_certificate_expiry_timestamp_seconds",
                "When a served certificate expires, in Unix time.",
                ["listener", "name"],
            ),
            handshakes: Family::new("tls_handshakes_total", "TLS handshakes with clients.", ["listener"]),
            connections: Family::new("connections", "Open client connections.", ["listener"]),
            connections_refused: Family::new(
                "connections_refused_total",
                "New connections closed at once: there were `max_connections` already.",
                ["listener"],
            ),
            max_connections: Single::new(
                "max_connections",
                "Client connections there may be at a time, on all listeners.",
                [],
            ),
            bad_requests: Family::new(
                "bad_requests_total",
                "Connections and requests refused for their form.",
                ["listener"],
            ),
            rate_limits: Family::new(
                "rate_limit_decisions_total",
                "Requests a rate limit was asked about.",
                ["limit"],
            ),
            maintenance: Family::new("maintenance", "1 while the route is in maintenance.", ["route"]),
            kill_switch: Single::new(
                "kill_switch",
                "1 while the kill switch sends everything to stable.",
                [],
            ),
            mirrors: Family::new("mirror_requests_total", "Copies of requests for another service.", LIMITED),
            mirrors_in_flight: Family::new(
                "mirror_requests_in_flight",
                "Copies that are being made or on their way.",
                LIMITED,
            ),
            auth: Family::new("auth_decisions_total", "Requests that were asked for credentials.", ["route"]),
            in_flight_decisions: Family::new(
                "in_flight_decisions_total",
                "Requests that the `max_in_flight` of a route or a service was asked about.",
                LIMITED,
            ),
            in_flight_waiting: Family::new(
                "in_flight_waiting",
                "Requests that wait because the route or the service serves as many as it may.",
                LIMITED,
            ),
            access_log_dropped: Single::new(
                "access_log_dropped_total",
                "Access log lines that were lost: the queue was full or the target took no more.",
                [],
            ),
            build: Single::new(
                "build_info",
                "The version that runs.",
                [("version", env!("CARGO_PKG_VERSION"))],
            ),
        };
        metrics.build.handle.set(1.0);
        metrics.note_load(loaded);
        metrics
    }

    /// Handles for requests of a route, by what serves them; `None` for a route without a service, or no route at all.
    pub fn requests(
        &self,
        route: Option<&RouteName>,
        served_by: Option<(&ServiceName, &ReleaseName)>,
    ) -> Arc<RequestMetrics> {
        let route = route.map_or(UNMATCHED, RouteName::as_str);
        let (service, release) =
            served_by.map_or(("", ""), |(service, release)| (service.as_str(), release.as_str()));
        Arc::new(RequestMetrics {
            route: route.into(),
            service: service.into(),
            release: release.into(),
            counts: self.requests.series([route, service, release]),
            durations: self.request_durations.series([route, service, release]),
        })
    }

    /// The requests of a route that are being served; `None` for those that no route matched.
    pub fn in_flight(&self, route: Option<&RouteName>) -> Arc<Occupancy> {
        self.in_flight.series([route.map_or(UNMATCHED, RouteName::as_str)])
    }

    /// Handles for one release.
    pub fn release(&self, service: &ServiceName, release: &ReleaseName) -> ReleaseMetrics {
        let labels = [service.as_str(), release.as_str()];
        ReleaseMetrics {
            attempts: self.attempts.series(labels),
            responses: self.responses.series(labels),
            failovers: self.failovers.series(labels),
            ejections: self.ejections.series(labels),
            weight: self.weights.series(labels),
        }
    }

    /// Whether requests are sent to an endpoint: 1 or 0. `endpoint` is an address, as configured or resolved.
    pub fn endpoint_up(&self, service: &ServiceName, release: &ReleaseName, endpoint: &str) -> Arc<Gauge> {
        self.endpoints.series([service.as_str(), release.as_str(), endpoint])
    }

    /// Attempts of a service beside the first, by the failure they answer.
    pub fn retries(&self, service: &ServiceName) -> Arc<CounterBy<Failure>> {
        self.retries.series([service.as_str()])
    }

    /// Handles for one listener.
    pub fn listener(&self, listener: &ListenerName) -> ListenerMetrics {
        let labels = [listener.as_str()];
        ListenerMetrics {
            connections: self.connections.series(labels),
            refused: self.connections_refused.series(labels),
            handshakes: self.handshakes.series(labels),
            bad_requests: self.bad_requests.series(labels),
        }
    }

    /// Shows how many client connections there may be.
    pub fn set_max_connections(&self, most: u32) {
        self.max_connections.handle.set(f64::from(most));
    }

    /// What a rate limit says to requests.
    pub fn rate_limit(&self, limit: &LimitName) -> Arc<CounterBy<LimitDecision>> {
        self.rate_limits.series([limit.as_str()])
    }

    /// Whether a route is in maintenance: 1 or 0.
    pub fn maintenance(&self, route: &RouteName) -> Arc<Gauge> {
        self.maintenance.series([route.as_str()])
    }

    /// Whether the kill switch sends everything to stable: 1 or 0.
    pub fn kill_switch(&self) -> Arc<Gauge> {
        Arc::clone(&self.kill_switch.handle)
    }

    /// Copies of a route's requests for `service`.
    pub fn mirror(&self, route: &RouteName, service: &ServiceName) -> MirrorMetrics {
        let labels = [route.as_str(), service.as_str()];
        MirrorMetrics {
            results: self.mirrors.series(labels),
            in_flight: self.mirrors_in_flight.series(labels),
        }
    }

    /// What became of requests on a route that asks for credentials.
    pub fn auth(&self, route: &RouteName) -> Arc<CounterBy<AuthDecision>> {
        self.auth.series([route.as_str()])
    }

    /// What the `max_in_flight` of a place says to requests, and how many wait.
    pub(crate) fn max_in_flight(&self, place: &Place) -> (Arc<CounterBy<InFlightDecision>>, Arc<Occupancy>) {
        let labels = match place {
            Place::Route(route) => [route.as_str(), ""],
            Place::Service(service) => ["", service.as_str()],
        };
        (self.in_flight_decisions.series(labels), self.in_flight_waiting.series(labels))
    }

    /// What is shown of a service's rollouts.
    pub fn rollouts(&self, service: &ServiceName) -> RolloutMetrics {
        let labels = [service.as_str()];
        RolloutMetrics {
            refused: self.rollout_refused.series(labels),
            rollbacks: self.rollbacks.series(labels),
            step: self.rollout_steps.series(labels),
        }
    }

    /// The state of the rollout that tries a release.
    pub fn rollout_state(&self, service: &ServiceName, release: &ReleaseName) -> Arc<OneOf<State>> {
        self.rollout_states.series([service.as_str(), release.as_str()])
    }

    /// Messages to webhooks.
    pub fn notifications(&self) -> Arc<CounterBy<Notification>> {
        Arc::clone(&self.notifications.handle)
    }

    /// Files of remembered state that could not be written.
    pub fn state_write_failures(&self) -> Arc<ShardedCounter> {
        Arc::clone(&self.state_write_failures.handle)
    }

    /// When a certificate expires, in seconds since 1970. `name` tells a listener's certificates apart.
    pub fn certificate_expiry(&self, listener: &ListenerName, name: &str) -> Arc<Gauge> {
        self.certificates.series([listener.as_str(), name])
    }

    /// Access log lines that were lost.
    pub fn access_log_dropped(&self) -> Arc<ShardedCounter> {
        Arc::clone(&self.access_log_dropped.handle)
    }

    /// Counts a reload that ended at `now`.
    pub fn note_reload(&self, result: Reload, now: SystemTime) {
        self.reloads.handle.count(result);
        match result {
            Reload::Success => self.note_load(now),
            Reload::Failure => self.reload_successful.handle.set(0.0),
        }
    }

    fn note_load(&self, now: SystemTime) {
        self.reload_successful.handle.set(1.0);
        // A clock before 1970 is shown as 1970.
        self.reload_time
            .handle
            .set(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64());
    }

    /// Everything in the Prometheus text format 0.0.4, each name beginning with `namespace` and `_` unless it is empty.
    ///
    /// Series that nobody holds any more are in it for the last time.
    pub fn encode(&self, namespace: &str) -> String {
        let mut families = vec![
            self.requests.collect(),
            self.request_durations.collect(),
            self.in_flight.collect(),
            self.attempts.collect(),
            self.responses.collect(),
            self.endpoints.collect(),
            self.retries.collect(),
            self.weights.collect(),
            self.failovers.collect(),
            self.ejections.collect(),
            self.rollout_refused.collect(),
            self.rollout_states.collect(),
            self.rollout_steps.collect(),
            self.rollbacks.collect(),
            self.notifications.collect(),
            self.state_write_failures.collect(),
            self.reloads.collect(),
            self.reload_successful.collect(),
            self.reload_time.collect(),
            self.certificates.collect(),
            self.handshakes.collect(),
            self.connections.collect(),
            self.connections_refused.collect(),
            self.max_connections.collect(),
            self.bad_requests.collect(),
            self.rate_limits.collect(),
            self.maintenance.collect(),
            self.kill_switch.collect(),
            self.mirrors.collect(),
            self.mirrors_in_flight.collect(),
            self.auth.collect(),
            self.in_flight_decisions.collect(),
            self.in_flight_waiting.collect(),
            self.access_log_dropped.collect(),
            self.build.collect(),
        ];
        families.extend(process::collect());
        family::encode(namespace, families)
    }
}

/// Where finished requests of one route, service and release are counted.
#[derive(Debug)]
pub struct RequestMetrics {
    route: Box<str>,
    service: Box<str>,
    release: Box<str>,
    counts: Arc<RequestCounts>,
    durations: Arc<Histogram>,
}

impl RequestMetrics {
    /// Counts one finished request: three atomic additions.
    pub fn record(&self, method: &Method, status: StatusCode, duration: Duration) {
        self.counts.count(method, status);
        self.durations.observe(duration);
    }

    /// The route's name, or [`UNMATCHED`].
    pub fn route(&self) -> &str {
        &self.route
    }

    /// The service's name; empty for a route without one.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The release's name; empty for a route without a service.
    pub fn release(&self) -> &str {
        &self.release
    }
}

/// Handles for one release.
#[derive(Debug, Clone)]
pub struct ReleaseMetrics {
    /// How attempts ended.
    pub attempts: Arc<CounterBy<Outcome>>,
    /// From the start of an attempt to its response header.
    pub responses: Arc<Histogram>,
    /// Requests that stable answered after this release had failed them.
    pub failovers: Arc<ShardedCounter>,
    /// Endpoints put aside for failing one attempt after another.
    pub ejections: Arc<ShardedCounter>,
    weight: Arc<Gauge>,
}

impl ReleaseMetrics {
    /// Shows the release's share of its service.
    pub fn set_weight(&self, weight: Weight) {
        self.weight.set(weight.percent());
    }
}

/// What is shown of a service's rollouts.
#[derive(Debug, Clone)]
pub struct RolloutMetrics {
    /// Configurations that asked for a release that was rolled back.
    pub refused: Arc<ShardedCounter>,
    /// Canaries rolled back, by the reason.
    pub rollbacks: Arc<CounterBy<Rollback>>,
    step: Arc<Gauge>,
}

impl RolloutMetrics {
    /// Shows the step under way, from 0.
    pub fn set_step(&self, step: Option<usize>) {
        self.step.set(step.map_or(-1.0, |step| step as f64));
    }
}

/// Handles for the mirror of one route.
#[derive(Debug, Clone)]
pub struct MirrorMetrics {
    /// What became of copies.
    pub results: Arc<CounterBy<Mirrored>>,
    /// Copies that are being made or on their way.
    pub in_flight: Arc<Occupancy>,
}

/// Handles for one listener.
#[derive(Debug, Clone)]
pub struct ListenerMetrics {
    connections: Arc<Occupancy>,
    /// Closed at once for want of room.
    pub refused: Arc<ShardedCounter>,
    /// How TLS handshakes ended.
    pub handshakes: Arc<CounterBy<Handshake>>,
    /// What was refused for its form.
    pub bad_requests: Arc<CounterBy<BadRequest>>,
}

impl ListenerMetrics {
    /// Counts a connection as open until the guard is dropped.
    pub fn connect(&self) -> Occupied {
        self.connections.enter()
    }

    /// Connections that are open.
    pub fn open(&self) -> i64 {
        self.connections.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
    }

    fn api() -> (RouteName, ServiceName, ReleaseName) {
        (
            RouteName::new("api").unwrap(),
            ServiceName::new("shop").unwrap(),
            ReleaseName::new("api-42").unwrap(),
        )
    }

    fn assert_line(text: &str, line: &str) {
        assert!(text.lines().any(|found| found == line), "`{line}` is not in\n{text}");
    }

    #[test]
    fn the_manual_names_every_metric() {
        let manual = include_str!("../../../docs/operations.md");
        let (source, _) = include_str!("metrics.rs").split_once("#[cfg(test)]").expect("tests come last");
        let named = source.split("Family::new(").chain(source.split("Single::new("));
        let names = named.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
        let names: Vec<&str> = names.collect();
        assert!(names.len() > 30, "{names:?}");
        for name in names {
            assert!(manual.contains(&format!("`{name}")), "{name}");
        }
    }

    #[test]
    fn a_finished_request_is_counted_and_timed_under_its_labels() {
        let (metrics, (route, service, release)) = (metrics(), api());
        let handle = metrics.requests(Some(&route), Some((&service, &release)));
        handle.record(&Method::GET, StatusCode::OK, Duration::from_millis(7));
        let text = metrics.encode("kos_taxi");
        let labels = r#"route="api",service="shop",release="api-42""#;
        assert_line(
            &text,
            &format!(r#"kos_taxi_http_requests_total{{{labels},method="GET",http_status="200"}} 1"#),
        );
        assert_line(
            &text,
            &format!(r#"kos_taxi_http_request_duration_seconds_bucket{{{labels},le="0.005"}} 0"#),
        );
        assert_line(
            &text,
            &format!(r#"kos_taxi_http_request_duration_seconds_bucket{{{labels},le="0.01"}} 1"#),
        );
        assert_line(&text, &format!(r#"kos_taxi_http_request_duration_seconds_sum{{{labels}}} 0.007"#));
    }

    #[test]
    fn a_request_without_route_or_service_has_labels_from_a_closed_set() {
        let metrics = metrics();
        let handle = metrics.requests(None, None);
        handle.record(&Method::GET, StatusCode::NOT_FOUND, Duration::ZERO);
        assert_line(
            &metrics.encode(""),
            r#"http_requests_total{route="unmatched",service="",release="",method="GET",http_status="404"} 1"#,
        );
    }

    #[test]
    fn counts_survive_a_reload_and_removed_routes_go() {
        let (metrics, (route, service, release)) = (metrics(), api());
        let removed = RouteName::new("removed").unwrap();
        let before = (
            metrics.requests(Some(&route), Some((&service, &release))),
            metrics.requests(Some(&removed), Some((&service, &release))),
        );
        before.0.record(&Method::GET, StatusCode::OK, Duration::ZERO);
        before.1.record(&Method::GET, StatusCode::OK, Duration::ZERO);
        let after = metrics.requests(Some(&route), Some((&service, &release)));
        drop(before);
        after.record(&Method::GET, StatusCode::OK, Duration::ZERO);
        let last = metrics.encode("");
        assert!(last.contains("removed"), "{last}");
        let text = metrics.encode("");
        assert!(!text.contains("removed"), "{text}");
        assert_line(
            &text,
            r#"http_requests_total{route="api",service="shop",release="api-42",method="GET",http_status="200"} 2"#,
        );
    }

    #[test]
    fn a_failed_reload_is_seen_and_the_time_is_that_of_what_serves() {
        let metrics = metrics();
        assert_line(&metrics.encode(""), "config_last_reload_successful 1");
        metrics.note_reload(Reload::Failure, SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let text = metrics.encode("");
        assert_line(&text, "config_last_reload_successful 0");
        assert_line(&text, "config_last_reload_timestamp_seconds 1700000000");
        assert_line(&text, r#"config_reloads_total{result="failure"} 1"#);
        metrics.note_reload(Reload::Success, SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_001));
        let text = metrics.encode("");
        assert_line(&text, "config_last_reload_successful 1");
        assert_line(&text, "config_last_reload_timestamp_seconds 1800000001");
        assert_line(&text, r#"config_reloads_total{result="success"} 1"#);
    }

    #[test]
    fn every_promised_name_is_shown_once_its_handles_are_held() {
        let (metrics, (route, service, release)) = (metrics(), api());
        let listener = ListenerName::new("https").unwrap();
        let requests = metrics.requests(Some(&route), Some((&service, &release)));
        requests.record(&Method::GET, StatusCode::OK, Duration::ZERO);
        let _in_flight = metrics.in_flight(Some(&route)).enter();
        let of_release = metrics.release(&service, &release);
        of_release.set_weight("12.5%".parse().unwrap());
        of_release.attempts.count(Outcome::Answered(StatusCode::BAD_GATEWAY));
        metrics.endpoint_up(&service, &release, "10.0.0.1:80").set(1.0);
        metrics.retries(&service).count(Failure::Connect);
        let of_listener = metrics.listener(&listener);
        let _open = of_listener.connect();
        of_listener.handshakes.count(Handshake::Timeout);
        of_listener.bad_requests.count(BadRequest::Host);
        metrics.certificate_expiry(&listener, "shop.example").set(1_900_000_000.0);
        metrics.access_log_dropped().add(4);
        let of_mirror = metrics.mirror(&route, &service);
        let _on_its_way = of_mirror.in_flight.enter();
        of_mirror.results.count(Mirrored::Answered);
        let text = metrics.encode("");
        for line in [
            r#"http_requests_in_flight{route="api"} 1"#,
            r#"upstream_attempts_total{service="shop",release="api-42",outcome="status_5xx"} 1"#,
            r#"upstream_response_seconds_count{service="shop",release="api-42"} 0"#,
            r#"upstream_endpoint_up{service="shop",release="api-42",endpoint="10.0.0.1:80"} 1"#,
            r#"upstream_retries_total{service="shop",reason="connect"} 1"#,
            r#"split_weight{service="shop",release="api-42"} 12.5"#,
            r#"tls_certificate_expiry_timestamp_seconds{listener="https",name="shop.example"} 1900000000"#,
            r#"tls_handshakes_total{listener="https",result="timeout"} 1"#,
            r#"connections{listener="https"} 1"#,
            r#"bad_requests_total{listener="https",reason="host"} 1"#,
            "access_log_dropped_total 4",
            r#"mirror_requests_total{route="api",service="shop",result="answered"} 1"#,
            r#"mirror_requests_in_flight{route="api",service="shop"} 1"#,
            concat!(r#"build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
        ] {
            assert_line(&text, line);
        }
    }

    #[test]
    fn no_family_is_declared_twice() {
        let text = metrics().encode("");
        let mut names: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
