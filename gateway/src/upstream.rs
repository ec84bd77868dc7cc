//! Services as one configuration has them, and the endpoints behind them.

pub(crate) mod budget;
pub(crate) mod peer;
pub(crate) mod registry;
pub(crate) mod resolve;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway_core::client_ip::TrustedProxies;
use gateway_core::config::model::{self, Address, Balance, Plan, Retry, Sticky, Traffic};
use gateway_core::endpoint::{Choice, EndpointState, InFlight, Pool, Tried};
use gateway_core::name::{ReleaseName, ServiceName};
use gateway_core::outcome::Failure;
use gateway_core::split::{Assignment, Split, Standing, Wish};
use gateway_core::unit::Weight;
use http::{HeaderMap, HeaderName};
use pingora::upstreams::peer::HttpPeer;

use self::budget::Budget;
use self::peer::{PeerTemplate, Target};
use self::registry::Registry;
use self::resolve::Names;
use crate::telemetry::instruments::{CounterBy, Gauge};
use crate::telemetry::metrics::{Metrics, ReleaseMetrics};

/// How long a tunnel (WebSocket) may be silent.
pub(crate) const TUNNEL_IDLE: Duration = Duration::from_secs(3600);

/// One application, with its releases.
pub(crate) struct Service {
    pub(crate) name: ServiceName,
    pub(crate) releases: Vec<Arc<Release>>,
    pub(crate) split: Split,
    pub(crate) sticky: Sticky,
    overrides: Option<Overrides>,
    pub(crate) retry: Retry,
    pub(crate) template: PeerTemplate,
    pub(crate) budget: Arc<Budget>,
    pub(crate) retries: Arc<CounterBy<Failure>>,
}

/// The header that chooses a release, and who may send it.
struct Overrides {
    header: HeaderName,
    from: TrustedProxies,
}

/// One deployed version of a service.
pub(crate) struct Release {
    /// Position among the service's releases, as the split counts them.
    pub(crate) index: usize,
    pub(crate) name: ReleaseName,
    pub(crate) metrics: ReleaseMetrics,
    addresses: Vec<Address>,
    choice: Choice,
    template: PeerTemplate,
    members: ArcSwap<Members>,
}

/// The endpoints of a release, names resolved, at one time.
pub(crate) struct Members {
    pool: Pool,
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
}

/// One address of a release.
pub(crate) struct Endpoint {
    /// As shown in metrics, logs and `/v1/services`.
    pub(crate) label: Arc<str>,
    pub(crate) peer: HttpPeer,
    pub(crate) state: Arc<EndpointState>,
    _up: Arc<Gauge>,
}

/// What a service is built from beside its definition.
pub(crate) struct Materials<'a> {
    pub(crate) metrics: &'a Metrics,
    pub(crate) registry: &'a Registry,
    pub(crate) names: &'a Names,
}

impl Service {
    /// Builds a service; state of endpoints and budgets goes on where it was.
    pub(crate) fn new(
        name: &ServiceName,
        service: &model::Service,
        template: PeerTemplate,
        materials: &Materials<'_>,
    ) -> Self {
        let (order, split) = divide(name, service);
        let releases = order
            .iter()
            .enumerate()
            .filter_map(|(index, release)| {
                let definition = service.releases.get(release)?;
                let built =
                    Release::new(name, release, index, definition, service.balance, &template, materials);
                built.metrics.set_weight(share(release, service));
                Some(Arc::new(built))
            })
            .collect();
        let overrides = service.rollout.overrides.as_ref();
        Self {
            name: name.clone(),
            releases,
            split,
            sticky: service.rollout.sticky.clone(),
            overrides: overrides.map(|overrides| Overrides {
                header: overrides.header.clone(),
                from: TrustedProxies::new(&overrides.from),
            }),
            retry: service.retry.clone(),
            template,
            budget: materials.registry.budget(name, service.retry.budget),
            retries: materials.metrics.retries(name),
        }
    }

    /// What the client asks for itself, if it may.
    pub(crate) fn wish(&self, headers: &HeaderMap, client_ip: IpAddr) -> Option<Wish> {
        let overrides = self.overrides.as_ref()?;
        let wish = Wish::parse(headers.get(&overrides.header)?.as_bytes())?;
        overrides.from.contains(client_ip).then_some(wish)
    }

    /// The release a request belongs to, and why; `ticket` is drawn for requests without a key.
    pub(crate) fn assign(
        &self,
        key: Option<&str>,
        ticket: u64,
        wish: Option<Wish>,
    ) -> (&Arc<Release>, Assignment) {
        let standing = Standing { wish, ..Standing::default() };
        let assignment = self.split.assign(standing, key.map(str::as_bytes), ticket);
        (&self.releases[assignment.release], assignment)
    }
}

/// The releases, those that take part in the split first and stable before all, and the split.
///
/// Releases that are only declared stay out of the hash: taking one away must move nobody.
fn divide(name: &ServiceName, service: &model::Service) -> (Vec<ReleaseName>, Split) {
    let takes_part = |release: &ReleaseName| match &service.traffic {
        Traffic::Stable => false,
        Traffic::Canary { canary, .. } => canary == release,
        Traffic::Split(shares) => shares.iter().any(|(name, _)| name == release),
    };
    let others = service.releases.keys().filter(|release| **release != service.stable);
    let (mut order, idle): (Vec<_>, Vec<_>) = others.cloned().partition(takes_part);
    order.insert(0, service.stable.clone());
    let parts: Vec<(ReleaseName, u32)> =
        order.iter().map(|release| (release.clone(), share(release, service).ppm())).collect();
    let split = Split::new(name, &parts, 0).expect("the model's shares are not all zero and few");
    order.extend(idle);
    (order, split)
}

/// A release's part of its service's traffic, as the file says it.
pub(crate) fn share(release: &ReleaseName, service: &model::Service) -> Weight {
    let percent = |part: f64| Weight::from_percent(part * 100.0).unwrap_or(Weight::ZERO);
    let canary_weight = |plan: &Plan| match plan {
        Plan::Fixed(weight) => *weight,
        Plan::Steps(steps) => steps.first().map_or(Weight::ZERO, |step| step.weight),
    };
    match &service.traffic {
        Traffic::Canary { canary, plan } if canary == release => canary_weight(plan),
        Traffic::Canary { plan, .. } if service.stable == *release => {
            percent(1.0 - canary_weight(plan).percent() / 100.0)
        }
        Traffic::Split(shares) => {
            let total: f64 = shares.iter().map(|(_, share)| f64::from(*share)).sum();
            let own = shares.iter().find(|(name, _)| name == release).map_or(0, |(_, share)| *share);
            percent(f64::from(own) / total)
        }
        Traffic::Stable if service.stable == *release => Weight::FULL,
        Traffic::Stable | Traffic::Canary { .. } => Weight::ZERO,
    }
}

impl Release {
    fn new(
        service: &ServiceName,
        name: &ReleaseName,
        index: usize,
        release: &model::Release,
        balance: Balance,
        template: &PeerTemplate,
        materials: &Materials<'_>,
    ) -> Self {
        let choice = match balance {
            Balance::RoundRobin => Choice::RoundRobin,
            Balance::LeastRequests => Choice::LeastRequests,
            Balance::Hash => Choice::Hash,
        };
        let built = Self {
            index,
            name: name.clone(),
            metrics: materials.metrics.release(service, name),
            addresses: release.endpoints.iter().map(|address| address.value.clone()).collect(),
            choice,
            template: template.clone(),
            members: ArcSwap::from_pointee(Members { pool: Pool::new(choice, []), endpoints: Vec::new() }),
        };
        built.refresh(service, materials);
        built
    }

    /// Takes up what names resolve to now.
    pub(crate) fn refresh(&self, service: &ServiceName, materials: &Materials<'_>) {
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::new();
        for address in &self.addresses {
            for (target, host) in materials.names.targets(address) {
                if let Some(endpoint) = self.endpoint(service, &target, host, materials)
                    && !endpoints.iter().any(|known| known.label == endpoint.label)
                {
                    endpoints.push(Arc::new(endpoint));
                }
            }
        }
        let members = endpoints.iter().map(|endpoint| (&*endpoint.label, endpoint.state.clone()));
        let pool = Pool::new(self.choice, members);
        self.members.store(Arc::new(Members { pool, endpoints }));
    }

    fn endpoint(
        &self,
        service: &ServiceName,
        target: &Target,
        host: Option<&str>,
        materials: &Materials<'_>,
    ) -> Option<Endpoint> {
        let label = target.to_string();
        let peer = match self.template.peer(target, host) {
            Ok(peer) => peer,
            Err(error) => {
                tracing::error!(%service, release = %self.name, endpoint = label, %error, "endpoint cannot be used");
                return None;
            }
        };
        let up = materials.metrics.endpoint_up(service, &self.name, &label);
        up.set(1.0);
        let state = materials.registry.endpoint(service, &self.name, &label);
        Some(Endpoint { label: label.into(), peer, state, _up: up })
    }

    /// Whether one of its endpoints is written as this name.
    pub(crate) fn names_host(&self, name: &str) -> bool {
        self.addresses.iter().any(|address| matches!(address, Address::Name { host, .. } if host == name))
    }

    /// The endpoints of the moment.
    pub(crate) fn members(&self) -> Arc<Members> {
        self.members.load_full()
    }

    /// An endpoint for the next attempt, counted as busy until the guard goes; nothing only when there is none.
    pub(crate) fn pick(&self, tried: &mut Tried, key: Option<&[u8]>) -> Option<(Arc<Endpoint>, InFlight)> {
        let members = self.members.load();
        let index = members.pool.pick(tried, key, fastrand::u64(..))?;
        let endpoint = members.endpoints[index].clone();
        let in_flight = endpoint.state.begin();
        Some((endpoint, in_flight))
    }
}
