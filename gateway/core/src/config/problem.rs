//! What is wrong with a configuration, and where.

use std::fmt;

use miette::{Diagnostic, LabeledSpan, SourceSpan};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, and probably should not.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// The kind of a problem. Its text is stable: scripts may match on it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)+
        }

        impl Code {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// `gateway::…`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => concat!("gateway::", $text),)+
                }
            }
        }
    };
}

codes! {
    /// The file is not YAML, or uses a part of YAML that the grammar does without.
    Syntax = "syntax",
    /// One key twice in one mapping.
    DuplicateKey = "duplicate_key",
    /// A key the grammar does not know.
    UnknownKey = "unknown_key",
    /// A key that has to be there is not.
    MissingKey = "missing_key",
    /// A list where a mapping is due, and so on.
    WrongType = "wrong_type",
    /// Of the right type, but not legal.
    InvalidValue = "invalid_value",
    /// A quantity without its unit, or with an unknown one.
    InvalidUnit = "invalid_unit",
    /// Not a name.
    InvalidName = "invalid_name",
    /// `${…}` cannot be replaced.
    Expansion = "expansion",
    /// Part of the grammar, not yet of this version.
    NotSupportedYet = "not_supported_yet",
    /// A route names a service that is not declared.
    UnknownService = "unknown_service",
    /// A service names a release that it does not declare.
    UnknownRelease = "unknown_release",
    /// A route names a rate limit that is not declared.
    UnknownLimit = "unknown_limit",
    /// Two things that exclude each other.
    Conflict = "conflict",
    /// More connections than the process may have open files for.
    TooManyFiles = "too_many_files",
    /// Two listeners on one address.
    AddressTaken = "address_taken",
    /// Two routes that ask for exactly the same requests.
    DuplicateRoute = "duplicate_route",
    /// The admin listener can be reached from outside and asks for no token.
    TokenRequired = "token_required",
    /// Everybody is trusted to say who they are.
    TrustsEverybody = "trusts_everybody",
    /// Stable and canary are the same process.
    SharedEndpoint = "shared_endpoint",
    /// Connections are kept longer than most origins keep them.
    LongKeepalive = "long_keepalive",
    /// No request can reach this route.
    UnreachableRoute = "unreachable_route",
    /// Counting together needs a fleet.
    NoFleet = "no_fleet",
    /// Declared and never used.
    Unused = "unused",
    /// A certificate does not cover a host that is routed.
    CertificateHost = "certificate_host",
    /// A certificate ends soon.
    CertificateExpiry = "certificate_expiry",
    /// A file that the configuration names cannot be used.
    File = "file",
    /// The release was rolled back and must not come back by the file alone.
    RolledBack = "rolled_back",
    /// Only a new process can take it up.
    NeedsRestart = "needs_restart",
    /// A host name that does not resolve.
    Resolve = "resolve",
}

/// A place in the file, and what is to be said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Byte offset and length in the configuration file.
    pub span: SourceSpan,
    /// A word or two; may be empty.
    pub text: String,
}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// What kind it is.
    pub code: Code,
    /// Whether the configuration can be used all the same.
    pub severity: Severity,
    /// One sentence, lower case, without a full stop.
    pub message: String,
    /// Where; the first is the cause, others explain it.
    pub labels: Vec<Label>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Problem {
    /// Something that keeps the configuration from being used.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Error, message: message.into(), labels: Vec::new(), help: None }
    }

    /// Something to think about.
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// Adds a place; the first one added is the cause.
    #[must_use]
    pub fn at(mut self, span: SourceSpan, label: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: label.into() });
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says what to do about it, if there is something to say.
    #[must_use]
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    /// Where it begins; 0 when it has no place.
    pub(crate) fn offset(&self) -> usize {
        self.labels.first().map_or(0, |label| label.span.offset())
    }
}

impl Diagnostic for Problem {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code.as_str()))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let text = |label: &Label| (!label.text.is_empty()).then(|| label.text.clone());
        let labels = self.labels.iter().enumerate().map(move |(index, label)| match index {
            0 => LabeledSpan::new_primary_with_span(text(label), label.span),
            _ => LabeledSpan::new_with_span(text(label), label.span),
        });
        Some(Box::new(labels))
    }
}

/// The declared names in order, for a help text: `declared services: api, web`. Long lists are cut.
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let mut names = names.into_iter();
    let mut shown: Vec<&str> = names.by_ref().take(SHOWN).collect();
    shown.sort_unstable();
    let rest = names.count();
    match (shown.is_empty(), rest) {
        (true, _) => "none".into(),
        (false, 0) => shown.join(", "),
        (false, rest) => format!("{} and {rest} more", shown.join(", ")),
    }
}

/// The candidate that looks most like `text`, if one is near enough to have been meant.
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const NEAR: f64 = 0.8;
    const LONGEST: usize = 100;
    const SHORTEST: usize = 3;
    if text.len() > LONGEST {
        return None;
    }
    let one_slip =
        |candidate: &str| candidate.len() >= SHORTEST && strsim::osa_distance(text, candidate) == 1;
    let likeness = |candidate: &str| match one_slip(candidate) {
        true => 1.0,
        false => strsim::jaro_winkler(text, candidate),
    };
    let best =
        candidates.into_iter().map(|name| (likeness(name), name)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= NEAR).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_proposed_and_a_far_one_is_not() {
        assert_eq!(nearest("sevice", ["service", "match", "limits"]), Some("service"));
        assert_eq!(nearest("endpoint", ["endpoints", "releases"]), Some("endpoints"));
        assert_eq!(nearest("wbe", ["api", "web"]), Some("web"));
        assert_eq!(nearest("zzz", ["service", "match"]), None);
    }

    #[test]
    fn codes_are_distinct() {
        let mut texts: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), Code::ALL.len());
    }
}
