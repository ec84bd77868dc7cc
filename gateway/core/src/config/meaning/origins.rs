//! How origins are spoken to, checked and tried again.

use std::time::Duration;

use super::Meaning;
use super::services::{failures, no_failures, percent};
use crate::config::host::host_name;
use crate::config::leaf::Period;
use crate::config::model::{At, Eject, FailureSet, Protocol, Retry, Timeouts, UpstreamTls};
use crate::config::problem::{Code, Problem};
use crate::config::raw::service as raw;

impl Meaning<'_> {
    pub(super) fn eject(&mut self, raw: &raw::Eject) -> Eject {
        Eject {
            consecutive_failures: self.count(raw.consecutive_failures.as_ref(), 5),
            duration: self.period(raw.for_.as_ref(), Duration::from_secs(30)),
            max: raw.max.unwrap_or_else(|| percent(50.0)),
        }
    }

    pub(super) fn timeouts(&mut self, raw: Option<&raw::Timeouts>) -> Timeouts {
        const ORIGINS_KEEP: Duration = Duration::from_secs(5);
        let default = Timeouts::default();
        let Some(raw) = raw else {
            return default;
        };
        if let Some(At { span, .. }) = raw.keepalive.as_ref().filter(|at| at.value.0 >= ORIGINS_KEEP) {
            let help = "Node and uvicorn close idle connections after 5 s: below that, no request meets a closing one";
            self.warning(
                Code::LongKeepalive,
                "connections are kept as long as origins keep them, or longer",
                *span,
                help,
            );
        }
        Timeouts {
            connect: self.period(raw.connect.as_ref(), default.connect),
            first_byte: self.period(raw.first_byte.as_ref(), default.first_byte),
            idle: self.period(raw.idle.as_ref(), default.idle),
            keepalive: raw
                .keepalive
                .as_ref()
                .map_or(default.keepalive, |At { value: Period(keepalive), .. }| *keepalive),
        }
    }

    pub(super) fn protocol(&mut self, raw: &raw::Service) -> Protocol {
        let Some(protocol) = &raw.protocol else {
            return Protocol::Http1;
        };
        match (protocol.value, &raw.tls) {
            (Protocol::H2c, Some(tls)) => {
                let problem = Problem::error(Code::Conflict, "`h2c` is spoken in the clear")
                    .at(protocol.span, "in the clear");
                self.problems
                    .push(problem.at(tls.span, "TLS").help("write `protocol: h2`, or leave `tls` out"));
            }
            (Protocol::H2, None) => {
                let help = "add `tls: {}`, or write `protocol: h2c` to speak it in the clear";
                self.error(Code::Conflict, "`h2` is spoken over TLS", protocol.span, help);
            }
            _ => {}
        }
        protocol.value
    }

    pub(super) fn upstream_tls(&mut self, raw: &raw::UpstreamTls) -> UpstreamTls {
        let sni = raw.sni.as_ref().and_then(|sni| match host_name(&sni.value) {
            Ok(name) => Some(name),
            Err(error) => {
                self.error(
                    Code::InvalidValue,
                    error.to_string(),
                    sni.span,
                    "a name that stands in the certificate",
                );
                None
            }
        });
        UpstreamTls {
            sni,
            ca: raw.ca.as_ref().map(|ca| self.file(ca)),
            client_cert: raw.client_cert.as_ref().map(|raw| self.certificate(raw)),
        }
    }
}

pub(super) fn retry(raw: Option<&raw::Retry>) -> Retry {
    let on = raw.and_then(|raw| raw.on.as_deref());
    Retry {
        attempts: raw.and_then(|raw| raw.attempts).unwrap_or(1),
        on: on.map_or(FailureSet { connect: true, reset: true, ..no_failures() }, failures),
        budget: raw.and_then(|raw| raw.budget).unwrap_or_else(|| percent(20.0)),
    }
}
