//! The configuration as written: one struct for each mapping of the file, one field for each key.
//!
//! What stands here is the grammar. Field docs are the descriptions in the JSON Schema, and name the default of each key
//! that may be left out. Defaults are filled in, and keys checked against one another, in `meaning`.

pub(crate) mod health;
pub(crate) mod listener;
pub(crate) mod route;
pub(crate) mod service;
pub(crate) mod value;

use super::decode::{Map, OneOrMany, Problems, mapping};
use super::document::Node;
use super::leaf::{Cidr, FieldName, FilePath, NameServer, Period};
use super::model::{At, Socket};
use super::problem::{Code, Problem};
use listener::Listener;
use route::{RateLimit, Route};
use service::Service;
use value::{AccessLogFormat, AccessLogPath, MaxConnections, Threads};

/// Reports the keys of the file that have to be there. They are optional for the reader, so that a file without them is
/// still checked to its end.
pub(crate) fn check_required(root: &Node, problems: &mut Problems) {
    for key in ["version", "listeners"] {
        if !root.entries().iter().any(|entry| entry.key == key) {
            let problem = Problem::error(Code::MissingKey, format!("the key `{key}` is missing"));
            problems.push(problem.at(root.span, format!("needs `{key}`")));
        }
    }
}

mapping! {
    /// Configuration of the gateway.
    pub(crate) struct File {
        /// The version of this grammar: 1.
        #[schemars(required)]
        version: Option<At<u32>>,
        /// The admin listener: health, metrics, dashboard and API.
        admin: Option<Admin>,
        /// Where rollouts and switches are remembered.
        state: Option<State>,
        /// Several gateways act as one. Default: each alone.
        fleet: Option<Fleet>,
        /// Threads, connections, name servers and the end of the process.
        runtime: Option<Runtime>,
        /// How metrics are named.
        metrics: Option<Metrics>,
        /// Where requests are logged.
        access_log: Option<AccessLog>,
        /// The header that carries the request id.
        request_id: Option<RequestId>,
        /// Whose word about the client's address is taken.
        client_ip: Option<ClientIp>,
        /// Whether `Via` is added in both directions. Default: true.
        via: Option<bool>,
        /// Where connections are accepted, by name; at least one.
        #[schemars(required)]
        listeners: Option<At<Map<Listener>>>,
        /// Applications with their releases, by name.
        services: Option<Map<Service>>,
        /// Rate limits that routes refer to, by name.
        rate_limits: Option<Map<RateLimit>>,
        /// What goes where, by name. Order never matters: the most specific match wins.
        routes: Option<Map<Route>>,
    }

    /// The admin listener.
    pub(crate) struct Admin {
        /// IP address and port, or `unix:` and a path. Default: 127.0.0.1:9901.
        listen: Option<At<Socket>>,
        /// Asked for by calls that change something. Required unless `listen` is loopback or a unix socket.
        token: Option<At<String>>,
    }

    /// Where rollouts and switches are remembered.
    pub(crate) struct State {
        /// A directory; made when absent. Default: ./state.
        path: Option<FilePath>,
    }

    /// The store several gateways share.
    pub(crate) struct Fleet {
        /// URL of a Redis or Valkey server.
        redis: At<String>,
    }

    /// Threads, connections, name servers and the end of the process.
    pub(crate) struct Runtime {
        /// Worker threads; `auto` is one for each processor this process may use. Default: auto.
        threads: Option<Threads>,
        /// Connections of clients at a time; more are closed at once. `auto` is as many as the limit of open files
        /// holds when all are busy; a number may count on idle ones. Default: auto.
        max_connections: Option<At<MaxConnections>>,
        /// How long requests in flight may take after a SIGTERM. Default: 30s.
        drain: Option<Period>,
        /// Asked for the host names of endpoints. Default: those of the system.
        nameservers: Option<OneOrMany<NameServer>>,
    }

    /// How metrics are named.
    pub(crate) struct Metrics {
        /// Prefix of every metric name, joined with `_`. Default: none.
        namespace: Option<At<String>>,
    }

    /// Where requests are logged.
    pub(crate) struct AccessLog {
        /// `stdout`, `off` or a file. Default: stdout.
        path: Option<AccessLogPath>,
        /// The only format is `json`: one object a line.
        format: Option<AccessLogFormat>,
    }

    /// The header that carries the request id.
    pub(crate) struct RequestId {
        /// Taken from trusted proxies, else minted; forwarded, returned and logged. Default: x-request-id.
        header: Option<FieldName>,
    }

    /// Whose word about the client's address is taken.
    pub(crate) struct ClientIp {
        /// Proxies whose X-Forwarded-For, Forwarded and PROXY headers are believed. Default: none.
        trusted_proxies: Option<OneOrMany<At<Cidr>>>,
    }
}
