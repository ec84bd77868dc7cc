//! What a new configuration changes, and what it cannot change while the process runs.

use std::fmt;
use std::hash::Hash;

use indexmap::IndexMap;
use serde::Serialize;

use super::model::{Gateway, Listener};

/// One difference between two configurations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What changed: `route`, `service`, `rate_limit`, `listener`, or a key of the file such as `admin.listen`.
    pub what: &'static str,
    /// Its name, for what has one.
    pub name: Option<String>,
    /// What became of it.
    pub kind: ChangeKind,
    /// Whether only a new process can do it.
    pub needs_restart: bool,
}

/// What became of a part of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is another one.
    Changed,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)?;
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        match (self.needs_restart, self.kind) {
            (false, ChangeKind::Added) => f.write_str(" added"),
            (false, ChangeKind::Removed) => f.write_str(" removed"),
            (false, ChangeKind::Changed) => f.write_str(" changed"),
            (true, ChangeKind::Added) => f.write_str(": cannot be added without a restart"),
            (true, ChangeKind::Removed) => f.write_str(": cannot be removed without a restart"),
            (true, ChangeKind::Changed) if self.name.is_some() => {
                f.write_str(": address cannot change without a restart")
            }
            (true, ChangeKind::Changed) => f.write_str(": cannot change without a restart"),
        }
    }
}

/// Every difference from `old` to `new`; first what needs a restart, then the rest in the order of the file.
pub fn changes(old: &Gateway, new: &Gateway) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut fixed = |what, same: bool| changes.extend((!same).then(|| plain(what, true)));
    fixed("admin.listen", old.admin.listen == new.admin.listen);
    fixed("state.path", old.state_path == new.state_path);
    fixed("runtime.threads", old.runtime.threads == new.runtime.threads);
    listeners(&mut changes, old, new);
    let mut key = |what, same: bool| changes.extend((!same).then(|| plain(what, false)));
    key("admin.token", old.admin.token == new.admin.token);
    key("fleet", old.fleet == new.fleet);
    key("runtime.max_connections", old.runtime.max_connections == new.runtime.max_connections);
    key("runtime.drain", old.runtime.drain == new.runtime.drain);
    key("runtime.nameservers", old.runtime.nameservers == new.runtime.nameservers);
    key("metrics.namespace", old.metrics_namespace == new.metrics_namespace);
    key("access_log", old.access_log == new.access_log);
    key("request_id.header", old.request_id == new.request_id);
    key("client_ip.trusted_proxies", old.trusted_proxies == new.trusted_proxies);
    key("via", old.via == new.via);
    named(&mut changes, "service", &old.services, &new.services);
    named(&mut changes, "rate_limit", &old.rate_limits, &new.rate_limits);
    named(&mut changes, "route", &old.routes, &new.routes);
    changes.sort_by_key(|change| !change.needs_restart);
    changes
}

fn plain(what: &'static str, needs_restart: bool) -> Change {
    Change { what, name: None, kind: ChangeKind::Changed, needs_restart }
}

/// The sockets are those the process was started with, so listeners come, go and move with the process; all else about
/// them changes in place.
fn listeners(changes: &mut Vec<Change>, old: &Gateway, new: &Gateway) {
    let mut named_changes = Vec::new();
    named(&mut named_changes, "listener", &old.listeners, &new.listeners);
    for mut change in named_changes {
        let name = change.name.as_deref().unwrap_or_default();
        let address = |listener: Option<&Listener>| listener.map(|listener| listener.address.value);
        change.needs_restart = address(old.listeners.get(name)) != address(new.listeners.get(name));
        changes.push(change);
    }
}

fn named<N, T>(changes: &mut Vec<Change>, what: &'static str, old: &IndexMap<N, T>, new: &IndexMap<N, T>)
where
    N: Hash + Eq + fmt::Display,
    T: PartialEq,
{
    let mut add = |name: &N, kind| {
        changes.push(Change { what, name: Some(name.to_string()), kind, needs_restart: false });
    };
    for (name, value) in new {
        match old.get(name) {
            None => add(name, ChangeKind::Added),
            Some(before) if before != value => add(name, ChangeKind::Changed),
            Some(_) => {}
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        add(name, ChangeKind::Removed);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Process, load};

    const BASE: &str = r#"
version: 1
listeners: { http: { address: "127.0.0.1:8080" }, other: { address: "127.0.0.1:8081" } }
services: { web: { endpoints: ["web:3000"] } }
routes: { web: { service: web } }
"#;

    fn lines(old: &str, new: &str) -> Vec<String> {
        let gateway = |text: &str| {
            load("gateway.yaml", text, Path::new("/etc"), &Process).expect("a good file").gateway
        };
        changes(&gateway(old), &gateway(new)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn comments_and_order_change_nothing() {
        let moved = format!("# moved\n{}", BASE.replace("version: 1\n", "")) + "version: 1\n";
        assert_eq!(lines(BASE, &moved), Vec::<String>::new());
    }

    #[test]
    fn services_and_routes_come_and_go_in_place() {
        let new = BASE
            .replace("web: { endpoints", "api: { endpoints: [\"api:1\"] }, web: { balance: hash, endpoints")
            .replace("routes: { web:", "routes: { api: { match: { prefix: /api }, service: api }, home:");
        let expected = [
            "service api added",
            "service web changed",
            "route api added",
            "route home added",
            "route web removed",
        ];
        assert_eq!(lines(BASE, &new), expected);
    }

    #[test]
    fn sockets_state_and_threads_need_a_restart() {
        let new = BASE
            .replace(
                "http: { address: \"127.0.0.1:8080\"",
                "http: { proxy_protocol: false, address: \"127.0.0.1:8082\"",
            )
            .replace("other", "another")
            + "admin: { listen: \"127.0.0.1:9902\" }\nstate: { path: s }\nruntime: { threads: 2, max_connections: 9, drain: 5s, nameservers: 10.0.0.2 }\n";
        let expected = [
            "admin.listen: cannot change without a restart",
            "state.path: cannot change without a restart",
            "runtime.threads: cannot change without a restart",
            "listener http: address cannot change without a restart",
            "listener another: cannot be added without a restart",
            "listener other: cannot be removed without a restart",
            "runtime.max_connections changed",
            "runtime.drain changed",
            "runtime.nameservers changed",
        ];
        assert_eq!(lines(BASE, &new), expected);
    }

    #[test]
    fn what_one_client_may_take_changes_in_place() {
        let new = BASE.replace("\"127.0.0.1:8080\"", "\"127.0.0.1:8080\", limits: { header: 5s }");
        assert_eq!(lines(BASE, &new), ["listener http changed"]);
    }
}
