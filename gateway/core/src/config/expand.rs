//! `${env:NAME}`, `${env:NAME:-default}` and `${file:PATH}` inside scalars.
//!
//! Done after parsing: what a variable holds is a value and can never become structure. Where the gateway fills something
//! in for each request, `${client_ip}` and its like are kept as gaps; no variable can bring one along.

use std::ops::Range;
use std::path::Path;

use miette::SourceSpan;

use super::document::{Kind, Node};
use super::problem::{Code, Problem, list};
use crate::template::Placeholder;

/// Where values are filled in for each request: those of `headers.request` and `headers.response`.
const TEMPLATES: &[&str] = &["routes", "*", "headers", "*", "*", "*"];

/// What a configuration may ask of the world around it.
pub trait World {
    /// The value of an environment variable, if it is set and UTF-8.
    fn env(&self, name: &str) -> Option<String>;

    /// The text of a file.
    ///
    /// # Errors
    /// What the file system said.
    fn read(&self, path: &Path) -> std::io::Result<String>;
}

/// The environment and the files of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process;

impl World for Process {
    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, path: &Path) -> std::io::Result<String> {
        std::fs::read_to_string(path)
    }
}

/// Replaces every expression in the tree and collects what went wrong.
pub(crate) struct Expander<'a> {
    pub(crate) source: &'a str,
    pub(crate) dir: &'a Path,
    pub(crate) world: &'a dyn World,
    pub(crate) problems: &'a mut Vec<Problem>,
    /// Values that came from outside, with their places.
    pub(crate) secrets: Vec<(SourceSpan, String)>,
}

impl Expander<'_> {
    /// Expands `root` and everything below it.
    pub(crate) fn expand(&mut self, root: &mut Node) {
        self.below(root, Some(TEMPLATES));
    }

    /// Expands a node; `way` is how far it is from here to the templates, if they are below.
    fn below(&mut self, node: &mut Node, way: Option<&[&str]>) {
        match &mut node.kind {
            Kind::Scalar(scalar) if scalar.text.contains("${") => {
                let mut gaps = Vec::new();
                let open = way.is_some_and(<[_]>::is_empty).then_some(&mut gaps);
                match self.text(&scalar.text, node.span, open) {
                    Some((text, expanded)) => {
                        if expanded {
                            self.secrets.push((node.span, text.clone()));
                        }
                        scalar.text = text;
                        scalar.expanded |= expanded;
                        scalar.gaps = gaps;
                    }
                    None => node.kind = Kind::Refused,
                }
            }
            Kind::Sequence(items) => items.iter_mut().for_each(|item| self.below(item, None)),
            Kind::Mapping(entries) => {
                for entry in entries {
                    let (step, rest) = way.and_then(<[_]>::split_first).unzip();
                    let on_it = step.is_some_and(|step| *step == "*" || *step == entry.key);
                    self.below(&mut entry.value, rest.filter(|_| on_it));
                }
            }
            Kind::Null | Kind::Scalar(_) | Kind::Refused => {}
        }
    }

    /// The text with its expressions replaced, and whether there were any. `None` when one could not be. Placeholders
    /// stay where there is a place to note their gaps, and are refused elsewhere.
    fn text(
        &mut self,
        text: &str,
        span: SourceSpan,
        mut gaps: Option<&mut Vec<(Range<usize>, Placeholder)>>,
    ) -> Option<(String, bool)> {
        let (mut out, mut rest) = (String::with_capacity(text.len()), text);
        let (mut expanded, mut failed) = (false, false);
        while let Some(at) = rest.find("${") {
            if let Some(escaped) = rest[..at].strip_suffix('$') {
                out.push_str(escaped);
                out.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            out.push_str(&rest[..at]);
            let Some(end) = rest[at..].find('}') else {
                self.refuse("`${` is never closed", &rest[at..], span, "write `$${` for a literal `${`");
                return None;
            };
            let expression = &rest[at..=at + end];
            rest = &rest[at + end + 1..];
            if let Some(gaps) = gaps.as_deref_mut()
                && let Some(placeholder) = Placeholder::named(&expression[2..expression.len() - 1])
            {
                gaps.push((out.len()..out.len() + expression.len(), placeholder));
                out.push_str(expression);
                continue;
            }
            match self.value(expression, span, gaps.is_some()) {
                Some(value) => out.push_str(&value),
                None => failed = true,
            }
            expanded = true;
        }
        out.push_str(rest);
        (!failed).then_some((out, expanded))
    }

    /// The value of one `${…}`.
    fn value(&mut self, expression: &str, span: SourceSpan, template: bool) -> Option<String> {
        let inner = &expression[2..expression.len() - 1];
        match inner.split_once(':') {
            Some(("env", name)) => self.variable(expression, name, span),
            Some(("file", path)) if !path.is_empty() => self.file(expression, path, span),
            _ => {
                let forms = "write `${env:NAME}`, `${env:NAME:-default}` or `${file:PATH}`, and `$${` for a literal `${`";
                if template {
                    let known = list(Placeholder::KNOWN.map(|(name, _)| name));
                    let help = format!("placeholders: {known}; or {forms}");
                    self.refuse(&format!("`{expression}` is not a placeholder"), expression, span, &help);
                } else {
                    self.refuse(&format!("`{expression}` is not an expression"), expression, span, forms);
                }
                None
            }
        }
    }

    fn variable(&mut self, expression: &str, name: &str, span: SourceSpan) -> Option<String> {
        let (name, default) = name.split_once(":-").map_or((name, None), |(name, text)| (name, Some(text)));
        let value = self.world.env(name).filter(|value| !value.is_empty() || default.is_none());
        let value = value.or_else(|| default.map(str::to_owned));
        if value.is_none() {
            let help = format!("set it, or give a default: `${{env:{name}:-…}}`");
            self.refuse(&format!("the environment variable `{name}` is not set"), expression, span, &help);
        }
        value
    }

    fn file(&mut self, expression: &str, path: &str, span: SourceSpan) -> Option<String> {
        let path = self.dir.join(path);
        match self.world.read(&path) {
            Ok(text) => {
                let text = text.strip_suffix('\n').unwrap_or(&text);
                Some(text.strip_suffix('\r').unwrap_or(text).to_owned())
            }
            Err(error) => {
                let message = format!("the file `{}` cannot be read: {error}", path.display());
                self.refuse(&message, expression, span, "the path is relative to the configuration file");
                None
            }
        }
    }

    /// Points at the expression itself where the file has it letter by letter.
    fn refuse(&mut self, message: &str, expression: &str, span: SourceSpan, help: &str) {
        let written = self.source.get(span.offset()..span.offset() + span.len()).unwrap_or("");
        let at = match written.find(expression) {
            Some(at) => (span.offset() + at, expression.len()).into(),
            None => span,
        };
        self.problems.push(Problem::error(Code::Expansion, message).at(at, "here").help(help));
    }
}

/// Takes what came from outside out of the messages about it: the file shows `${…}`, and so must the report.
pub(crate) fn redact(problems: &mut [Problem], secrets: &[(SourceSpan, String)]) {
    for problem in problems.iter_mut().filter(|problem| problem.code != Code::Expansion) {
        for (span, secret) in secrets {
            if problem.labels.iter().any(|label| label.span == *span) {
                problem.message = without(&problem.message, secret);
                problem.help = problem.help.as_deref().map(|help| without(help, secret));
            }
        }
    }
}

/// `text` with every quoted part that repeats `secret`, or a piece of it, replaced.
fn without(text: &str, secret: &str) -> String {
    let text = if secret.is_empty() { text.into() } else { text.replace(secret, "[redacted]") };
    let secret = secret.to_lowercase();
    let piece = |(index, part): (usize, &str)| match index % 2 == 1 && secret.contains(&part.to_lowercase()) {
        true => "[redacted]".to_owned(),
        false => part.to_owned(),
    };
    text.split('`').enumerate().map(piece).collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use super::super::document;
    use super::*;

    struct Fake;

    impl World for Fake {
        fn env(&self, name: &str) -> Option<String> {
            match name {
                "HOST" => Some("shop.example".into()),
                "EMPTY" => Some(String::new()),
                "TRICK" => Some("x\nadmin: {}".into()),
                _ => None,
            }
        }

        fn read(&self, path: &Path) -> std::io::Result<String> {
            match path.to_str() {
                Some("/etc/gw/token") => Ok("s3cret\n".into()),
                _ => Err(std::io::ErrorKind::NotFound.into()),
            }
        }
    }

    fn expanded(value: &str) -> Result<String, Vec<Problem>> {
        let (source, mut problems) = (format!("k: '{value}'"), Vec::new());
        let mut root = document::parse(&source, &mut problems).expect("a tree");
        let mut expander = Expander {
            source: &source,
            dir: Path::new("/etc/gw"),
            world: &Fake,
            problems: &mut problems,
            secrets: Vec::new(),
        };
        expander.expand(&mut root);
        match &root.entries()[0].value.kind {
            Kind::Scalar(scalar) => Ok(scalar.text.clone()),
            _ => Err(problems),
        }
    }

    #[test]
    fn variables_files_defaults_and_escapes() {
        assert_eq!(expanded("https://${env:HOST}/x").expect("set"), "https://shop.example/x");
        assert_eq!(expanded("${env:NOPE:-a:b}").expect("default"), "a:b");
        assert_eq!(expanded("${env:NOPE:-}").expect("empty default"), "");
        assert_eq!(expanded("${env:EMPTY:-x}").expect("empty counts as unset"), "x");
        assert_eq!(expanded("${env:EMPTY}").expect("set, if to nothing"), "");
        assert_eq!(expanded("${file:token}").expect("relative, newline taken off"), "s3cret");
        assert_eq!(expanded("$${env:HOST} $5").expect("escaped"), "${env:HOST} $5");
    }

    #[test]
    fn a_value_never_becomes_structure() {
        assert_eq!(expanded("${env:TRICK}").expect("set"), "x\nadmin: {}");
    }

    #[test]
    fn what_cannot_be_replaced_is_pointed_at() {
        let problems = expanded("a${env:NOPE}${file:/nope}").expect_err("two problems");
        assert_eq!(problems.len(), 2);
        assert_eq!(problems[0].labels[0].span, (5, 11).into());
        assert_eq!(problems[1].labels[0].span, (16, 13).into());
        for bad in ["${", "${env:HOST", "${HOST}", "${file:}", "${}"] {
            assert_eq!(expanded(bad).expect_err(bad)[0].code, Code::Expansion, "{bad}");
        }
    }

    #[test]
    fn what_came_from_outside_is_taken_out_of_messages() {
        assert_eq!(
            without("`hunter2:pw` has no port `pw`", "hunter2:pw"),
            "`[redacted]` has no port `[redacted]`"
        );
        assert_eq!(without("`x` is fine", "hunter2"), "`x` is fine");
    }
}
