//! Passwords against their hashes: a few at a time, with a bounded queue, and remembered while they are right.
//!
//! A hash takes processor time on purpose, so a flood of guesses must not take all of it: at most [`AT_ONCE`] are checked
//! at a time, [`WAITING`] more may wait, and the rest is turned away unheard. Whoever was right once is known again by a
//! MAC of what was said, under a key that is drawn when the process starts.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{hmac, rand};
use gateway_core::password::PasswordHash;
use parking_lot::RwLock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Checks under way at a time.
const AT_ONCE: usize = 2;

/// Checks that may wait for their turn.
const WAITING: usize = 64;

/// How long one may wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// Each generation of remembered credentials holds so many.
const REMEMBERED: usize = 2048;

/// An HMAC-SHA256.
type Tag = [u8; 32];

/// Who says so, and what the password is checked against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) user: &'a str,
    pub(crate) password: &'a [u8],
    pub(crate) hash: &'a Arc<PasswordHash>,
    /// Whether the hash is the user's. That of another one stands in for a user who does not exist, so that time does not
    /// tell which names do.
    pub(crate) known: bool,
}

/// Too many are waiting already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overloaded;

/// The checks of one process.
#[derive(Debug)]
pub(crate) struct Passwords {
    key: hmac::Key,
    verified: RwLock<Verified>,
    /// For those who are checked or wait.
    places: Semaphore,
    /// For those who are checked.
    turns: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        let mut key = Tag::default();
        // aws-lc ends the process rather than to go on without random numbers.
        let _ = rand::fill(&mut key);
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            verified: RwLock::default(),
            places: Semaphore::new(AT_ONCE + WAITING),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Passwords {
    /// Whether a claim is true. A microsecond for one that was true before, else the time its hash asks for.
    ///
    /// # Errors
    /// [`Overloaded`] when there is no place to wait, or no turn within [`PATIENCE`].
    pub(crate) async fn verify(&self, claim: Claim<'_>) -> Result<bool, Overloaded> {
        let tag = self.tag(&claim);
        if claim.known && self.remembers(&tag) {
            return Ok(true);
        }
        let _place = self.places.try_acquire().map_err(|_| Overloaded)?;
        let turn = tokio::time::timeout(PATIENCE, self.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(Overloaded) };
        // A browser asks for many things at once: the first of them has been checked meanwhile.
        if claim.known && self.remembers(&tag) {
            return Ok(true);
        }
        let right = check(claim, turn).await && claim.known;
        if right {
            self.verified.write().insert(tag);
        }
        Ok(right)
    }

    /// Names a claim. The hash is part of it: another password for the user, and what was remembered is of no use.
    fn tag(&self, claim: &Claim<'_>) -> Tag {
        let mut mac = hmac::Context::with_key(&self.key);
        for part in [claim.hash.as_str().as_bytes(), claim.user.as_bytes(), claim.password] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        let mut tag = Tag::default();
        tag.copy_from_slice(mac.sign().as_ref());
        tag
    }

    fn remembers(&self, tag: &Tag) -> bool {
        let verified = self.verified.read();
        if verified.young.contains(tag) {
            return true;
        }
        if !verified.old.contains(tag) {
            return false;
        }
        drop(verified);
        self.verified.write().insert(*tag);
        true
    }
}

/// Checks on a thread where nothing else waits. The turn is over when the work is, whoever has left meanwhile.
async fn check(claim: Claim<'_>, turn: OwnedSemaphorePermit) -> bool {
    let (hash, password) = (claim.hash.clone(), claim.password.to_owned());
    let checked = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        hash.verify(&password)
    });
    // A check that panics lets nobody in.
    checked.await.unwrap_or(false)
}

/// Claims that were true, those unused for longest forgotten first, by halves.
#[derive(Debug, Default)]
struct Verified {
    young: HashSet<Tag>,
    old: HashSet<Tag>,
}

impl Verified {
    fn insert(&mut self, tag: Tag) {
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of "hunter2", with 2⁴ rounds.
    const HASH: &str = "$2b$04$KWq9A3Cyc2ntxrsC0HIoBuBwIVxqSeGg3O8RxZFrgG2gIMJhE0tjC";

    fn hash() -> Arc<PasswordHash> {
        Arc::new(PasswordHash::parse(HASH).unwrap())
    }

    fn claim<'a>(user: &'a str, password: &'a str, hash: &'a Arc<PasswordHash>) -> Claim<'a> {
        Claim { user, password: password.as_bytes(), hash, known: true }
    }

    #[tokio::test]
    async fn only_what_was_true_is_remembered() {
        let (passwords, hash) = (Passwords::default(), hash());
        assert_eq!(passwords.verify(claim("ann", "hunter3", &hash)).await, Ok(false));
        let nobody = Claim { known: false, ..claim("bob", "hunter2", &hash) };
        assert_eq!(passwords.verify(nobody).await, Ok(false), "the password of somebody else");
        assert!(passwords.verified.read().young.is_empty());
        assert_eq!(passwords.verify(claim("ann", "hunter2", &hash)).await, Ok(true));
        assert!(passwords.remembers(&passwords.tag(&claim("ann", "hunter2", &hash))));
        let gone = Claim { known: false, ..claim("ann", "hunter2", &hash) };
        assert_eq!(passwords.verify(gone).await, Ok(false), "a user no more, whose hash another one has");
        for other in [claim("ann", "hunter22", &hash), claim("annh", "unter2", &hash)] {
            assert!(!passwords.remembers(&passwords.tag(&other)), "{other:?}");
        }
        let changed = Arc::new(PasswordHash::parse(&HASH.replace("$2b$", "$2y$")).unwrap());
        assert!(!passwords.remembers(&passwords.tag(&claim("ann", "hunter2", &changed))), "another hash");
        assert!(!Passwords::default().remembers(&passwords.tag(&claim("ann", "hunter2", &hash))));
    }

    #[tokio::test]
    async fn who_finds_no_place_to_wait_is_turned_away_and_who_is_known_passes() {
        let (passwords, hash) = (Passwords::default(), hash());
        assert_eq!(passwords.verify(claim("ann", "hunter2", &hash)).await, Ok(true));
        let _all = passwords.places.try_acquire_many((AT_ONCE + WAITING) as u32).unwrap();
        assert_eq!(passwords.verify(claim("ann", "hunter3", &hash)).await, Err(Overloaded));
        assert_eq!(passwords.verify(claim("ann", "hunter2", &hash)).await, Ok(true));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_turn_longer_than_is_bearable() {
        let (passwords, hash) = (Passwords::default(), hash());
        let _all = passwords.turns.try_acquire_many(AT_ONCE as u32).unwrap();
        assert_eq!(passwords.verify(claim("ann", "hunter2", &hash)).await, Err(Overloaded));
        assert_eq!(passwords.places.available_permits(), AT_ONCE + WAITING);
    }

    #[test]
    fn what_is_used_stays_and_memory_is_bounded() {
        let passwords = Passwords::default();
        let tag = |number: usize| {
            let mut tag = Tag::default();
            tag[..8].copy_from_slice(&number.to_be_bytes());
            tag
        };
        for number in 0..20 * REMEMBERED {
            passwords.verified.write().insert(tag(number));
            assert_eq!(passwords.remembers(&tag(7)), number >= 7, "{number}");
        }
        let verified = passwords.verified.read();
        assert!(verified.young.len() + verified.old.len() <= 2 * REMEMBERED);
        drop(verified);
        assert!(!passwords.remembers(&tag(8)));
    }
}
