//! The names people give to things in the configuration file; each kind is a type of its own.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name accepted, in bytes.
pub const MAX_NAME_BYTES: usize = 63;

/// Why a string is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing was written.
    #[error("a name cannot be empty")]
    Empty,
    /// More than [`MAX_NAME_BYTES`] bytes.
    #[error("a name has at most {MAX_NAME_BYTES} characters, this one has {length}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A character outside letters, digits, `-`, `_` and `.`, or a first one that is not a letter or digit.
    #[error(
        "a name holds letters, digits, `-`, `_` and `.` and begins with a letter or digit; `{character}` does not fit"
    )]
    Character {
        /// The first character that does not fit.
        character: char,
    },
}

fn check(name: &str) -> Result<(), InvalidName> {
    let first = name.chars().next().ok_or(InvalidName::Empty)?;
    if name.len() > MAX_NAME_BYTES {
        return Err(InvalidName::TooLong { length: name.len() });
    }
    let odd = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    let stray = if first.is_ascii_alphanumeric() { name.chars().find(odd) } else { Some(first) };
    stray.map_or(Ok(()), |character| Err(InvalidName::Character { character }))
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a name of 1 to [`MAX_NAME_BYTES`] letters, digits, `-`, `_` and `.`.
            ///
            /// # Errors
            /// [`InvalidName`] says what does not fit.
            pub fn new(name: &str) -> Result<Self, InvalidName> {
                check(name).map(|()| Self(name.into()))
            }

            /// The name as written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = String::deserialize(deserializer)?;
                Self::new(&name).map_err(D::Error::custom)
            }
        }
    };
}

name!(
    /// An address, protocol and TLS the gateway accepts connections on.
    ListenerName
);
name!(
    /// A match with its policies and its service.
    RouteName
);
name!(
    /// One application, with its releases.
    ServiceName
);
name!(
    /// One deployed version of a service; the name is its identity (`api-42`, a git SHA).
    ReleaseName
);
name!(
    /// A rate limit that routes refer to.
    LimitName
);

impl ReleaseName {
    /// The release of a service that names none.
    pub fn unnamed() -> Self {
        Self("default".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_git_hash_and_a_version_are_names() {
        for name in ["api-42", "4f3c2b1", "v1.2.3", "web_blue", "A"] {
            assert_eq!(ReleaseName::new(name).expect("a good name").as_str(), name);
        }
    }

    #[test]
    fn what_would_break_a_label_or_a_header_is_refused() {
        assert_eq!(RouteName::new(""), Err(InvalidName::Empty));
        assert_eq!(RouteName::new("-a"), Err(InvalidName::Character { character: '-' }));
        assert_eq!(RouteName::new("a b"), Err(InvalidName::Character { character: ' ' }));
        assert_eq!(RouteName::new("a\nb"), Err(InvalidName::Character { character: '\n' }));
        assert_eq!(RouteName::new(&"a".repeat(64)), Err(InvalidName::TooLong { length: 64 }));
    }
}
