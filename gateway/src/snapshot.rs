//! A configuration arranged for serving: every look-up a request needs, built once and never changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gateway_core::client_ip::TrustedProxies;
use gateway_core::config::model::{self, Gateway};
use gateway_core::config::problem::{Code, Problem};
use gateway_core::config::report::Report;
use gateway_core::name::{LimitName, ListenerName, RouteName, ServiceName};
use gateway_core::route::table::Table;
use indexmap::IndexMap;

use crate::files;
use crate::limits::registry::Place;
use crate::listener::Listener;
use crate::listener::client_certificate::Reserved;
use crate::listener::tls::{self, Certificate, Tickets};
use crate::load::Loaded;
use crate::proxy::mirror::Mirror;
use crate::proxy::policy::access::Access;
use crate::proxy::policy::basic_auth::BasicAuth;
use crate::proxy::policy::cors::Cors;
use crate::proxy::policy::maintenance::Maintenance;
use crate::proxy::policy::max_in_flight::MaxInFlight;
use crate::proxy::policy::rate_limits::{Limit, RateLimits};
use crate::proxy::respond::Answer;
use crate::proxy::shape::headers::Headers;
use crate::proxy::shape::rewrite::Rewrite;
use crate::telemetry::instruments::{Gauge, Occupancy};
use crate::telemetry::metrics::RequestMetrics;
use crate::upstream::peer::{PeerTemplate, UpstreamTls};
use crate::upstream::{Materials, Release, Service};

/// A configuration as served.
pub(crate) struct Snapshot {
    /// Counts publications of this process, from 1.
    pub(crate) revision: u64,
    pub(crate) loaded_at: SystemTime,
    pub(crate) model: Gateway,
    /// As written, secrets redacted; JSON.
    pub(crate) shown: String,
    pub(crate) warnings: Report,
    /// Files whose change is a reason to load again.
    pub(crate) files: Vec<std::path::PathBuf>,
    /// Of their contents.
    pub(crate) fingerprint: u64,
    pub(crate) listeners: HashMap<ListenerName, Arc<Listener>>,
    pub(crate) certificates: Vec<ServedCertificate>,
    pub(crate) services: IndexMap<ServiceName, Arc<Service>>,
    pub(crate) routes: Table<Arc<Route>>,
    pub(crate) trusted: TrustedProxies,
    /// Fields in which certificates of clients are told.
    pub(crate) reserved: Reserved,
    /// Clients that may be connected at a time, on all listeners.
    pub(crate) max_connections: u32,
    /// Where requests that no route matched are counted.
    pub(crate) unmatched: Arc<RequestMetrics>,
}

/// A certificate and where it is shown.
pub(crate) struct ServedCertificate {
    pub(crate) listener: ListenerName,
    pub(crate) certificate: Arc<Certificate>,
    pub(crate) path: std::path::PathBuf,
    _expiry: Arc<Gauge>,
}

/// A route as served.
pub(crate) struct Route {
    pub(crate) name: RouteName,
    pub(crate) action: Action,
    /// In bytes.
    pub(crate) body_limit: u64,
    /// Likewise.
    pub(crate) buffer_request: Option<u64>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) maintenance: Maintenance,
    pub(crate) access: Access,
    pub(crate) rate_limits: RateLimits,
    pub(crate) basic_auth: Option<Box<BasicAuth>>,
    pub(crate) max_in_flight: Option<Box<MaxInFlight>>,
    pub(crate) cors: Option<Box<Cors>>,
    pub(crate) rewrite: Option<Box<Rewrite>>,
    pub(crate) headers: Option<Box<Headers>>,
    pub(crate) mirror: Option<Arc<Mirror>>,
    pub(crate) compress: bool,
    pub(crate) in_flight: Arc<Occupancy>,
    /// One for each release of the service, by its index.
    metrics: Vec<Arc<RequestMetrics>>,
    /// For requests that never got as far as a release.
    pub(crate) own_metrics: Arc<RequestMetrics>,
}

/// What is done with a request.
pub(crate) enum Action {
    /// Send it to a service.
    Forward(Arc<Service>),
    /// Answer it: `redirect` or `respond`.
    Answer(Answer),
}

impl Action {
    /// Where it is sent, if it is.
    pub(crate) fn service(&self) -> Option<&Service> {
        match self {
            Self::Forward(service) => Some(service),
            Self::Answer(_) => None,
        }
    }
}

impl Route {
    pub(crate) fn metrics_for(&self, release: &Release) -> &Arc<RequestMetrics> {
        self.metrics.get(release.index).unwrap_or(&self.own_metrics)
    }
}

impl Snapshot {
    /// The services without which the gateway is not ready.
    pub(crate) fn required(&self) -> impl Iterator<Item = &Arc<Service>> {
        let health = |service: &Service| service.definition.health.as_ref().map(|health| health.readiness);
        self.services.values().filter(move |service| health(service) == Some(model::Readiness::Required))
    }

    /// Arranges a loaded configuration; what outlives reloads is taken up by name.
    ///
    /// # Errors
    /// A report when TLS cannot be set up from files that were read well.
    pub(crate) fn compile(
        revision: u64,
        loaded: Loaded,
        materials: &Materials<'_>,
        tickets: &Tickets,
    ) -> Result<Self, Report> {
        let gateway = &loaded.gateway;
        let (listeners, certificates) = listeners(&loaded, materials, tickets)?;
        let services: IndexMap<ServiceName, Arc<Service>> = gateway
            .services
            .iter()
            .map(|(name, service)| {
                let template = template(name, service, &loaded)?;
                Ok((name.clone(), Arc::new(Service::new(name, service, template, materials))))
            })
            .collect::<Result<_, Report>>()?;
        let routes = Table::new(gateway.routes.iter().filter_map(|(name, route)| {
            Some((
                name.clone(),
                &route.matches,
                Arc::new(Route::new(name, route, &loaded, &services, materials)?),
            ))
        }));
        Ok(Self {
            revision,
            loaded_at: SystemTime::now(),
            listeners,
            certificates,
            services,
            routes,
            trusted: TrustedProxies::new(&gateway.trusted_proxies),
            reserved: reserved(gateway),
            max_connections: files::SHARES.max_connections(&gateway.runtime),
            unmatched: materials.metrics.requests(None, None),
            model: loaded.gateway,
            shown: loaded.shown,
            warnings: loaded.warnings,
            files: loaded.files,
            fingerprint: loaded.fingerprint,
        })
    }
}

impl Route {
    /// `None` only for a route to a service that does not exist, which the model rules out.
    fn new(
        name: &RouteName,
        route: &model::Route,
        loaded: &Loaded,
        services: &IndexMap<ServiceName, Arc<Service>>,
        materials: &Materials<'_>,
    ) -> Option<Self> {
        let metrics = materials.metrics;
        let action = match &route.action {
            model::Action::Forward(service) => Action::Forward(services.get(service)?.clone()),
            model::Action::Redirect { to, status } => Action::Answer(Answer::redirect(*status, to)),
            model::Action::Respond { status, headers, body } => {
                Action::Answer(Answer::respond(*status, headers, body))
            }
        };
        Some(Self {
            name: name.clone(),
            body_limit: route.body_limit.0,
            buffer_request: route.buffer_request.map(|size| size.0),
            timeout: route.timeout,
            maintenance: maintenance(name, route, loaded, materials),
            access: Access::new(route),
            rate_limits: rate_limits(route, &loaded.gateway, materials),
            basic_auth: route.basic_auth.as_ref().map(|auth| basic_auth(name, auth, loaded, materials)),
            max_in_flight: route
                .max_in_flight
                .map(|limit| MaxInFlight::new(&Place::Route(name.clone()), &limit, materials)),
            cors: route.cors.as_ref().map(Cors::new),
            rewrite: Rewrite::new(&route.rewrite),
            headers: Headers::new(route),
            mirror: route.mirror.as_ref().and_then(|mirror| Mirror::new(name, mirror, services, materials)),
            compress: route.compress,
            in_flight: metrics.in_flight(Some(name)),
            metrics: action
                .service()
                .iter()
                .flat_map(|service| service.releases.iter().map(|release| (&service.name, &release.name)))
                .map(|served_by| metrics.requests(Some(name), Some(served_by)))
                .collect(),
            own_metrics: metrics.requests(Some(name), None),
            action,
        })
    }
}

/// The maintenance of a route; its switch stands as it was left.
fn maintenance(
    name: &RouteName,
    route: &model::Route,
    loaded: &Loaded,
    materials: &Materials<'_>,
) -> Maintenance {
    let page = route.maintenance.as_ref().and_then(|maintenance| maintenance.page.as_ref());
    let page = page.and_then(|page| loaded.material.page(page));
    Maintenance::new(route, materials.maintenance.switch(name, materials.metrics), page)
}

/// The rate limits of a route; their buckets are those of the last configuration where nothing has changed.
fn rate_limits(route: &model::Route, gateway: &Gateway, materials: &Materials<'_>) -> RateLimits {
    let limit = |name: &LimitName| {
        let definition = gateway.rate_limits.get(name)?;
        let limiter = materials.limits.limiter(name, definition);
        Some(Limit::new(name, definition, limiter, materials.metrics.rate_limit(name)))
    };
    RateLimits::new(route.limits.iter().filter_map(limit).collect())
}

/// Name and password of a route: the users that the configuration names, and those of its file.
fn basic_auth(
    name: &RouteName,
    auth: &model::BasicAuth,
    loaded: &Loaded,
    materials: &Materials<'_>,
) -> Box<BasicAuth> {
    let listed = auth.users_file.as_ref().map_or(&[][..], |file| loaded.material.users(file));
    let named = auth.users.iter().chain(listed.iter().map(|(name, hash)| (name, hash)));
    BasicAuth::new(&auth.realm, named, materials.passwords, materials.metrics.auth(name))
}

fn template(name: &ServiceName, service: &model::Service, loaded: &Loaded) -> Result<PeerTemplate, Report> {
    let tls = service.tls.as_ref().map(|tls| {
        let ca = tls.ca.as_ref().and_then(|ca| loaded.material.upstream_roots(ca));
        let client = tls.client_cert.as_ref().and_then(|pair| loaded.material.client_key(pair));
        UpstreamTls::new(service.protocol, tls.sni.clone(), ca, client)
    });
    let tls = tls.transpose().map_err(|reason| {
        let mut report = loaded.warnings.clone();
        report.push(Problem::error(Code::File, format!("service `{name}` cannot use TLS: {reason}")));
        report
    })?;
    Ok(PeerTemplate { timeouts: service.timeouts.clone(), protocol: service.protocol, tls })
}

type Listeners = (HashMap<ListenerName, Arc<Listener>>, Vec<ServedCertificate>);

fn listeners(loaded: &Loaded, materials: &Materials<'_>, tickets: &Tickets) -> Result<Listeners, Report> {
    let gateway = &loaded.gateway;
    let https = gateway.listeners.values().find(|listener| listener.tls.is_some());
    let https_port = https.map(|listener| listener.address.value.port());
    let (mut listeners, mut served) = (HashMap::new(), Vec::new());
    for (name, listener) in &gateway.listeners {
        let tls = match &listener.tls {
            Some(tls) => Some(secure(name, tls, listener, loaded, tickets)?),
            None => None,
        };
        for (pair, certificate) in certificates(listener, loaded) {
            let expiry = materials.metrics.certificate_expiry(name, &certificate.label());
            expiry.set(certificate.not_after as f64);
            let path = pair.cert.value.clone();
            served.push(ServedCertificate { listener: name.clone(), certificate, path, _expiry: expiry });
        }
        let built = Listener {
            address: listener.address.value,
            tls,
            client_headers: listener
                .tls
                .as_ref()
                .map_or_else(Default::default, |tls| tls.client_headers.clone()),
            redirect_port: https_port.filter(|_| listener.redirect_https),
            proxy_protocol: listener.proxy_protocol,
            limits: listener.limits.clone(),
            metrics: materials.metrics.listener(name),
        };
        listeners.insert(name.clone(), Arc::new(built));
    }
    Ok((listeners, served))
}

/// On every listener nobody but the gateway writes them, also where none asks for certificates.
fn reserved(gateway: &Gateway) -> Reserved {
    let tls = gateway.listeners.values().filter_map(|listener| listener.tls.as_ref());
    Reserved::new(tls.flat_map(|tls| tls.client_headers.names()))
}

fn certificates<'a>(
    listener: &'a model::Listener,
    loaded: &Loaded,
) -> Vec<(&'a model::Certificate, Arc<Certificate>)> {
    let Some(tls) = &listener.tls else { return Vec::new() };
    tls.certificates.iter().zip(loaded.material.certificates(tls)).collect()
}

fn secure(
    name: &ListenerName,
    tls: &model::Tls,
    listener: &model::Listener,
    loaded: &Loaded,
    tickets: &Tickets,
) -> Result<Arc<rustls::ServerConfig>, Report> {
    let certificates = loaded.material.certificates(tls);
    let roots = tls.client_auth.as_ref().and_then(|auth| loaded.material.client_roots(auth));
    let built = tickets
        .of(name, tls.client_auth.as_ref(), roots.as_deref())
        .and_then(|tickets| tls::server_config(tls, &certificates, roots, tickets));
    built.map_err(|reason| {
        let problem = Problem::error(Code::File, format!("listener `{name}` cannot speak TLS: {reason}"));
        let mut report = loaded.warnings.clone();
        report.push(problem.at(listener.address.span, "this listener"));
        report
    })
}
