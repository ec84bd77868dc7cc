//! Hashes of passwords: which are taken, how much work they may ask for, and whether a password belongs to one.
//!
//! bcrypt (`$2a$`, `$2b$`, `$2y$`) and argon2 (id, i and d, as PHC strings). Both are slow on purpose, so a check belongs
//! on a thread of its own.

use std::collections::HashSet;
use std::fmt;

use argon2::password_hash::phc;
use argon2::{Argon2, PasswordVerifier};

/// More rounds than 2¹⁵ take seconds.
const BCRYPT_COST: std::ops::RangeInclusive<u32> = 4..=15;
/// Of memory, in KiB.
const ARGON2_MEMORY_KIB: u32 = 256 << 10;
/// Memory times passes, in KiB: what the time goes by. A second or so.
const ARGON2_WORK_KIB: u64 = 1 << 20;
/// Lanes of argon2. They are worked on one after the other here.
const ARGON2_LANES: u32 = 16;

/// A hash that can be checked in bounded time. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    text: String,
    kind: Kind,
}

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Bcrypt,
    Argon2(Box<phc::PasswordHash>),
}

/// Why a text is no hash that can be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHash {
    /// apr1, `{SHA}`, crypt and their like: broken within hours by who has the file.
    #[error("a hash of a kind that is too weak")]
    Weak,
    /// Perhaps the password itself.
    #[error("not a bcrypt or argon2 hash")]
    Unknown,
    /// It begins like one of the kinds, and is cut off or garbled.
    #[error("{0} hash that is cut off or garbled")]
    Malformed(&'static str),
    /// One check would take longer than anybody waits.
    #[error("a hash that asks for too much work, {0}")]
    TooCostly(&'static str),
}

impl BadHash {
    /// What to do about it.
    pub fn help(self) -> &'static str {
        match self {
            Self::Weak | Self::Unknown => "make one with `htpasswd -nB -C 12 NAME`",
            Self::Malformed(_) => "copy it whole, or make another one with `htpasswd -nB -C 12 NAME`",
            Self::TooCostly(_) => {
                "at most: bcrypt cost 15; argon2 m=262144 (256 MiB), m × t of 1048576, p=16"
            }
        }
    }
}

impl PasswordHash {
    /// Takes a hash as `htpasswd -B` and argon2 tools write it.
    ///
    /// # Errors
    /// [`BadHash`] when it is of another kind, malformed, or takes too long to check.
    pub fn parse(text: &str) -> Result<Self, BadHash> {
        let kind = match text.split('$').nth(1) {
            Some("2a" | "2b" | "2y") if text.starts_with('$') => bcrypt_kind(text)?,
            Some(kind) if text.starts_with('$') && kind.starts_with("argon2") => argon2_kind(text)?,
            Some(_) if text.starts_with('$') => return Err(BadHash::Weak),
            _ if text.starts_with('{') => return Err(BadHash::Weak),
            _ => return Err(BadHash::Unknown),
        };
        Ok(Self { text: text.to_owned(), kind })
    }

    /// Whether this is the password. Takes milliseconds to seconds of processor time and, for argon2, the memory its hash
    /// asks for; how long tells nothing about the password.
    pub fn verify(&self, password: &[u8]) -> bool {
        match &self.kind {
            Kind::Bcrypt => bcrypt::verify(password, &self.text).unwrap_or(false),
            Kind::Argon2(hash) => Argon2::default().verify_password(password, &**hash).is_ok(),
        }
    }

    /// The hash as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

fn bcrypt_kind(text: &str) -> Result<Kind, BadHash> {
    let parts: bcrypt::HashParts = text.parse().map_err(|_| BadHash::Malformed("a bcrypt"))?;
    match parts.get_cost() {
        cost if cost > *BCRYPT_COST.end() => Err(BadHash::TooCostly("a bcrypt cost over 15")),
        cost if cost < *BCRYPT_COST.start() => Err(BadHash::Malformed("a bcrypt")),
        _ => Ok(Kind::Bcrypt),
    }
}

fn argon2_kind(text: &str) -> Result<Kind, BadHash> {
    const MALFORMED: BadHash = BadHash::Malformed("an argon2");
    let hash = phc::PasswordHash::new(text).map_err(|_| MALFORMED)?;
    argon2::Algorithm::try_from(hash.algorithm.as_str()).map_err(|_| MALFORMED)?;
    let version = hash.version.is_none_or(|version| argon2::Version::try_from(version).is_ok());
    let params = argon2::Params::try_from(&hash).map_err(|_| MALFORMED)?;
    let salted = hash.salt.is_some_and(|salt| salt.len() >= argon2::MIN_SALT_LEN);
    if !version || !salted || hash.hash.is_none() {
        return Err(MALFORMED);
    }
    let (memory, passes) = (params.m_cost(), params.t_cost());
    if memory > ARGON2_MEMORY_KIB || params.p_cost() > ARGON2_LANES {
        return Err(BadHash::TooCostly("argon2 with more than 256 MiB or 16 lanes"));
    }
    if u64::from(memory) * u64::from(passes) > ARGON2_WORK_KIB {
        return Err(BadHash::TooCostly("argon2 with too many passes over its memory"));
    }
    Ok(Kind::Argon2(Box::new(hash)))
}

/// What is wrong with a line of a password file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// No colon, or nothing before it.
    #[error("is not `name:hash`")]
    NoPair,
    /// A name that no header could carry.
    #[error("names a user with a control character")]
    Name,
    /// The name stands in an earlier line too.
    #[error("names the user `{0}` a second time")]
    Again(String),
    /// What stands for this user is no hash.
    #[error("holds for `{0}` {1}")]
    Hash(String, BadHash),
}

impl BadLine {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::NoPair | Self::Name => "each line is one user, as `htpasswd -nB -C 12 NAME` prints it",
            Self::Again(_) => "keep one of the lines",
            Self::Hash(_, bad) => bad.help(),
        }
    }
}

/// What an htpasswd file says.
#[derive(Debug, Default)]
pub struct UsersFile {
    /// Each name once.
    pub users: Vec<(String, PasswordHash)>,
    /// What is wrong with other lines, by their numbers from 1.
    pub faults: Vec<(usize, BadLine)>,
}

impl UsersFile {
    /// Reads lines of `name:hash`; empty ones and those that begin with `#` are comments.
    pub fn read(text: &str) -> Self {
        let mut file = Self::default();
        let mut seen = HashSet::new();
        for (index, line) in text.lines().map(str::trim_end).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match user(line) {
                Ok((name, _)) if !seen.insert(name.clone()) => {
                    file.faults.push((index + 1, BadLine::Again(name)));
                }
                Ok(user) => file.users.push(user),
                Err(fault) => file.faults.push((index + 1, fault)),
            }
        }
        file
    }
}

fn user(line: &str) -> Result<(String, PasswordHash), BadLine> {
    let (name, hash) = line.split_once(':').ok_or(BadLine::NoPair)?;
    match name {
        "" => return Err(BadLine::NoPair),
        _ if name.contains(char::is_control) => return Err(BadLine::Name),
        _ => {}
    }
    let hash = PasswordHash::parse(hash).map_err(|bad| BadLine::Hash(name.to_owned(), bad))?;
    Ok((name.to_owned(), hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BCRYPT: &str = "$2y$05$zqOSsRVOxkYq3JVTHTXHOuWI0DvBEaUjqO5tgcxVLU6VbwzzqM.tC";

    fn argon2(params: &str) -> String {
        format!("$argon2id$v=19${params}$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
    }

    #[test]
    fn a_password_belongs_to_its_hash_and_no_other_does() {
        let hash = bcrypt::hash("hunter2", 4).expect("a hash");
        for prefix in ["$2a$", "$2b$", "$2y$"] {
            let hash = PasswordHash::parse(&hash.replace("$2b$", prefix)).expect("taken");
            assert!(hash.verify(b"hunter2"), "{prefix}");
            assert!(!hash.verify(b"hunter3") && !hash.verify(b""), "{prefix}");
        }
        for kind in ["argon2id", "argon2i", "argon2d"] {
            let algorithm = argon2::Algorithm::try_from(kind).expect("an algorithm");
            let params = argon2::Params::new(64, 1, 2, None).expect("parameters");
            let argon2 = Argon2::new(algorithm, argon2::Version::V0x13, params);
            let hash = argon2::PasswordHasher::hash_password_with_salt(&argon2, b"hunter2", b"saltsaltsalt");
            let hash = PasswordHash::parse(&hash.expect("a hash").to_string()).expect("taken");
            assert!(hash.verify(b"hunter2") && !hash.verify(b"hunter3"), "{kind}");
        }
    }

    #[test]
    fn what_is_weak_garbled_or_too_much_work_is_told_apart() {
        let parse = |text: &str| PasswordHash::parse(text).map(|_| ());
        assert_eq!(parse(BCRYPT), Ok(()));
        assert_eq!(parse(&argon2("m=65536,t=4,p=1")), Ok(()));
        assert_eq!(parse(&BCRYPT.replace("$05$", "$15$")), Ok(()));
        for weak in ["$apr1$abc$def", "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "$1$a$b", "$6$a$b", "$2x$05$a"] {
            assert_eq!(parse(weak), Err(BadHash::Weak), "{weak}");
        }
        for text in ["", "hunter2", "rl.3StKT.4T8M", "2y$05$"] {
            assert_eq!(parse(text), Err(BadHash::Unknown), "{text}");
        }
        for text in [&BCRYPT[..59], "$2y$", &BCRYPT.replace("$05$", "$03$"), &BCRYPT.replace('.', "é")] {
            assert_eq!(parse(text), Err(BadHash::Malformed("a bcrypt")), "{text}");
        }
        let cut = argon2("m=64,t=1,p=1");
        let unsalted = "$argon2id$v=19$m=64,t=1,p=1".to_owned();
        for text in [cut[..40].to_owned(), unsalted, argon2("m=1,t=1,p=1"), cut.replace("=19", "=18")] {
            assert_eq!(parse(&text), Err(BadHash::Malformed("an argon2")), "{text}");
        }
        assert_eq!(
            parse("$argon2x$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$AAAA"),
            Err(BadHash::Malformed("an argon2"))
        );
        for text in [
            BCRYPT.replace("$05$", "$16$"),
            argon2("m=262145,t=1,p=1"),
            argon2("m=262144,t=5,p=1"),
            argon2("m=1024,t=1,p=17"),
        ] {
            assert!(matches!(parse(&text), Err(BadHash::TooCostly(_))), "{text}");
        }
    }

    #[test]
    fn a_file_is_read_line_by_line_and_every_fault_has_its_number() {
        let text = format!(
            "# staff\nann:{BCRYPT}\r\n\nbob:hunter2\nann:{BCRYPT}\nno pair\n:{BCRYPT}\n\u{7}x:{BCRYPT}\neve:{BCRYPT}:x\nzoë:{BCRYPT}"
        );
        let UsersFile { users, faults } = UsersFile::read(&text);
        let names: Vec<_> = users.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["ann", "zoë"]);
        let expected = [
            (4, BadLine::Hash("bob".into(), BadHash::Unknown)),
            (5, BadLine::Again("ann".into())),
            (6, BadLine::NoPair),
            (7, BadLine::NoPair),
            (8, BadLine::Name),
            (9, BadLine::Hash("eve".into(), BadHash::Malformed("a bcrypt"))),
        ];
        assert_eq!(faults, expected);
    }

    #[test]
    fn a_hash_is_never_shown() {
        assert_eq!(format!("{:?}", PasswordHash::parse(BCRYPT).expect("taken")), "[redacted]");
    }
}
