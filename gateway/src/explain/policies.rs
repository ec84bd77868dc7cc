//! What a route does to requests beside sending them somewhere, in words.

use std::time::UNIX_EPOCH;

use gateway_core::config::model::{Action, Gateway, HeaderEdits, MaxInFlight, Mirror, PathRewrite, Route};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::maintenance::Standing;
use crate::telemetry::rfc3339::Rfc3339;

/// One policy of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Policy {
    /// Its key in the file.
    pub(crate) name: String,
    /// What it does, in a few words.
    pub(crate) does: String,
}

/// Says what a policy does on a route that has it.
type Describe = fn(&Route) -> Option<String>;

/// Every policy that asks something of a request, in the order they act; a new one is a line here and a function below.
const ASKED: &[(&str, Describe)] = &[
    ("allow", allow),
    ("deny", deny),
    ("cors", cors),
    ("limits", limits),
    ("basic_auth", basic_auth),
    ("body_limit", body_limit),
    ("buffer_request", buffer_request),
    ("max_in_flight", max_in_flight),
];

/// What bounds a request on its way, and every policy that changes something there; likewise.
const SHAPED: &[(&str, Describe)] = &[
    ("timeout", timeout),
    ("rewrite", rewrite),
    ("headers.request", request_headers),
    ("mirror", mirror),
    ("security_headers", security_headers),
    ("headers.response", response_headers),
    ("compress", compress),
];

/// The policies a route has, its service's among them, in the order they act. The first is maintenance, as it stands at
/// the moment.
pub(crate) fn of(route: &Route, gateway: &Gateway, standing: &Standing) -> Vec<Policy> {
    let policy = |name: &str, does| Policy { name: name.to_owned(), does };
    let maintenance = maintenance(route, standing).map(|does| policy("maintenance", does));
    let present = |(name, describe): &(&str, Describe)| Some(policy(name, describe(route)?));
    let asked = maintenance.into_iter().chain(ASKED.iter().filter_map(present));
    asked.chain(of_service(route, gateway)).chain(SHAPED.iter().filter_map(present)).collect()
}

fn of_service(route: &Route, gateway: &Gateway) -> Option<Policy> {
    let Action::Forward(name) = &route.action else { return None };
    let limit = gateway.services.get(name)?.max_in_flight?;
    let does = format!("over all routes to {name}, {}", at_a_time(limit));
    Some(Policy { name: "max_in_flight".to_owned(), does })
}

/// Nothing for a route that has none and was not switched by hand.
fn maintenance(route: &Route, standing: &Standing) -> Option<String> {
    let said = route.maintenance.as_ref();
    if said.is_none() && standing.thrown.is_none() {
        return None;
    }
    let who = match standing.thrown {
        None => "as the file says".to_owned(),
        Some(thrown) => match thrown.until {
            None => "switched by hand".to_owned(),
            Some(until) => format!("switched by hand until {}", Rfc3339(UNIX_EPOCH + until)),
        },
    };
    if !standing.is_on() {
        return Some(format!("off, {who}"));
    }
    let status = said.map_or(503, |said| said.status.as_u16());
    let but = said.filter(|said| !said.allow.is_empty());
    let but = but.map_or(String::new(), |said| format!(" but clients in {}", list(&said.allow)));
    Some(format!("on, {who}: everybody{but} gets {status}"))
}

fn allow(route: &Route) -> Option<String> {
    (!route.allow.is_empty()).then(|| format!("clients in {}, else 403", list(&route.allow)))
}

fn deny(route: &Route) -> Option<String> {
    (!route.deny.is_empty()).then(|| format!("not clients in {}, else 403", list(&route.deny)))
}

fn list(networks: &[IpNet]) -> String {
    networks.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", ")
}

fn limits(route: &Route) -> Option<String> {
    let names: Vec<&str> = route.limits.iter().map(|name| name.as_str()).collect();
    (!names.is_empty()).then(|| format!("rate limits {}, else 429", names.join(", then ")))
}

fn cors(route: &Route) -> Option<String> {
    let cors = route.cors.as_ref()?;
    let cookies = if cors.credentials { ", with cookies" } else { "" };
    Some(format!("pages of {} may read{cookies}; preflights are answered here", cors.origins.join(", ")))
}

fn basic_auth(route: &Route) -> Option<String> {
    let auth = route.basic_auth.as_ref()?;
    let named = (!auth.users.is_empty()).then(|| auth.users.keys().cloned().collect::<Vec<_>>().join(", "));
    let listed = auth.users_file.as_ref().map(|file| format!("those in {}", file.value.display()));
    let users: Vec<String> = named.into_iter().chain(listed).collect();
    Some(format!("name and password for {:?} of {}, else 401", auth.realm, users.join(" and ")))
}

fn body_limit(route: &Route) -> Option<String> {
    Some(format!("a request body of at most {}, else 413", route.body_limit))
}

fn buffer_request(route: &Route) -> Option<String> {
    let size = route.buffer_request?;
    Some(format!("a body of up to {size} is read whole before the service is asked"))
}

fn max_in_flight(route: &Route) -> Option<String> {
    route.max_in_flight.map(at_a_time)
}

fn at_a_time(MaxInFlight { requests, queue, wait }: MaxInFlight) -> String {
    match queue {
        0 => format!("{requests} requests at a time, else 503"),
        _ => format!("{requests} requests at a time, {queue} wait up to {wait:?}, else 503"),
    }
}

fn timeout(route: &Route) -> Option<String> {
    route
        .timeout
        .map(|timeout| format!("the answer ends within {timeout:?} of the request's header, else 504"))
}

fn rewrite(route: &Route) -> Option<String> {
    let path = route.rewrite.path.as_ref().map(|path| match path {
        PathRewrite::StripPrefix(prefix) => format!("{prefix} is taken off the path"),
        PathRewrite::ReplacePrefix(prefix) => format!("{prefix} takes the place of the matched prefix"),
    });
    let host = route.rewrite.host.as_ref().map(|host| format!("Host becomes {host}"));
    let parts: Vec<String> = path.into_iter().chain(host).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn mirror(route: &Route) -> Option<String> {
    let Mirror { service, share, body_limit } = route.mirror.as_ref()?;
    Some(format!("{share} of requests with a body of at most {body_limit} are copied to {service}"))
}

fn request_headers(route: &Route) -> Option<String> {
    edits(&route.request_headers)
}

fn response_headers(route: &Route) -> Option<String> {
    edits(&route.response_headers)
}

fn security_headers(route: &Route) -> Option<String> {
    route.security_headers.then(|| "answers get the security fields they lack".to_owned())
}

fn compress(route: &Route) -> Option<String> {
    route.compress.then(|| "answers go out as zstd, br or gzip to clients that accept it".to_owned())
}

fn edits(edits: &HeaderEdits) -> Option<String> {
    let remove = edits.remove.iter().map(|name| format!("removes {name}"));
    let set = edits.set.iter().map(|(name, _)| format!("sets {name}"));
    let add = edits.add.iter().map(|(name, _)| format!("adds {name}"));
    let parts: Vec<String> = remove.chain(set).chain(add).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
