//! From the document to typed values, reporting everything that does not fit and never stopping at the first.
//!
//! A value that does not fit is reported and left out; what stands beside it is read all the same.

use std::borrow::Cow;

use miette::SourceSpan;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::document::{Entry, Kind, Node};
use super::model::At;
use super::problem::{Code, Problem, list, nearest};

/// Where problems go.
pub(crate) type Problems = Vec<Problem>;

/// A value that can be read from a node. `None` says that a problem was reported.
pub(crate) trait Decode: Sized {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self>;
}

/// A value written as one scalar.
pub(crate) trait Leaf: Sized {
    /// What is due, with its article: "a duration".
    const WHAT: &'static str;

    fn parse(text: &str) -> Result<Self, Fault>;
}

/// Why a scalar is not the value that is due.
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Fault {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { code: Code::InvalidValue, message: message.into(), help: None }
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

impl<T: Leaf> Decode for T {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let Kind::Scalar(scalar) = &node.kind else {
            return wrong_type(node, T::WHAT, problems);
        };
        match T::parse(&scalar.text) {
            Ok(value) => Some(value),
            Err(fault) => {
                let problem = Problem::error(fault.code, fault.message).at(node.span, "here");
                problems.push(problem.maybe_help(fault.help));
                None
            }
        }
    }
}

impl<T: Decode> Decode for At<T> {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        T::decode(node, problems).map(|value| Self { value, span: node.span })
    }
}

/// A value that most files leave out, kept aside so that what holds it stays small.
#[derive(Debug, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Rare<T>(Box<T>);

impl<T> std::ops::Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Decode> Decode for Rare<T> {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        T::decode(node, problems).map(|value| Self(Box::new(value)))
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let Kind::Sequence(items) = &node.kind else {
            return wrong_type(node, "a list", problems);
        };
        Some(items.iter().filter_map(|item| T::decode(item, problems)).collect())
    }
}

/// A list with its place, that knows how many items were written even if some did not fit.
#[derive(Debug)]
pub(crate) struct List<T> {
    pub(crate) items: Vec<T>,
    pub(crate) span: SourceSpan,
    written: usize,
}

impl<T> List<T> {
    /// Whether nothing was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.written == 0
    }
}

impl<T: Decode> Decode for List<T> {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let Kind::Sequence(items) = &node.kind else {
            return wrong_type(node, "a list", problems);
        };
        let written = items.len();
        let items = items.iter().filter_map(|item| T::decode(item, problems)).collect();
        Some(Self { items, span: node.span, written })
    }
}

impl<T: JsonSchema> JsonSchema for List<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Vec::<T>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<T>::json_schema(generator)
    }
}

/// One value, or a list of them.
#[derive(Debug, JsonSchema)]
#[schemars(untagged, inline)]
pub(crate) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// The one, or all of them.
    pub(crate) fn as_slice(&self) -> &[T] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

impl<T: Decode> Decode for OneOrMany<T> {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        match &node.kind {
            Kind::Sequence(_) => Vec::decode(node, problems).map(Self::Many),
            _ => T::decode(node, problems).map(Self::One),
        }
    }
}

/// One value or several, where none at all could be read as "nobody" and as "everybody".
#[derive(Debug, JsonSchema)]
#[schemars(inline)]
pub(crate) struct AtLeastOne<T>(pub(crate) OneOrMany<T>);

impl<T: Decode> Decode for AtLeastOne<T> {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        if matches!(&node.kind, Kind::Sequence(items) if items.is_empty()) {
            let problem = Problem::error(Code::InvalidValue, "an empty list does not say what is meant");
            problems.push(problem.at(node.span, "empty").help("leave the key out to ask nothing"));
            return None;
        }
        OneOrMany::decode(node, problems).map(Self)
    }
}

/// Values under names of the operator's choice. A name whose value did not fit stays, so that it still resolves.
#[derive(Debug)]
pub(crate) struct Map<T> {
    pub(crate) entries: Vec<Named<T>>,
}

/// A value under its name.
#[derive(Debug)]
pub(crate) struct Named<T> {
    pub(crate) name: At<String>,
    /// `None` when it did not fit at all.
    pub(crate) value: Option<T>,
    /// Whether all of it fitted. Where not, what seems to be missing may have been written badly, and was reported.
    pub(crate) sound: bool,
}

impl<T> Map<T> {
    /// Every name, in the order of the file.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.value.as_str())
    }

    /// Every name with its place.
    pub(crate) fn entry_names(&self) -> impl Iterator<Item = &At<String>> {
        self.entries.iter().map(|entry| &entry.name)
    }

    /// Names and values, without those that did not fit.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&At<String>, &T)> {
        self.entries.iter().filter_map(|entry| Some((&entry.name, entry.value.as_ref()?)))
    }
}

impl<T: Decode> Decode for Map<T> {
    fn decode(node: &Node, problems: &mut Problems) -> Option<Self> {
        let Kind::Mapping(entries) = &node.kind else {
            return wrong_type(node, "a mapping", problems);
        };
        let mut named = |entry: &Entry| {
            let before = problems.len();
            let value = T::decode(&entry.value, problems);
            let sound =
                value.is_some() && problems[before..].iter().all(|problem| problem.code == Code::UnknownKey);
            Named { name: At { value: entry.key.clone(), span: entry.key_span }, value, sound }
        };
        Some(Self { entries: entries.iter().map(&mut named).collect() })
    }
}

impl<T: JsonSchema> JsonSchema for Map<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Map_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<T>() })
    }
}

/// Reports that something else was due, and gives nothing.
pub(crate) fn wrong_type<T>(node: &Node, expected: &str, problems: &mut Problems) -> Option<T> {
    if !matches!(node.kind, Kind::Refused) {
        let message = format!("expected {expected}, found {}", node.describe());
        problems.push(Problem::error(Code::WrongType, message).at(node.span, format!("not {expected}")));
    }
    None
}

/// The entries of a mapping whose keys are known.
pub(crate) struct Fields<'a> {
    entries: &'a [Entry],
    span: SourceSpan,
}

impl<'a> Fields<'a> {
    /// Takes a mapping and reports the keys that are not in `known`.
    pub(crate) fn of(node: &'a Node, known: &[&'static str], problems: &mut Problems) -> Option<Self> {
        let Kind::Mapping(entries) = &node.kind else {
            return wrong_type(node, "a mapping", problems);
        };
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let help = match nearest(&entry.key, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known keys here: {}", list(known.iter().copied())),
            };
            let problem =
                Problem::error(Code::UnknownKey, format!("the key `{}` is not known here", entry.key));
            problems.push(problem.at(entry.key_span, "not known").help(help));
        }
        Some(Self { entries, span: node.span })
    }

    fn get(&self, key: &str) -> Option<&'a Node> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }
}

/// A field of a mapping: an `Option` may be absent, everything else has to be there.
pub(crate) trait Field: Sized {
    fn take(fields: &Fields<'_>, key: &'static str, problems: &mut Problems) -> Option<Self>;
}

impl<T: Decode> Field for Option<T> {
    fn take(fields: &Fields<'_>, key: &'static str, problems: &mut Problems) -> Option<Self> {
        Some(fields.get(key).and_then(|node| T::decode(node, problems)))
    }
}

impl<T: Decode> Field for T {
    fn take(fields: &Fields<'_>, key: &'static str, problems: &mut Problems) -> Option<Self> {
        let Some(node) = fields.get(key) else {
            let problem = Problem::error(Code::MissingKey, format!("the key `{key}` is missing"));
            problems.push(problem.at(fields.span, format!("needs `{key}`")));
            return None;
        };
        T::decode(node, problems)
    }
}

/// Writes a mapping of the grammar once: the struct, its reading and its schema.
///
/// A field's key is its name, or the literal after `as`. Field docs become the descriptions of the schema.
macro_rules! mapping {
    ($(
        $(#[$meta:meta])*
        pub(crate) struct $name:ident {
            $($(#[$field_meta:meta])* $field:ident $(as $key:literal)?: $type:ty,)*
        }
    )+) => {$(
        $(#[$meta])*
        #[derive(Debug, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        pub(crate) struct $name {
            $($(#[$field_meta])* $(#[schemars(rename = $key)])? pub(crate) $field: $type,)*
        }

        impl $crate::config::decode::Decode for $name {
            fn decode(
                node: &$crate::config::document::Node,
                problems: &mut $crate::config::decode::Problems,
            ) -> Option<Self> {
                use $crate::config::decode::{Field, Fields, key};
                const KNOWN: &[&str] = &[$(key!($field $($key)?)),*];
                let fields = Fields::of(node, KNOWN, problems)?;
                $(let $field = <$type as Field>::take(&fields, key!($field $($key)?), problems);)*
                Some(Self { $($field: $field?,)* })
            }
        }
    )+};
}

/// The key of a field.
macro_rules! key {
    ($field:ident $key:literal) => {
        $key
    };
    ($field:ident) => {
        stringify!($field)
    };
}

/// Makes an enum a scalar of the grammar: each text and what it means.
macro_rules! choice {
    ($type:ty, $what:literal: $($text:literal => $value:expr),+ $(,)?) => {
        impl $crate::config::decode::Leaf for $type {
            const WHAT: &'static str = $what;

            fn parse(text: &str) -> Result<Self, $crate::config::decode::Fault> {
                match text {
                    $($text => Ok($value),)+
                    _ => Err($crate::config::decode::not_one_of(text, $what, &[$($text),+])),
                }
            }
        }

        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "enum": [$($text),+] })
            }
        }
    };
}

pub(crate) use {choice, key, mapping};

/// None of the texts that a choice knows.
pub(crate) fn not_one_of(text: &str, what: &str, known: &[&'static str]) -> Fault {
    let fault = Fault::new(format!("`{text}` is not {what}"));
    const FEW: usize = 2;
    match nearest(text, known.iter().copied()).filter(|_| known.len() > FEW) {
        Some(near) => fault.help(format!("did you mean `{near}`? It is one of: {}", known.join(", "))),
        None => fault.help(format!("one of: {}", known.join(", "))),
    }
}
