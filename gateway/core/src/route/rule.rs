//! What a route asks of a request.

use http::{HeaderName, Method};
use regex::Regex;

/// A host a route answers to; names are lower case and carry no port and no trailing dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// One name: `shop.example`.
    Exact(String),
    /// `*.shop.example`, kept as `shop.example`: one or more labels below it, never the name itself.
    Wildcard(String),
}

/// A path a route answers to, compared with the normalised path.
#[derive(Debug, Clone)]
pub enum PathRule {
    /// This path and no other.
    Exact(String),
    /// This path and what lies below it by segment: `/api` takes `/api` and `/api/x`, never `/apiary`. `/` takes all.
    Prefix(String),
    /// Paths in which the expression is found (anchor it with `^` and `$`).
    Regex(Regex),
}

/// What is asked of one header field or query parameter.
#[derive(Debug, Clone)]
pub enum ValueRule {
    /// It is there, whatever its value.
    Present,
    /// One of its values is this, to the letter.
    Exact(String),
    /// The expression is found in one of its values.
    Regex(Regex),
}

/// Everything a route asks. A list that is empty asks nothing; within a list one is enough, between lists all count.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Match {
    /// Hosts, any of them.
    pub hosts: Vec<HostPattern>,
    /// Paths, any of them.
    pub paths: Vec<PathRule>,
    /// Methods, any of them.
    pub methods: Vec<Method>,
    /// Header fields, all of them.
    pub headers: Vec<(HeaderName, ValueRule)>,
    /// Query parameters, all of them.
    pub query: Vec<(String, ValueRule)>,
}

impl PartialEq for PathRule {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) | (Self::Prefix(a), Self::Prefix(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

impl PartialEq for ValueRule {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Present, Self::Present) => true,
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}
