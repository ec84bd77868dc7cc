//! Services as one configuration has them, and the endpoints behind them.

pub(crate) mod aside;
pub(crate) mod budget;
pub(crate) mod ejection;
pub(crate) mod origin;
pub(crate) mod peer;
pub(crate) mod pool;
pub(crate) mod registry;
pub(crate) mod resolve;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway_core::config::model::{self, Address};
use gateway_core::endpoint::{Choice, EndpointState, InFlight, Pool, Tried};
use gateway_core::name::{ReleaseName, ServiceName};
use gateway_core::outcome::Failure;
use gateway_core::rollout::{Rollout, Stage, State};
use gateway_core::split::{Reason, Wish};
use parking_lot::Mutex;
use pingora::upstreams::peer::HttpPeer;

use self::budget::Budgets;
use self::peer::{PeerTemplate, Target};
use self::registry::{Registry, Standing};
use self::resolve::Names;
use crate::limits::registry::{Limits, Place};
use crate::maintenance::Switchboard;
use crate::passwords::Passwords;
use crate::proxy::policy::max_in_flight::MaxInFlight;
use crate::rollouts::Rollouts;
use crate::rollouts::division::{Division, Overrides};
use crate::rollouts::retirement::Retirement;
use crate::rollouts::supervisor::Supervisor;
use crate::rollouts::tally::Tally;
use crate::telemetry::instruments::{CounterBy, Gauge, OneOf};
use crate::telemetry::metrics::{Metrics, ReleaseMetrics, RolloutMetrics};

/// How long a tunnel (WebSocket) may be silent.
pub(crate) const TUNNEL_IDLE: Duration = Duration::from_secs(3600);

/// One application, with its releases.
pub(crate) struct Service {
    pub(crate) name: ServiceName,
    /// As configured.
    pub(crate) definition: model::Service,
    pub(crate) releases: Vec<Arc<Release>>,
    pub(crate) overrides: Option<Overrides>,
    pub(crate) template: PeerTemplate,
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) max_in_flight: Option<Box<MaxInFlight>>,
    pub(crate) retries: Arc<CounterBy<Failure>>,
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) rollouts: RolloutMetrics,
    /// Held while it is decided whether an endpoint is put aside.
    pub(crate) ejecting: Arc<Mutex<()>>,
    division: ArcSwap<Division>,
}

/// One deployed version of a service.
pub(crate) struct Release {
    /// Position among the service's releases.
    pub(crate) index: usize,
    pub(crate) name: ReleaseName,
    pub(crate) metrics: ReleaseMetrics,
    /// Where attempts on randomised traffic are counted.
    pub(crate) tally: Arc<Tally>,
    /// Whether it was rolled back, for what still runs on it.
    pub(crate) retirement: Arc<Retirement>,
    /// The rollout that tries it; there is none for the only release of a service.
    rollout: Option<Arc<OneOf<State>>>,
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
    /// Its connections.
    pub(crate) pool: Arc<pool::Pool>,
    pub(crate) state: Arc<EndpointState>,
    /// Where its active checks go, if it has any.
    pub(crate) checked_at: Option<Box<CheckedAt>>,
    pub(crate) standing: Arc<Standing>,
    up: Arc<Gauge>,
}

/// Where an endpoint is checked.
pub(crate) struct CheckedAt {
    pub(crate) peer: HttpPeer,
    /// As `Host` or `:authority` has it.
    pub(crate) authority: String,
}

/// What a service is built from beside its definition.
pub(crate) struct Materials<'a> {
    pub(crate) metrics: &'a Metrics,
    pub(crate) passwords: &'a Arc<Passwords>,
    pub(crate) registry: &'a Registry,
    pub(crate) limits: &'a Limits,
    pub(crate) names: &'a Names,
    pub(crate) rollouts: &'a Rollouts,
    pub(crate) maintenance: &'a Switchboard,
}

impl Service {
    /// Builds a service; state of endpoints, budgets and rollouts goes on where it was.
    pub(crate) fn new(
        name: &ServiceName,
        definition: &model::Service,
        template: PeerTemplate,
        materials: &Materials<'_>,
    ) -> Self {
        let supervisor = materials.rollouts.of(name);
        let tried = definition.releases.len() > 1;
        let releases: Vec<Arc<Release>> = definition
            .releases
            .iter()
            .enumerate()
            .map(|(index, (release, declared))| {
                let addresses = declared.endpoints.iter().map(|address| address.value.clone()).collect();
                let built = Release {
                    index,
                    name: release.clone(),
                    metrics: materials.metrics.release(name, release),
                    tally: supervisor.tally(release),
                    retirement: supervisor.retirement(release),
                    rollout: tried.then(|| materials.metrics.rollout_state(name, release)),
                    addresses,
                    choice: definition.balance,
                    template: template.clone(),
                    members: ArcSwap::from_pointee(Members::none(definition.balance)),
                };
                built.refresh(name, definition.health.as_ref(), materials);
                Arc::new(built)
            })
            .collect();
        let index = |wanted: &ReleaseName| releases.iter().position(|release| release.name == *wanted);
        let division = Division::new(name, definition, &[], false, index);
        Self {
            name: name.clone(),
            overrides: definition.rollout.overrides.as_ref().map(Overrides::new),
            template,
            budgets: materials.registry.budgets(name, definition),
            max_in_flight: definition
                .max_in_flight
                .map(|limit| MaxInFlight::new(&Place::Service(name.clone()), &limit, materials)),
            retries: materials.metrics.retries(name),
            rollouts: materials.metrics.rollouts(name),
            ejecting: materials.registry.ejecting.clone(),
            supervisor,
            division: ArcSwap::from_pointee(division),
            releases,
            definition: definition.clone(),
        }
    }

    /// The release a request belongs to, and why; `ticket` is drawn for requests without a key.
    pub(crate) fn assign(
        &self,
        key: Option<&str>,
        ticket: u64,
        wish: Option<Wish>,
    ) -> (&Arc<Release>, Reason) {
        let assigned = self.division.load().assign(key.map(str::as_bytes), ticket, wish);
        (&self.releases[assigned.release], assigned.reason)
    }

    /// The release that takes what the others do not.
    pub(crate) fn stable(&self) -> &Arc<Release> {
        &self.releases[self.division.load().stable()]
    }

    /// The shares of the moment.
    pub(crate) fn division(&self) -> Arc<Division> {
        self.division.load_full()
    }

    /// From the next request on traffic is divided like this.
    pub(crate) fn set_division(&self, division: Division) {
        for release in &self.releases {
            release.metrics.set_weight(division.weight(release.index));
        }
        self.division.store(Arc::new(division));
    }

    /// Shows where rollouts are.
    pub(crate) fn show(&self, rollouts: &[Rollout]) {
        for release in &self.releases {
            let trying = rollouts.iter().find(|rollout| rollout.canary() == Some(&release.name));
            let latched = rollouts.iter().any(|rollout| rollout.is_rolled_back(&release.name));
            let otherwise = if latched { State::RolledBack } else { State::Idle };
            if let Some(shown) = &release.rollout {
                shown.set(trying.map_or(otherwise, Rollout::state));
            }
        }
        let step = rollouts.iter().find_map(|rollout| rollout.state().stage());
        self.rollouts.set_step(step.map(Stage::step));
    }

    pub(crate) fn index_of(&self, name: &ReleaseName) -> Option<usize> {
        self.releases.iter().position(|release| release.name == *name)
    }

    /// Whether a release that takes requests has an endpoint that may be used.
    pub(crate) fn is_up(&self) -> bool {
        let division = self.division.load();
        let serving = |release: &&Arc<Release>| division.weight(release.index).percent() > 0.0;
        self.releases.iter().filter(serving).any(|release| release.members.load().pool.has_available())
    }

    /// Whether a release has an endpoint that waits for its first check.
    pub(crate) fn is_waiting(&self, name: &ReleaseName) -> bool {
        self.releases.iter().any(|release| release.name == *name && release.members.load().pool.has_waiting())
    }

    /// Whether a release has an endpoint that may be used.
    pub(crate) fn is_ready(&self, name: &ReleaseName) -> bool {
        self.releases
            .iter()
            .any(|release| release.name == *name && release.members.load().pool.has_available())
    }
}

impl Endpoint {
    /// Shows in the metrics whether requests are sent to it.
    pub(crate) fn show(&self) {
        self.up.set(f64::from(u8::from(self.state.is_available())));
    }
}

impl Members {
    fn none(choice: Choice) -> Self {
        Self { pool: Pool::new(choice, []), endpoints: Vec::new() }
    }
}

impl Release {
    /// Takes up what names resolve to now. New endpoints wait for their first check if there is one.
    pub(crate) fn refresh(
        &self,
        service: &ServiceName,
        health: Option<&model::Health>,
        materials: &Materials<'_>,
    ) {
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::new();
        for address in &self.addresses {
            for (target, host) in materials.names.targets(address) {
                if let Some(endpoint) = self.endpoint(service, health, &target, host, materials)
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
        health: Option<&model::Health>,
        target: &Target,
        host: Option<&str>,
        materials: &Materials<'_>,
    ) -> Option<Endpoint> {
        let label = target.to_string();
        let checked_at = health.map(|health| self.checked_at(health, target, host)).transpose();
        let pool = self.template.pool(target, host, materials.registry);
        let (peer, pool, checked_at) = match self
            .template
            .peer(target, host)
            .and_then(|peer| Ok((peer, pool?, checked_at?)))
        {
            Ok(places) => places,
            Err(error) => {
                tracing::error!(%service, release = %self.name, endpoint = label, %error, "endpoint cannot be used");
                return None;
            }
        };
        let up = materials.metrics.endpoint_up(service, &self.name, &label);
        let standing = materials.registry.endpoint(service, &self.name, &label, health.is_some());
        let state = standing.state.clone();
        let endpoint = Endpoint { label: label.into(), peer, pool, state, checked_at, standing, up };
        endpoint.show();
        Some(endpoint)
    }

    fn checked_at(
        &self,
        health: &model::Health,
        target: &Target,
        host: Option<&str>,
    ) -> pingora::Result<Box<CheckedAt>> {
        let target = target.at_port(health.port);
        let authority = health.host.clone().unwrap_or_else(|| self.template.authority(&target, host));
        Ok(Box::new(CheckedAt { peer: self.template.peer(&target, host)?, authority }))
    }

    /// Whether one of its endpoints is written as this name.
    pub(crate) fn names_host(&self, name: &str) -> bool {
        self.addresses.iter().any(|address| matches!(address, Address::Name { host, .. } if host == name))
    }

    /// Closes the connections that nothing runs on, and keeps none that is out.
    pub(crate) fn drop_idle(&self) {
        for endpoint in &self.members.load().endpoints {
            endpoint.pool.clear();
        }
    }

    /// The endpoints of the moment.
    pub(crate) fn members(&self) -> Arc<Members> {
        self.members.load_full()
    }

    /// An endpoint for the next attempt, counted as busy until the guard goes; nothing only when there is none.
    ///
    /// `hash` goes by the user's key, else by the client's address.
    pub(crate) fn pick(
        &self,
        tried: &mut Tried,
        key: Option<&str>,
        client: IpAddr,
    ) -> Option<(Arc<Endpoint>, InFlight)> {
        let members = self.members.load();
        let mut draw = |key: Option<&[u8]>| members.pool.pick(tried, key, fastrand::u64(..));
        let index = match (self.choice, key) {
            (Choice::Hash, Some(key)) => draw(Some(key.as_bytes())),
            (Choice::Hash, None) => draw(Some(&octets(client))),
            _ => draw(None),
        }?;
        let endpoint = members.endpoints[index].clone();
        let in_flight = endpoint.state.begin();
        Some((endpoint, in_flight))
    }

    /// The same for a request that goes beside the traffic; `None` also when no endpoint is available.
    pub(crate) fn pick_aside(&self, key: Option<&str>) -> Option<(Arc<Endpoint>, InFlight)> {
        let members = self.members.load();
        let index = members.pool.pick_aside(key.map(str::as_bytes), fastrand::u64(..))?;
        let endpoint = members.endpoints[index].clone();
        let in_flight = endpoint.state.begin();
        Some((endpoint, in_flight))
    }
}

/// An address as bytes, IPv4 mapped into IPv6.
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}
