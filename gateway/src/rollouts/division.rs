//! How a service's traffic is divided at one moment: what its rollouts say, made ready for a request to look up.

use std::net::IpAddr;

use gateway_core::client_ip::TrustedProxies;
use gateway_core::config::model::{self, Traffic};
use gateway_core::name::{ReleaseName, ServiceName};
use gateway_core::rollout::{Rollout, State};
use gateway_core::split::{Assignment, Split, Standing, Wish};
use gateway_core::unit::Weight;
use http::{HeaderMap, HeaderName};

/// The shares of the moment. Replaced as a whole whenever one of them changes.
#[derive(Debug)]
pub(crate) struct Division {
    split: Split,
    standing: Standing,
    /// From the split's parts to the service's releases; stable is the first.
    releases: Vec<usize>,
    /// The parts in percent, in the same order.
    weights: Vec<Weight>,
}

impl Division {
    /// Divides a service's traffic as its rollouts say; `index` finds a release by its name.
    ///
    /// Releases that are only declared stay out of the hash: taking one away must move nobody.
    pub(crate) fn new(
        service: &ServiceName,
        definition: &model::Service,
        rollouts: &[Rollout],
        killed: bool,
        index: impl Fn(&ReleaseName) -> Option<usize>,
    ) -> Self {
        let parts = parts(definition, rollouts);
        // Who has nothing yet keeps its place in the hash all the same, so that nobody moves when it begins.
        let is_out = |release: &ReleaseName| {
            rollouts.iter().any(|rollout| {
                let waits = rollout.canary() == Some(release) && rollout.state() == State::Pending;
                waits || rollout.is_rolled_back(release)
            })
        };
        let out = parts.iter().enumerate().skip(1).filter(|(_, (release, _))| is_out(release));
        let rolled_back = out.fold(0, |bits, (part, _)| bits | 1 << part);
        let shares: Vec<(ReleaseName, u32)> =
            parts.iter().map(|(release, weight)| (release.clone(), weight.ppm())).collect();
        // A configuration that is being replaced may not know the releases of the next one: its stable serves for them.
        let home = index(&parts[0].0).or_else(|| index(&definition.stable)).unwrap_or(0);
        let split = Split::new(service, &shares, 0).expect("the shares of a service add up to the whole");
        Self {
            split,
            standing: Standing { killed, rolled_back, ..Standing::default() },
            releases: parts.iter().map(|(release, _)| index(release).unwrap_or(home)).collect(),
            weights: parts.iter().map(|(_, weight)| *weight).collect(),
        }
    }

    /// The release a request belongs to, as an index of the service's releases, and why.
    pub(crate) fn assign(&self, key: Option<&[u8]>, ticket: u64, wish: Option<Wish>) -> Assignment {
        let assigned = self.split.assign(Standing { wish, ..self.standing }, key, ticket);
        Assignment { release: self.releases[assigned.release], ..assigned }
    }

    /// The release that takes what the others do not.
    pub(crate) fn stable(&self) -> usize {
        self.releases[0]
    }

    /// A release's share of the moment; nothing while everything is switched to stable, or while it is rolled back.
    pub(crate) fn weight(&self, release: usize) -> Weight {
        let Some(part) = self.releases.iter().position(|known| *known == release) else {
            return Weight::ZERO;
        };
        let out =
            |part: usize| part > 0 && (self.standing.killed || self.standing.rolled_back >> part & 1 == 1);
        if part > 0 {
            return if out(part) { Weight::ZERO } else { self.weights[part] };
        }
        let rest: u32 =
            (1..self.weights.len()).filter(|part| !out(*part)).map(|part| self.weights[part].ppm()).sum();
        Weight::from_percent(f64::from(Weight::FULL.ppm() - rest) / 10_000.0).unwrap_or(Weight::FULL)
    }
}

/// Releases with their shares, stable first; the shares add up to the whole.
fn parts(definition: &model::Service, rollouts: &[Rollout]) -> Vec<(ReleaseName, Weight)> {
    if let (Traffic::Split(shares), Some(first)) = (&definition.traffic, rollouts.first())
        && *first.stable() == definition.stable
    {
        return fixed(&definition.stable, shares, rollouts);
    }
    let Some(rollout) = rollouts.first() else { return vec![(definition.stable.clone(), Weight::FULL)] };
    let weight = rollout.weight();
    let rest = Weight::from_percent(100.0 - weight.percent()).unwrap_or(Weight::ZERO);
    let mut parts = vec![(rollout.stable().clone(), rest)];
    parts.extend(rollout.canary().map(|canary| (canary.clone(), weight)));
    parts
}

/// The shares of the file; a weight set by hand stands above them.
fn fixed(
    stable: &ReleaseName,
    shares: &[(ReleaseName, u32)],
    rollouts: &[Rollout],
) -> Vec<(ReleaseName, Weight)> {
    let total: u32 = shares.iter().map(|(_, share)| share).sum();
    let percent = |share: u32| 100.0 * f64::from(share) / f64::from(total.max(1));
    let running = |release: &ReleaseName| {
        let rollout = rollouts.iter().find(|rollout| rollout.canary() == Some(release))?;
        rollout.state().stage().map(|_| rollout.weight())
    };
    let written = |share: u32| Weight::from_percent(percent(share)).ok();
    let mut others: Vec<(ReleaseName, Weight)> = shares
        .iter()
        .filter(|(release, _)| release != stable)
        .filter_map(|(release, share)| Some((release.clone(), running(release).or_else(|| written(*share))?)))
        .collect();
    let taken: u32 = others.iter().map(|(_, weight)| weight.ppm()).sum();
    let rest = f64::from(Weight::FULL.ppm().saturating_sub(taken)) / 10_000.0;
    others.insert(0, (stable.clone(), Weight::from_percent(rest).unwrap_or(Weight::ZERO)));
    others
}

/// The header by which a client chooses a release, and who may send it.
#[derive(Debug)]
pub(crate) struct Overrides {
    header: HeaderName,
    from: TrustedProxies,
}

impl Overrides {
    pub(crate) fn new(overrides: &model::Override) -> Self {
        Self { header: overrides.header.clone(), from: TrustedProxies::new(&overrides.from) }
    }

    /// What the client asks for, if it may.
    pub(crate) fn wish(&self, headers: &HeaderMap, client_ip: IpAddr) -> Option<Wish> {
        let wish = Wish::parse(headers.get(&self.header)?.as_bytes())?;
        self.from.contains(client_ip).then_some(wish)
    }
}
