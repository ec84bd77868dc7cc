//! `services`: releases, how traffic is divided, and how origins are spoken to.

use std::collections::HashSet;

use indexmap::IndexMap;

use super::Meaning;
use super::origins::retry;
use crate::config::decode::{List, Map, Named};
use crate::config::leaf::Failure;
use crate::config::model::{Address, At, Balance, FailureSet, Plan, Release, Service, Traffic};
use crate::config::problem::{Code, Problem, list, nearest};
use crate::config::raw::service as raw;
use crate::name::{ReleaseName, ServiceName};
use crate::unit::Ratio;

/// Releases by name.
type Releases = IndexMap<ReleaseName, Release>;

impl Meaning<'_> {
    pub(super) fn services(&mut self, raw: Option<&Map<raw::Service>>) -> IndexMap<ServiceName, Service> {
        let mut services = IndexMap::new();
        for entry in raw.iter().flat_map(|raw| &raw.entries) {
            let service = entry.value.as_ref().and_then(|raw| self.service(entry, raw));
            if let (Some(name), Some(service)) = (self.name(ServiceName::new, &entry.name), service) {
                services.insert(name, service);
            }
        }
        services
    }

    fn service(&mut self, entry: &Named<raw::Service>, raw: &raw::Service) -> Option<Service> {
        let rollout = self.rollout(raw.rollout.as_ref().map(|rollout| &rollout.value));
        let plan = raw.rollout.as_ref().and_then(|rollout| self.plan(&rollout.value));
        let balance = raw.balance.unwrap_or(Balance::LeastRequests);
        let health = raw.health.as_ref().and_then(|health| self.health(health, raw));
        let eject = raw.eject.as_ref().map(|eject| self.eject(eject));
        let retry = retry(raw.retry.as_ref());
        let timeouts = self.timeouts(raw.timeouts.as_ref());
        let tls = raw.tls.as_ref().map(|tls| self.upstream_tls(&tls.value));
        let protocol = self.protocol(raw);
        let max_in_flight = raw.max_in_flight.as_deref().map(|limit| self.max_in_flight(limit));
        let releases = self.releases(entry, raw)?;
        let stable = self.stable(entry, raw, &releases);
        let traffic = self.traffic(entry, raw, plan, stable.as_ref(), &releases);
        let (stable, traffic) = (stable?, traffic?);
        Some(Service {
            releases,
            stable,
            traffic,
            rollout,
            balance,
            health,
            eject,
            retry,
            timeouts,
            protocol,
            tls,
            max_in_flight,
        })
    }

    fn releases(&mut self, entry: &Named<raw::Service>, raw: &raw::Service) -> Option<Releases> {
        let name = &entry.name;
        match (&raw.endpoints, &raw.releases) {
            (Some(endpoints), None) => {
                let roles = [&raw.stable, &raw.canary].into_iter().flatten().map(|role| role.span);
                if let Some(span) = roles.chain(raw.split.as_ref().map(|split| split.span)).next() {
                    let message = format!("the release of service `{}` has no name to refer to", name.value);
                    let help = "write `releases: { NAME: { endpoints: [ … ] } }` instead of `endpoints`";
                    self.error(Code::Conflict, message, span, help);
                    return None;
                }
                Some(IndexMap::from([(ReleaseName::unnamed(), self.release(endpoints))]))
            }
            (None, Some(releases)) => {
                Some(self.named_releases(releases)).filter(|releases| !releases.is_empty())
            }
            (Some(endpoints), Some(releases)) => {
                let message = format!("service `{}` has `endpoints` and `releases`", name.value);
                let problem =
                    Problem::error(Code::Conflict, message).at(endpoints.span, "endpoints of what?");
                self.problems
                    .push(problem.at(releases.span, "releases").help("endpoints stand within a release"));
                None
            }
            (None, None) => {
                if entry.sound {
                    let message = format!("service `{}` has no endpoints", name.value);
                    let help = "write `endpoints: [\"web:3000\"]`, or `releases` with names";
                    self.error(Code::MissingKey, message, name.span, help);
                }
                None
            }
        }
    }

    fn named_releases(&mut self, raw: &At<Map<raw::Release>>) -> Releases {
        if raw.value.entries.is_empty() {
            self.error(Code::MissingKey, "there is no release", raw.span, "a service has at least one");
        }
        let mut releases = IndexMap::new();
        for entry in &raw.value.entries {
            // A release whose endpoints could not be read keeps its name, so that nothing else is reported because of it.
            let release = entry.value.as_ref().map(|raw| self.release(&raw.endpoints));
            let release = release.unwrap_or(Release { endpoints: Vec::new() });
            if let Some(name) = self.name(ReleaseName::new, &entry.name) {
                releases.insert(name, release);
            }
        }
        releases
    }

    fn release(&mut self, endpoints: &List<At<Address>>) -> Release {
        if endpoints.is_empty() {
            self.error(
                Code::MissingKey,
                "there is no endpoint",
                endpoints.span,
                "for example [\"web:3000\"]",
            );
        }
        let mut seen = HashSet::new();
        for endpoint in &endpoints.items {
            if !seen.insert(&endpoint.value) {
                let message = format!("the endpoint `{}` is listed twice", endpoint.value);
                self.error(Code::Conflict, message, endpoint.span, "each counts once: leave this one out");
            }
        }
        Release { endpoints: endpoints.items.clone() }
    }

    fn stable(
        &mut self,
        entry: &Named<raw::Service>,
        raw: &raw::Service,
        releases: &Releases,
    ) -> Option<ReleaseName> {
        let name = &entry.name;
        if let Some(stable) = &raw.stable {
            return self.release_name(stable, releases);
        }
        match releases.len() {
            1 => releases.keys().next().cloned(),
            _ if !entry.sound => None,
            count => {
                let message =
                    format!("service `{}` has {count} releases and does not say which is stable", name.value);
                let declared = list(releases.keys().map(ReleaseName::as_str));
                self.error(
                    Code::MissingKey,
                    message,
                    name.span,
                    format!("add `stable:` with one of: {declared}"),
                );
                None
            }
        }
    }

    /// A release that is declared in the same service.
    fn release_name(&mut self, name: &At<String>, releases: &Releases) -> Option<ReleaseName> {
        if let Some((known, _)) = releases.get_key_value(name.value.as_str()) {
            return Some(known.clone());
        }
        let names = || releases.keys().map(ReleaseName::as_str);
        let near =
            nearest(&name.value, names()).map_or(String::new(), |near| format!("did you mean `{near}`? "));
        let problem =
            Problem::error(Code::UnknownRelease, format!("the release `{}` is not declared", name.value));
        let help = format!("{near}declared releases: {}", list(names()));
        self.problems.push(problem.at(name.span, "not declared").help(help));
        None
    }

    fn traffic(
        &mut self,
        entry: &Named<raw::Service>,
        raw: &raw::Service,
        plan: Option<Plan>,
        stable: Option<&ReleaseName>,
        releases: &Releases,
    ) -> Option<Traffic> {
        match (&raw.split, &raw.canary) {
            (None, None) => Some(Traffic::Stable { plan }),
            (Some(split), Some(canary)) => {
                let message = "`split` and `canary` exclude each other";
                let problem = Problem::error(Code::Conflict, message).at(split.span, "fixed shares");
                self.problems.push(problem.at(canary.span, "a canary").help("leave one of them out"));
                None
            }
            (Some(split), None) => self.split(split, raw, stable, releases),
            (None, Some(name)) => {
                let canary = self.release_name(name, releases);
                let canary = self.canary(name, canary?, stable?, releases);
                if entry.sound
                    && plan.is_none()
                    && !raw.rollout.as_ref().is_some_and(|rollout| rollout.value.has_plan())
                {
                    let help = "add `rollout: { weight: 10% }` or `rollout: { steps: [ … ] }`";
                    self.error(Code::MissingKey, "the canary has no share of the traffic", name.span, help);
                }
                Some(Traffic::Canary { canary, plan: plan? })
            }
        }
    }

    /// Checks that the canary is another release, on other endpoints.
    fn canary(
        &mut self,
        at: &At<String>,
        canary: ReleaseName,
        stable: &ReleaseName,
        releases: &Releases,
    ) -> ReleaseName {
        if canary == *stable {
            let message = format!("`{canary}` is stable and canary at once");
            self.error(Code::Conflict, message, at.span, "leave `canary` out: all traffic goes to stable");
            return canary;
        }
        let of_stable: HashSet<_> =
            releases[stable].endpoints.iter().map(|endpoint| &endpoint.value).collect();
        let shared: Vec<_> = releases[&canary]
            .endpoints
            .iter()
            .filter(|endpoint| of_stable.contains(&endpoint.value))
            .collect();
        for endpoint in shared {
            let message = format!("`{}` is an endpoint of stable and of the canary", endpoint.value);
            let help =
                "the two cannot be told apart there, and a rollback does not take users off the bad one";
            self.warning(Code::SharedEndpoint, message, endpoint.span, help);
        }
        canary
    }

    fn split(
        &mut self,
        split: &At<Map<u32>>,
        raw: &raw::Service,
        stable: Option<&ReleaseName>,
        releases: &Releases,
    ) -> Option<Traffic> {
        if raw.rollout.as_ref().is_some_and(|rollout| rollout.value.has_plan()) {
            let help = "shares stand in `split` alone: leave `rollout.weight` and `rollout.steps` out";
            self.error(Code::Conflict, "a split has no rollout plan", split.span, help);
        }
        let mut shares = Vec::new();
        for entry in &split.value.entries {
            let name = self.release_name(&entry.name, releases);
            shares.push((name?, entry.value?));
        }
        if shares.iter().all(|(_, share)| *share == 0) {
            self.error(
                Code::InvalidValue,
                "every share is 0",
                split.span,
                "give at least one release a share",
            );
        }
        let stable = stable?;
        if !shares.iter().any(|(name, _)| name == stable) {
            let message = format!("the stable release `{stable}` is not among the shares");
            self.error(
                Code::Conflict,
                message,
                split.span,
                format!("add `{stable}`, with 0 if it shall rest"),
            );
        }
        Some(Traffic::Split(shares))
    }
}

/// A percentage that stands in this source.
pub(super) fn percent(percent: f64) -> Ratio {
    Ratio::new(percent / 100.0).expect("written here, from 0 to 100")
}

pub(super) fn no_failures() -> FailureSet {
    FailureSet { connect: false, timeout: false, reset: false, server_errors: false, statuses: Vec::new() }
}

pub(super) fn failures(list: &[Failure]) -> FailureSet {
    let mut set = no_failures();
    for failure in list {
        match failure {
            Failure::Connect => set.connect = true,
            Failure::Timeout => set.timeout = true,
            Failure::Reset => set.reset = true,
            Failure::ServerErrors => set.server_errors = true,
            Failure::Status(status) if set.statuses.contains(status) => {}
            Failure::Status(status) => set.statuses.push(*status),
        }
    }
    set
}
