//! Host names of endpoints: looked up before they are needed, and again when their records expire.
//!
//! A request never waits for DNS. A name that fails to resolve keeps its last good addresses; one that never resolved has
//! none, and its release answers 503 until it does.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use gateway_core::config::model::{Address, Gateway};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;

use super::peer::Target;
use crate::runtime::Runtime;

/// A lookup that takes longer has failed.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// The bounds put on what records say; a hosts file says "for ever".
const SHORTEST_TTL: Duration = Duration::from_secs(1);
const LONGEST_TTL: Duration = Duration::from_secs(60);

/// When a lookup that failed is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// What the names of endpoints resolve to.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: ArcSwap<HashMap<String, Resolution>>,
}

#[derive(Debug, Clone)]
struct Resolution {
    /// Empty when the name never resolved.
    addresses: BTreeSet<IpAddr>,
    due: Instant,
    /// Who was asked.
    servers: Vec<SocketAddr>,
}

impl Names {
    /// The places an address stands for, each with the name it was found under.
    pub(crate) fn targets<'a>(&self, address: &'a Address) -> Vec<(Target, Option<&'a str>)> {
        match address {
            Address::Ip(address) => vec![(Target::Ip(*address), None)],
            Address::Unix(path) => vec![(Target::Unix(Arc::from(Path::new(path))), None)],
            Address::Name { host, port } => {
                let known = self.known.load();
                let addresses = known.get(host).map(|found| found.addresses.clone()).unwrap_or_default();
                let target = |ip| (Target::Ip(SocketAddr::new(ip, *port)), Some(host.as_str()));
                addresses.into_iter().map(target).collect()
            }
        }
    }

    /// Looks up the names of a configuration that are not known yet, or only from other name servers; takes
    /// [`LOOKUP_TIMEOUT`] at most.
    pub(crate) async fn learn(&self, gateway: &Gateway) {
        let known = self.known.load_full();
        let servers = &gateway.runtime.nameservers;
        let is_new = |host: &String| known.get(host).is_none_or(|found| found.servers != *servers);
        self.look_up(hosts(gateway).into_iter().filter(is_new).collect(), servers).await;
    }

    /// Looks up `hosts` and gives those whose addresses have changed.
    async fn look_up(&self, hosts: Vec<String>, servers: &[SocketAddr]) -> Vec<String> {
        let found = join_all(hosts.iter().map(|host| addresses(host, servers))).await;
        let mut known = HashMap::clone(&self.known.load());
        let mut changed = Vec::new();
        for (host, result) in hosts.into_iter().zip(found) {
            let before = known.get(&host).map(|known| known.addresses.clone());
            let resolution = match result {
                Ok(resolution) => resolution,
                Err(reason) => {
                    tracing::warn!(host, reason, "name does not resolve; keeping what is known of it");
                    let addresses = before.clone().unwrap_or_default();
                    Resolution { addresses, due: Instant::now() + RETRY, servers: servers.to_vec() }
                }
            };
            if before.is_some_and(|before| before != resolution.addresses) {
                changed.push(host.clone());
            }
            known.insert(host, resolution);
        }
        self.known.store(Arc::new(known));
        changed
    }

    /// The names that are due, and when the next one is.
    fn due(&self, hosts: &BTreeSet<String>) -> (Vec<String>, Option<Instant>) {
        let (known, now) = (self.known.load(), Instant::now());
        let is_due = |host: &&String| known.get(*host).is_none_or(|found| found.due <= now);
        let next = hosts.iter().filter_map(|host| known.get(host)).map(|found| found.due).min();
        (hosts.iter().filter(is_due).cloned().collect(), next)
    }

    fn forget_all_but(&self, hosts: &BTreeSet<String>) {
        let known = self.known.load();
        if known.keys().any(|host| !hosts.contains(host)) {
            let kept = known.iter().filter(|(host, _)| hosts.contains(*host));
            self.known.store(Arc::new(kept.map(|(host, found)| (host.clone(), found.clone())).collect()));
        }
    }
}

/// Keeps the names of whatever configuration is served resolved; never returns.
pub(crate) async fn keep_resolving(runtime: Arc<Runtime>) {
    loop {
        let snapshot = runtime.snapshot();
        let hosts = hosts(&snapshot.model);
        runtime.names.forget_all_but(&hosts);
        let (due, next) = runtime.names.due(&hosts);
        if !due.is_empty() {
            let changed = runtime.names.look_up(due, &snapshot.model.runtime.nameservers).await;
            runtime.refresh_endpoints(&changed);
            continue;
        }
        drop(snapshot);
        let pause = next.map_or(LONGEST_TTL, |next| next.saturating_duration_since(Instant::now()));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = runtime.published() => {}
        }
    }
}

/// The host names among a configuration's endpoints.
pub(crate) fn hosts(gateway: &Gateway) -> BTreeSet<String> {
    let releases = gateway.services.values().flat_map(|service| service.releases.values());
    releases
        .flat_map(|release| &release.endpoints)
        .filter_map(|address| match &address.value {
            Address::Name { host, .. } => Some(host.clone()),
            Address::Ip(_) | Address::Unix(_) => None,
        })
        .collect()
}

/// Looks up one name now; `servers` as in the configuration.
///
/// # Errors
/// Why it does not resolve.
pub(crate) async fn check(host: &str, servers: &[SocketAddr]) -> Result<(), String> {
    addresses(host, servers).await.map(drop)
}

async fn addresses(host: &str, servers: &[SocketAddr]) -> Result<Resolution, String> {
    let resolver = resolver(servers).map_err(|error| error.to_string())?;
    let lookup = tokio::time::timeout(LOOKUP_TIMEOUT, resolver.lookup_ip(host));
    let found =
        lookup.await.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
    let ttl = found.valid_until().saturating_duration_since(Instant::now());
    let due = Instant::now() + ttl.clamp(SHORTEST_TTL, LONGEST_TTL);
    Ok(Resolution { addresses: found.iter().collect(), due, servers: servers.to_vec() })
}

/// Without servers of its own it asks the system's, whose configuration is read each time, so that a change of resolv.conf
/// or hosts is seen.
fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = servers.iter().map(name_server).collect();
        let config = ResolverConfig::from_name_servers(servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build()
}

/// UDP, and TCP for what does not fit.
fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    connections.iter_mut().for_each(|connection| connection.port = address.port());
    NameServerConfig::new(address.ip(), true, connections)
}
