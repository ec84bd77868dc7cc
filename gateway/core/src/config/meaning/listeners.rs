//! `listeners`.

use std::net::SocketAddr;

use indexmap::IndexMap;
use ipnet::IpNet;

use super::Meaning;
use super::policies::OWN;
use crate::config::decode::Map;
use crate::config::leaf::{FieldName, FilePath, ListenAddress};
use crate::config::model::{
    Admin, At, Certificate, ClientAuth, ClientHeaders, Listener, ListenerLimits, Socket, Tls, TlsVersion,
};
use crate::config::problem::{Code, Problem};
use crate::config::raw::listener as raw;
use crate::config::raw::value::ClientAuthMode;
use crate::name::ListenerName;
use crate::unit::ByteSize;

impl Meaning<'_> {
    pub(super) fn listeners(
        &mut self,
        raw: Option<&At<Map<raw::Listener>>>,
        admin: &Admin,
        trusted: &[IpNet],
    ) -> IndexMap<ListenerName, Listener> {
        let Some(raw) = raw else {
            return IndexMap::new();
        };
        if raw.value.entries.is_empty() {
            let help = "for example `http: { address: \"[::]:80\" }`";
            self.error(Code::MissingKey, "there is no listener", raw.span, help);
        }
        self.check_addresses(&raw.value, admin);
        self.check_redirects(&raw.value);
        let mut listeners = IndexMap::new();
        for entry in &raw.value.entries {
            self.name(ListenerName::new, &entry.name);
        }
        for (name, listener) in raw.value.iter() {
            if let Some(on) = listener.proxy_protocol.as_ref().filter(|on| on.value && trusted.is_empty()) {
                let help = "name the load balancer in `client_ip.trusted_proxies`";
                self.error(Code::Conflict, "nobody is trusted to send a PROXY header", on.span, help);
            }
            let listener = self.listener(listener);
            if let Ok(name) = ListenerName::new(&name.value) {
                listeners.insert(name, listener);
            }
        }
        listeners
    }

    fn listener(&mut self, raw: &raw::Listener) -> Listener {
        Listener {
            address: At { value: raw.address.value.0, span: raw.address.span },
            tls: raw.tls.as_ref().map(|tls| self.tls(&tls.value)),
            redirect_https: raw.redirect_https.as_ref().is_some_and(|on| on.value),
            proxy_protocol: raw.proxy_protocol.as_ref().is_some_and(|on| on.value),
            limits: raw
                .limits
                .as_ref()
                .map_or_else(ListenerLimits::default, |limits| self.listener_limits(limits)),
        }
    }

    fn tls(&mut self, raw: &raw::Tls) -> Tls {
        if raw.certificates.is_empty() {
            let help = "for example `certificates: [ { cert: certs/shop.pem, key: certs/shop.key } ]`";
            self.error(Code::MissingKey, "TLS without a certificate", raw.certificates.span, help);
        }
        Tls {
            certificates: raw.certificates.items.iter().map(|raw| self.certificate(raw)).collect(),
            min_version: raw.min_version.unwrap_or(TlsVersion::Tls12),
            client_auth: raw.client_auth.as_ref().and_then(|auth| self.client_auth(auth)),
            client_headers: self.client_headers(raw.client_auth.as_ref()),
        }
    }

    pub(super) fn certificate(&self, raw: &raw::Certificate) -> Certificate {
        Certificate { cert: self.file(&raw.cert), key: self.file(&raw.key) }
    }

    pub(super) fn file(&self, path: &At<FilePath>) -> At<std::path::PathBuf> {
        At { value: self.path(&path.value.0), span: path.span }
    }

    fn client_auth(&mut self, raw: &At<raw::ClientAuth>) -> Option<ClientAuth> {
        let mode = raw.value.mode.unwrap_or(ClientAuthMode::Required);
        if mode == ClientAuthMode::Off {
            return None;
        }
        let Some(ca) = &raw.value.ca else {
            let help = "name the PEM file of the authorities, or write `mode: off`";
            self.error(Code::MissingKey, "the key `ca` is missing", raw.span, help);
            return None;
        };
        Some(ClientAuth { ca: self.file(ca), required: mode == ClientAuthMode::Required })
    }

    /// What the gateway tells by other means, or what frames a message, cannot tell of a certificate.
    fn client_headers(&mut self, raw: Option<&At<raw::ClientAuth>>) -> ClientHeaders {
        const TAKEN: &[&str] =
            &["authorization", "cookie", "forwarded", "host", "traceparent", "via", "x-real-ip"];
        let Some(raw) = raw.and_then(|auth| auth.value.headers.as_ref()) else {
            return ClientHeaders::default();
        };
        for At { value: FieldName(name), span } in raw.subject.iter().chain(&raw.fingerprint) {
            let name = name.as_str();
            if TAKEN.contains(&name) || OWN.contains(&name) || name.starts_with("x-forwarded-") {
                let help = "for example x-client-subject or x-client-fingerprint";
                self.error(Code::InvalidValue, format!("`{name}` tells something else"), *span, help);
            }
        }
        if let (Some(subject), Some(fingerprint)) = (&raw.subject, &raw.fingerprint)
            && subject.value.0 == fingerprint.value.0
        {
            let problem = Problem::error(Code::Conflict, "one field cannot tell both");
            let problem = problem.at(fingerprint.span, "the fingerprint").at(subject.span, "the subject");
            self.problems.push(problem.help("give them two names"));
        }
        let name = |at: &At<FieldName>| at.value.0.clone();
        ClientHeaders {
            subject: raw.subject.as_ref().map(name),
            fingerprint: raw.fingerprint.as_ref().map(name),
        }
    }

    fn listener_limits(&mut self, raw: &raw::Limits) -> ListenerLimits {
        let default = ListenerLimits::default();
        ListenerLimits {
            handshake: self.period(raw.handshake.as_ref(), default.handshake),
            header: self.period(raw.header.as_ref(), default.header),
            header_size: self.header_size(raw.header_size.as_ref(), default.header_size),
            header_fields: self.count(raw.header_fields.as_ref(), 100) as usize,
            uri: self.header_size(raw.uri.as_ref(), default.uri),
            body_idle: self.period(raw.body_idle.as_ref(), default.body_idle),
            keepalive: self.period(raw.keepalive.as_ref(), default.keepalive),
            keepalive_requests: self.count(raw.keepalive_requests.as_ref(), default.keepalive_requests),
            connections_per_ip: self.count(raw.connections_per_ip.as_ref(), default.connections_per_ip),
        }
    }

    /// Headers are held in memory: enough for a request line, and not so much that a few clients take it all.
    fn header_size(&mut self, raw: Option<&At<ByteSize>>, default: ByteSize) -> ByteSize {
        const LEAST: ByteSize = ByteSize(256);
        const MOST: ByteSize = ByteSize(1 << 20);
        let Some(At { value, span }) = raw else {
            return default;
        };
        if !(LEAST..=MOST).contains(value) {
            let message = format!("`{value}` is no size for headers");
            self.error(Code::InvalidValue, message, *span, format!("from {LEAST} to {MOST}"));
        }
        *value
    }

    fn check_addresses(&mut self, listeners: &Map<raw::Listener>, admin: &Admin) {
        let mut taken: Vec<(&str, &At<ListenAddress>)> = Vec::new();
        for (name, listener) in listeners.iter() {
            let address = &listener.address;
            if let Some((other, first)) =
                taken.iter().find(|(_, first)| overlap(first.value.0, address.value.0))
            {
                let message = format!("the listeners `{other}` and `{}` are on one address", name.value);
                let problem = Problem::error(Code::AddressTaken, message).at(address.span, "also here");
                self.problems
                    .push(problem.at(first.span, "first here").help("give one of them another port"));
            }
            if matches!(admin.listen, Socket::Tcp(admin) if overlap(admin, address.value.0)) {
                let message =
                    format!("the listener `{}` is on the address of the admin listener", name.value);
                self.error(Code::AddressTaken, message, address.span, "give one of them another port");
            }
            taken.push((&name.value, address));
        }
    }

    fn check_redirects(&mut self, listeners: &Map<raw::Listener>) {
        let may_be_https = |raw: &raw::Listener| raw.tls.is_some();
        let has_https = listeners
            .entries
            .iter()
            .any(|entry| !entry.sound || entry.value.as_ref().is_some_and(may_be_https));
        for (name, listener) in listeners.iter() {
            let Some(redirect) = listener.redirect_https.as_ref().filter(|redirect| redirect.value) else {
                continue;
            };
            if let Some(tls) = &listener.tls {
                let message = format!("the listener `{}` speaks TLS and redirects to itself", name.value);
                let problem = Problem::error(Code::Conflict, message)
                    .at(redirect.span, "redirects")
                    .at(tls.span, "TLS");
                self.problems.push(problem.help("`redirect_https` is for the plain listener beside it"));
            } else if !has_https {
                let help = "give another listener `tls`, or leave `redirect_https` out";
                self.error(Code::Conflict, "there is no https listener to redirect to", redirect.span, help);
            }
        }
    }
}

/// Whether two listeners would get in each other's way. Port 0 is a free port, another one each time.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let everywhere = a.ip().is_unspecified() || b.ip().is_unspecified();
    let same_family = a.is_ipv4() == b.is_ipv4();
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || (everywhere && same_family))
}
