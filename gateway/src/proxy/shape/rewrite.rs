//! `rewrite`: another path, another Host.

use gateway_core::config::model::{self, PathRewrite};
use http::{HeaderMap, HeaderName, HeaderValue, header};

const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// A `rewrite` made ready.
#[derive(Debug)]
pub(crate) struct Rewrite {
    path: Option<PathRewrite>,
    /// The prefix that is taken away, for the origin to know.
    stripped: Option<HeaderValue>,
    host: Option<HeaderValue>,
}

/// A path that takes the place of the one asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rewritten {
    pub(crate) path: String,
    /// Whether the prefix was taken away, so that the origin may have to put it back into its links.
    pub(crate) stripped: bool,
}

impl Rewrite {
    /// `None` when there is nothing to rewrite.
    pub(crate) fn new(rewrite: &model::Rewrite) -> Option<Box<Self>> {
        let stripped = match &rewrite.path {
            Some(PathRewrite::StripPrefix(prefix)) => HeaderValue::from_str(prefix).ok(),
            _ => None,
        };
        let host = rewrite.host.as_ref().and_then(|host| HeaderValue::from_str(host).ok());
        let present = rewrite.path.is_some() || host.is_some();
        present.then(|| Box::new(Self { path: rewrite.path.clone(), stripped, host }))
    }

    /// What becomes of a normalised path whose first `prefix_bytes` the route was matched by; `None` leaves it.
    pub(crate) fn path(&self, path: &str, prefix_bytes: usize) -> Option<Rewritten> {
        match self.path.as_ref()? {
            PathRewrite::StripPrefix(prefix) => {
                let rest = path.strip_prefix(prefix.trim_end_matches('/'))?;
                let whole = rest.is_empty() || rest.starts_with('/');
                (whole && rest.len() < path.len())
                    .then(|| Rewritten { path: rooted("", rest), stripped: true })
            }
            PathRewrite::ReplacePrefix(prefix) => {
                let rest = path.get(prefix_bytes..)?;
                Some(Rewritten { path: rooted(prefix.trim_end_matches('/'), rest), stripped: false })
            }
        }
    }

    /// Tells the origin, after everything that reads what the client sent.
    pub(crate) fn request(&self, upstream: &mut HeaderMap, stripped: bool) {
        if let Some(prefix) = self.stripped.as_ref().filter(|_| stripped) {
            upstream.insert(FORWARDED_PREFIX, prefix.clone());
        }
        if let Some(host) = &self.host {
            upstream.insert(header::HOST, host.clone());
        }
    }
}

/// What is left of a path is at least `/`.
fn rooted(prefix: &str, rest: &str) -> String {
    match (prefix, rest) {
        ("", "") => "/".to_owned(),
        _ => format!("{prefix}{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(rewrite: PathRewrite, path: &str, prefix_bytes: usize) -> Option<String> {
        let rewrite = Rewrite::new(&model::Rewrite { path: Some(rewrite), host: None })?;
        rewrite.path(path, prefix_bytes).map(|rewritten| rewritten.path)
    }

    #[test]
    fn a_prefix_is_taken_away_by_segment_and_what_is_left_is_never_empty() {
        let strip = |path| rewritten(PathRewrite::StripPrefix("/api".into()), path, 4);
        assert_eq!(strip("/api").as_deref(), Some("/"));
        assert_eq!(strip("/api/").as_deref(), Some("/"));
        assert_eq!(strip("/api/x/").as_deref(), Some("/x/"));
        assert_eq!(strip("/apiary"), None);
        assert_eq!(strip("/x/api"), None);
        assert_eq!(rewritten(PathRewrite::StripPrefix("/".into()), "/x", 0), None);
    }

    #[test]
    fn another_prefix_takes_the_place_of_the_matched_one() {
        let replace = |prefix: &str, path, bytes| {
            rewritten(PathRewrite::ReplacePrefix(prefix.into()), path, bytes).unwrap_or_default()
        };
        assert_eq!(replace("/v1", "/api", 4), "/v1");
        assert_eq!(replace("/v1", "/api/", 4), "/v1/");
        assert_eq!(replace("/v1", "/api/x", 4), "/v1/x");
        assert_eq!(replace("/", "/api", 4), "/");
        assert_eq!(replace("/", "/api/x", 4), "/x");
        assert_eq!(replace("/v1", "/x", 0), "/v1/x");
    }
}
