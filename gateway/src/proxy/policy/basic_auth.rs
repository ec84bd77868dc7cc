//! `basic_auth`: name and password (RFC 7617).

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use gateway_core::password::PasswordHash;
use http::{HeaderMap, HeaderValue, header};

use crate::passwords::{Claim, Passwords};
use crate::proxy::context::Context;
use crate::proxy::rejection::Rejection;
use crate::telemetry::instruments::CounterBy;
use crate::telemetry::labels::AuthDecision;

/// Some clients leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Seconds after which who found no place to wait may come again.
const COME_AGAIN: u64 = 5;

/// A `basic_auth` made ready.
#[derive(Debug)]
pub(crate) struct BasicAuth {
    challenge: HeaderValue,
    users: HashMap<Arc<str>, Arc<PasswordHash>>,
    /// Those of all users; one of them stands in for the hash of a user who does not exist.
    hashes: Vec<Arc<PasswordHash>>,
    /// Chooses the one, for a name always the same.
    stand_in: RandomState,
    passwords: Arc<Passwords>,
    decisions: Arc<CounterBy<AuthDecision>>,
}

impl BasicAuth {
    pub(crate) fn new<'a>(
        realm: &str,
        users: impl Iterator<Item = (&'a String, &'a PasswordHash)>,
        passwords: &Arc<Passwords>,
        decisions: Arc<CounterBy<AuthDecision>>,
    ) -> Box<Self> {
        let users: HashMap<Arc<str>, _> =
            users.map(|(name, hash)| (name.as_str().into(), Arc::new(hash.clone()))).collect();
        let challenge = format!("Basic realm=\"{realm}\", charset=\"UTF-8\"");
        Box::new(Self {
            // A realm has been checked to be ASCII without quotes.
            challenge: HeaderValue::try_from(challenge).unwrap_or(HeaderValue::from_static("Basic")),
            hashes: users.values().cloned().collect(),
            users,
            stand_in: RandomState::new(),
            passwords: passwords.clone(),
            decisions,
        })
    }

    /// Lets a request in whose name and password are those of a user, and notes the name.
    ///
    /// # Errors
    /// [`Rejection::Unauthorized`], or [`Rejection::AuthOverloaded`] when too many wait to be checked.
    pub(super) async fn admit(&self, headers: &HeaderMap, ctx: &mut Context) -> Result<(), Rejection> {
        let decision = match Credentials::of(headers) {
            Some(credentials) => self.decide(&credentials, ctx).await,
            None => AuthDecision::Missing,
        };
        self.decisions.count(decision);
        match decision {
            AuthDecision::Passed => Ok(()),
            AuthDecision::Missing | AuthDecision::Refused => {
                ctx.answer_fields.push((header::WWW_AUTHENTICATE, self.challenge.clone()));
                Err(Rejection::Unauthorized)
            }
            AuthDecision::Overloaded => {
                ctx.answer_fields.push((header::RETRY_AFTER, COME_AGAIN.into()));
                Err(Rejection::AuthOverloaded)
            }
        }
    }

    async fn decide(&self, credentials: &Credentials, ctx: &mut Context) -> AuthDecision {
        let Credentials { user, password } = credentials;
        let known = self.users.get_key_value(user.as_str());
        let Some(hash) = known.map(|(_, hash)| hash).or_else(|| self.stand_in(user)) else {
            return AuthDecision::Refused;
        };
        let claim = Claim { user, password, hash, known: known.is_some() };
        match (self.passwords.verify(claim).await, known) {
            (Ok(true), Some((name, _))) => {
                ctx.user = Some(name.clone());
                AuthDecision::Passed
            }
            (Ok(_), _) => AuthDecision::Refused,
            (Err(_), _) => AuthDecision::Overloaded,
        }
    }

    /// The hash a name that is nobody's is checked against.
    fn stand_in(&self, user: &str) -> Option<&Arc<PasswordHash>> {
        let lot = self.stand_in.hash_one(user) % (self.hashes.len() as u64).max(1);
        self.hashes.get(lot as usize)
    }
}

/// What a client says in `Authorization`.
struct Credentials {
    user: String,
    password: Vec<u8>,
}

impl Credentials {
    /// `None` when nothing is said, or not once and in this form.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut fields = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else { return None };
        let (scheme, token) = field.as_bytes().split_at_checked("Basic ".len())?;
        if !scheme.eq_ignore_ascii_case(b"Basic ") {
            return None;
        }
        let mut user = BASE64.decode(token.trim_ascii()).ok()?;
        let colon = user.iter().position(|byte| *byte == b':')?;
        let password = user.split_off(colon + 1);
        user.pop();
        Some(Self { user: String::from_utf8(user).ok()?, password })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(fields: &[&str]) -> Option<(String, String)> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(field).unwrap());
        }
        let Credentials { user, password } = Credentials::of(&headers)?;
        Some((user, String::from_utf8_lossy(&password).into_owned()))
    }

    #[test]
    fn credentials_are_said_once_and_end_at_the_first_colon() {
        let found = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        // RFC 7617 §2 and §2.1.
        assert_eq!(said(&["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]), found("Aladdin", "open sesame"));
        assert_eq!(said(&["basic  dGVzdDoxMjPCow=="]), found("test", "123£"));
        assert_eq!(said(&["BASIC YTpiOmM"]), found("a", "b:c"), "without padding");
        assert_eq!(said(&["Basic Og=="]), found("", ""));
        for malformed in ["", "Basic", "Basic ", "Basic !!!!", "Basic YWJj", "Bearer YTpiOmM=", "Basic /zph"]
        {
            assert_eq!(said(&[malformed]), None, "{malformed:?}");
        }
        assert_eq!(said(&["Basic YTpi", "Basic YTpi"]), None);
        assert_eq!(said(&[]), None);
    }
}
