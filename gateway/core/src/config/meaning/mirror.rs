//! `mirror` of a route: who gets copies of its requests.

use super::Meaning;
use super::routes::Declared;
use crate::config::model::{At, Mirror};
use crate::config::problem::Code;
use crate::config::raw::route as raw;
use crate::unit::{ByteSize, Ratio};

/// The largest request body that is copied where the file says nothing.
const BODY_LIMIT: ByteSize = ByteSize(64 << 10);

/// Copies are held in memory until they are sent, a bounded number of them.
const LARGEST: ByteSize = ByteSize(1 << 20);

impl Meaning<'_> {
    pub(super) fn mirror(
        &mut self,
        name: &At<String>,
        route: &raw::Route,
        raw: &At<raw::Mirror>,
        declared: &Declared<'_>,
    ) -> Option<Mirror> {
        if route.service.is_none() && (route.redirect.is_some() || route.respond.is_some()) {
            let message = format!("route `{}` answers by itself and mirrors nothing", name.value);
            let help = "only what goes to a `service` is mirrored";
            self.error(Code::Conflict, message, raw.span, help);
        }
        let mirror = &raw.value;
        if let Some(share) = mirror.share.as_ref().filter(|share| share.value.get() == 0.0) {
            let help = "leave `mirror` out, or give it a share";
            self.warning(Code::Unused, "a share of 0% mirrors nothing", share.span, help);
        }
        if let Some(limit) = mirror.body_limit.as_ref().filter(|limit| limit.value > LARGEST) {
            let message = format!("{} is too much to keep of every request", limit.value);
            self.error(Code::InvalidValue, message, limit.span, format!("at most {LARGEST}"));
        }
        let does = format!("route `{}` mirrors requests", name.value);
        Some(Mirror {
            service: self.declared_service(&does, &mirror.service, declared)?,
            share: mirror.share.as_ref().map_or(Ratio::ONE, |share| share.value),
            body_limit: mirror.body_limit.as_ref().map_or(BODY_LIMIT, |limit| limit.value),
        })
    }
}
