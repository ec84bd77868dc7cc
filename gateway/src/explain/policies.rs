//! What a route does to requests beside sending them somewhere, in words.

use gateway_core::config::model::{Action, Gateway, HeaderEdits, MaxInFlight, PathRewrite, Route};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

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
    ("body_limit", body_limit),
    ("max_in_flight", max_in_flight),
];

/// Every policy that changes something on the way; likewise.
const SHAPED: &[(&str, Describe)] = &[
    ("rewrite", rewrite),
    ("headers.request", request_headers),
    ("security_headers", security_headers),
    ("headers.response", response_headers),
];

/// The policies a route has, its service's among them, in the order they act.
pub(crate) fn of(route: &Route, gateway: &Gateway) -> Vec<Policy> {
    let present = |(name, describe): &(&str, Describe)| {
        Some(Policy { name: (*name).to_owned(), does: describe(route)? })
    };
    let asked = ASKED.iter().filter_map(present);
    let shaped = SHAPED.iter().filter_map(present);
    asked.chain(of_service(route, gateway)).chain(shaped).collect()
}

fn of_service(route: &Route, gateway: &Gateway) -> Option<Policy> {
    let Action::Forward(name) = &route.action else { return None };
    let limit = gateway.services.get(name)?.max_in_flight?;
    let does = format!("over all routes to {name}, {}", at_a_time(limit));
    Some(Policy { name: "max_in_flight".to_owned(), does })
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

fn body_limit(route: &Route) -> Option<String> {
    Some(format!("a request body of at most {}, else 413", route.body_limit))
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

fn rewrite(route: &Route) -> Option<String> {
    let path = route.rewrite.path.as_ref().map(|path| match path {
        PathRewrite::StripPrefix(prefix) => format!("{prefix} is taken off the path"),
        PathRewrite::ReplacePrefix(prefix) => format!("{prefix} takes the place of the matched prefix"),
    });
    let host = route.rewrite.host.as_ref().map(|host| format!("Host becomes {host}"));
    let parts: Vec<String> = path.into_iter().chain(host).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
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

fn edits(edits: &HeaderEdits) -> Option<String> {
    let remove = edits.remove.iter().map(|name| format!("removes {name}"));
    let set = edits.set.iter().map(|(name, _)| format!("sets {name}"));
    let add = edits.add.iter().map(|(name, _)| format!("adds {name}"));
    let parts: Vec<String> = remove.chain(set).chain(add).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
