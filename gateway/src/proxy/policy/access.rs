//! Who may come at all: networks that are allowed, and networks that are not.

use std::net::IpAddr;

use gateway_core::client_ip::TrustedProxies as Networks;
use gateway_core::config::model;

use crate::proxy::rejection::Rejection;

/// The allow- and the deny-list of a route.
#[derive(Debug, Default)]
pub(crate) struct Access {
    /// `None` lets all in.
    allow: Option<Networks>,
    deny: Networks,
}

impl Access {
    pub(crate) fn new(route: &model::Route) -> Self {
        let allow = (!route.allow.is_empty()).then(|| Networks::new(&route.allow));
        Self { allow, deny: Networks::new(&route.deny) }
    }

    /// Lets a client in that is allowed and not denied; a network in both lists is denied. O(log networks).
    ///
    /// # Errors
    /// [`Rejection::Denied`].
    pub(super) fn admit(&self, client: IpAddr) -> Result<(), Rejection> {
        let allowed = self.allow.as_ref().is_none_or(|allow| allow.contains(client));
        if allowed && !self.deny.contains(client) { Ok(()) } else { Err(Rejection::Denied) }
    }
}
