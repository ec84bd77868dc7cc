//! Which header fields end at this hop (RFC 9110 §7.6.1).

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName};

/// The fields that are never forwarded, Upgrade aside.
static ALWAYS: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
];

/// The fields of a message, of either direction, that are to be removed before it is forwarded.
///
/// Read before anything is removed, and remove before fields of our own are added: then nobody can have those taken
/// away by naming them in Connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HopByHop {
    keep_upgrade: bool,
    te_trailers: bool,
    nominated: Vec<HeaderName>,
}

impl HopByHop {
    /// Reads what Connection and TE say. While `upgrading`, which is for the caller to know, Upgrade is kept; Connection
    /// is removed all the same and to be set to `upgrade` anew.
    ///
    /// Host and Content-Length are kept even if Connection names them: they carry the message itself. Allocates only for
    /// what Connection names beside the fields known to this hop.
    pub fn of(headers: &HeaderMap, upgrading: bool) -> Self {
        let mut nominated = Vec::new();
        for token in tokens(headers, &CONNECTION).filter(|token| !is_known(token)) {
            if let Ok(name) = HeaderName::from_bytes(token.as_bytes())
                && headers.contains_key(&name)
                && ![HOST, CONTENT_LENGTH].contains(&name)
                && !nominated.contains(&name)
            {
                nominated.push(name);
            }
        }
        Self { keep_upgrade: upgrading, te_trailers: tokens(headers, &TE).any(is_trailers), nominated }
    }

    /// Whether Connection says that Upgrade is meant for this hop, without which it means nothing (RFC 9110 §7.8).
    pub fn is_upgrading(headers: &HeaderMap) -> bool {
        tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
    }

    /// Whether a field ends here. Most names are told by their length.
    pub fn ends(&self, name: &HeaderName) -> bool {
        let known = match name.as_str().len() {
            7 => !self.keep_upgrade && *name == UPGRADE,
            2 | 10 | 16 | 17..=19 => ALWAYS.contains(name),
            _ => false,
        };
        known || self.nominated.contains(name)
    }

    /// Removes the fields that end here.
    pub fn remove_from(&self, headers: &mut HeaderMap) {
        // Most messages have one at most, and a look at each name is less than a look-up of each of those.
        while let Some(name) = headers.keys().find(|name| self.ends(name)).cloned() {
            headers.remove(name);
        }
    }

    /// Whether TE told that trailers are understood: the only word of it that may go on, as `TE: trailers`.
    pub fn te_trailers(&self) -> bool {
        self.te_trailers
    }
}

/// The elements of a comma-separated list of tokens; a field that is not text has none.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    let lists = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(|token| token.trim_matches([' ', '\t']))
}

/// The connection options that name no field, or one that is dealt with anyway.
fn is_known(token: &str) -> bool {
    let is = |name: &HeaderName| token.eq_ignore_ascii_case(name.as_str());
    token.eq_ignore_ascii_case("close") || is(&UPGRADE) || ALWAYS.iter().any(is)
}

/// `trailers`, perhaps with a weight, which means nothing there.
fn is_trailers(token: &str) -> bool {
    let name = token.split(';').next().unwrap_or(token);
    name.trim_end_matches([' ', '\t']).eq_ignore_ascii_case("trailers")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .fold(HeaderMap::new(), |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            })
    }

    fn kept(fields: &[(&'static str, &'static str)], upgrading: bool) -> Vec<String> {
        let mut headers = headers(fields);
        HopByHop::of(&headers, upgrading).remove_from(&mut headers);
        let mut names: Vec<_> = headers.keys().map(ToString::to_string).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn fields_of_this_hop_go_and_the_rest_stays() {
        let fields = [
            ("host", "h"),
            ("connection", "close"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "gzip"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authorization", "Basic eA=="),
            ("trailer", "x-sum"),
        ];
        assert_eq!(kept(&fields, false), ["host", "trailer"]);
    }

    #[test]
    fn what_connection_names_goes_from_every_field_and_in_any_case() {
        let fields = [
            ("connection", "keep-alive, X-One"),
            ("connection", "x-TWO ,, x-absent"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
        ];
        assert_eq!(kept(&fields, false), ["x-three"]);
    }

    #[test]
    fn the_message_itself_cannot_be_named_away() {
        let fields = [
            ("connection", "host, content-length, cookie"),
            ("host", "h"),
            ("content-length", "1"),
            ("cookie", "a=b"),
        ];
        assert_eq!(kept(&fields, false), ["content-length", "host"]);
    }

    #[test]
    fn upgrade_stays_while_upgrading_and_what_else_is_named_does_not() {
        let fields = [("connection", "Upgrade, x-one"), ("upgrade", "websocket"), ("x-one", "1")];
        assert_eq!(kept(&fields, true), ["upgrade"]);
        assert_eq!(kept(&fields, false), [""; 0]);
    }

    #[test]
    fn upgrade_is_for_this_hop_when_connection_says_so() {
        let said = |value: &'static str| HopByHop::is_upgrading(&headers(&[("connection", value)]));
        assert!(said("Upgrade") && said("keep-alive, upgrade"));
        assert!(!said("keep-alive") && !said("upgrades"));
    }

    #[test]
    fn only_trailers_of_te_may_go_on() {
        let trailers = |value: &'static str| HopByHop::of(&headers(&[("te", value)]), false).te_trailers();
        assert!(trailers("trailers") && trailers("gzip, Trailers ;q=0.5"));
        assert!(!trailers("gzip") && !trailers("trailers-too"));
    }

    #[test]
    fn usual_connection_fields_allocate_nothing() {
        for value in ["keep-alive", "close", "Upgrade", "TE", "keep-alive, Upgrade", "@, a b"] {
            assert_eq!(
                HopByHop::of(&headers(&[("connection", value)]), false).nominated.capacity(),
                0,
                "{value}"
            );
        }
    }
}
