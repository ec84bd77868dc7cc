//! `services.*.health`: what is asked has to be said once, and has to fit what the service speaks.

use std::time::Duration;

use miette::SourceSpan;

use super::Meaning;
use crate::config::decode::OneOrMany;
use crate::config::leaf::StatusRange;
use crate::config::model::{Address, At, Check, Health, Protocol, Readiness, StatusSet};
use crate::config::problem::{Code, Problem};
use crate::config::raw::health as raw;
use crate::config::raw::service::Service;

impl Meaning<'_> {
    /// Gives nothing when it cannot be said what is asked.
    pub(super) fn health(&mut self, raw: &At<raw::Health>, service: &Service) -> Option<Health> {
        let At { value: raw, span } = raw;
        let interval = self.period(raw.interval.as_ref(), Duration::from_secs(5));
        let timeout = self.period(raw.timeout.as_ref(), Duration::from_secs(1).min(interval));
        if let Some(at) = raw.timeout.as_ref().filter(|_| timeout > interval) {
            let help = "the next check would begin before this one ends";
            self.error(Code::Conflict, "`timeout` is longer than `interval`", at.span, help);
        }
        let unhealthy_after = self.count(raw.unhealthy_after.as_ref(), 3);
        let healthy_after = self.count(raw.healthy_after.as_ref(), 2);
        let host = raw.host.as_ref().map(|host| self.authority(host));
        self.check_port(raw, service);
        Some(Health {
            check: self.check(raw, *span, service)?,
            host,
            port: raw.port.as_ref().map(|port| port.value.0),
            interval,
            timeout,
            unhealthy_after,
            healthy_after,
            readiness: raw.readiness.unwrap_or(Readiness::Ignored),
        })
    }

    fn check(&mut self, raw: &raw::Health, span: SourceSpan, service: &Service) -> Option<Check> {
        let path = raw.path.as_ref().map(|at| (at.span, "an HTTP check"));
        let tcp = raw.tcp.as_ref().map(|at| (at.span, "a TCP check"));
        let grpc = raw.grpc.as_ref().map(|at| (at.span, "a gRPC check"));
        let asked: Vec<_> = [path, tcp, grpc].into_iter().flatten().collect();
        if let [first, second, ..] = asked[..] {
            let problem = Problem::error(Code::Conflict, "an endpoint is checked in one way")
                .at(first.0, first.1)
                .at(second.0, second.1);
            self.problems.push(problem.help("leave all but one out"));
            return None;
        }
        let statuses = self.statuses(raw.status.as_ref());
        self.check_fits(raw);
        match (&raw.path, &raw.tcp, &raw.grpc) {
            (Some(path), ..) => {
                path.value.as_ref().map(|path| Check::Http { path: path.0.clone(), status: statuses })
            }
            (None, Some(_), _) => Some(Check::Tcp),
            (None, None, Some(grpc)) => {
                self.speaks_http2(grpc.span, service);
                let name = grpc.value.as_ref().and_then(|grpc| grpc.service.clone());
                Some(Check::Grpc { service: name.unwrap_or_default() })
            }
            (None, None, None) => {
                let help = "add `path: /ready` (HTTP), `tcp: {}` or `grpc: {}`";
                self.error(Code::MissingKey, "`health` does not say what is asked", span, help);
                None
            }
        }
    }

    fn statuses(&mut self, raw: Option<&At<OneOrMany<StatusRange>>>) -> StatusSet {
        let Some(At { value, span }) = raw else { return StatusSet::default() };
        if value.as_slice().is_empty() {
            let help = "leave the key out for 2xx";
            self.error(Code::InvalidValue, "no answer would be healthy", *span, help);
        }
        StatusSet(value.as_slice().iter().map(|range| range.0.clone()).collect())
    }

    /// Keys that say something about an answer that the check does not have.
    fn check_fits(&mut self, raw: &raw::Health) {
        let other = match (&raw.tcp, &raw.grpc) {
            (Some(tcp), _) => Some((tcp.span, "a TCP check")),
            (None, Some(grpc)) => Some((grpc.span, "a gRPC check")),
            (None, None) => None,
        };
        let Some((at, what)) = other else { return };
        let status = raw.status.as_ref().map(|status| (status.span, "`status`", "looks at no HTTP status"));
        let host = raw.host.as_ref().filter(|_| raw.tcp.is_some());
        let host = host.map(|host| (host.span, "`host`", "names no host"));
        for (span, key, reason) in [status, host].into_iter().flatten() {
            let message = format!("{what} {reason}");
            let problem = Problem::error(Code::Conflict, message).at(span, "never looked at").at(at, what);
            self.problems.push(problem.help(format!("leave {key} out, or check with `path`")));
        }
    }

    fn speaks_http2(&mut self, grpc: SourceSpan, service: &Service) {
        let help = "write `protocol: h2c` (in the clear), or `protocol: h2` with `tls`";
        match &service.protocol {
            Some(At { value: Protocol::H2 | Protocol::H2c, .. }) => {}
            None => self.error(Code::Conflict, "gRPC is not spoken over HTTP/1.1", grpc, help),
            Some(protocol) => {
                let problem = Problem::error(Code::Conflict, "gRPC is not spoken over HTTP/1.1")
                    .at(protocol.span, "HTTP/1.1")
                    .at(grpc, "a gRPC check");
                self.problems.push(problem.help(help));
            }
        }
    }

    /// A port is for endpoints that have one.
    fn check_port(&mut self, raw: &raw::Health, service: &Service) {
        let Some(port) = &raw.port else { return };
        let releases = service.releases.iter().flat_map(|releases| releases.value.iter());
        let lists = service.endpoints.iter().chain(releases.map(|(_, release)| &release.endpoints));
        let unix = |at: &&At<Address>| matches!(at.value, Address::Unix(_));
        if let Some(endpoint) = lists.flat_map(|list| &list.items).find(unix) {
            let problem = Problem::error(Code::Conflict, "a unix socket has no other port")
                .at(port.span, "a port")
                .at(endpoint.span, "a unix socket");
            self.problems.push(problem.help("leave `port` out: the endpoint itself is checked"));
        }
    }
}
