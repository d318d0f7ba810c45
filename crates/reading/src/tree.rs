//! The tree that JSON and CBOR are read into: positions kept, numbers as they were written.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::decimal::{Decimal, DecimalError};
use crate::fault::{DecodeError, Fault, Position};
use crate::reading::Special;

/// The largest payload that is read, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;
/// How deep JSON and CBOR may be nested.
pub const MAX_DEPTH: usize = 32;
/// How many values a JSON or CBOR payload may hold.
pub const MAX_NODES: usize = 1 << 16;

/// Objects up to this size are searched for duplicates pairwise.
const FEW_MEMBERS: usize = 12;

#[derive(Debug)]
pub(crate) struct Node<'a> {
    /// Offset of its first byte.
    pub at: usize,
    pub kind: Kind<'a>,
}

#[derive(Debug)]
pub(crate) enum Kind<'a> {
    Special(Special),
    Bool(bool),
    /// JSON: the literal, checked against the grammar and not yet converted.
    Literal(&'a str),
    /// CBOR: converted, or why not. Most members of a payload are not asked for, so it is no fault of the payload yet.
    Number(Result<Decimal, DecimalError>),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    Array(Vec<Node<'a>>),
    Map(Vec<(Key<'a>, Node<'a>)>),
}

/// A member's name. CBOR's integer keys are named by their digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key<'a> {
    pub text: Cow<'a, str>,
    /// An integer in CBOR.
    pub integer: bool,
}

impl<'a> Node<'a> {
    /// What it is, for messages.
    pub fn type_name(&self) -> &'static str {
        match &self.kind {
            Kind::Special(Special::Null) => "null",
            Kind::Special(_) => "a number that is not finite",
            Kind::Bool(_) => "true or false",
            Kind::Literal(_) | Kind::Number(_) => "a number",
            Kind::Text(_) => "a text",
            Kind::Bytes(_) => "bytes",
            Kind::Array(_) => "an array",
            Kind::Map(_) => "an object",
        }
    }

    pub fn mismatch(&self, wanted: &'static str) -> Fault {
        Fault::Type { wanted, found: self.type_name() }
    }

    /// The number, for a number alone.
    pub fn number(&self) -> Result<Decimal, Fault> {
        match &self.kind {
            Kind::Literal(text) => Ok(Decimal::parse(text)?),
            Kind::Number(number) => Ok((*number)?),
            _ => Err(self.mismatch("a number")),
        }
    }

    /// The text, for a text alone.
    pub fn text(&self) -> Result<&str, Fault> {
        match &self.kind {
            Kind::Text(text) => Ok(text),
            _ => Err(self.mismatch("a text")),
        }
    }

    pub fn member(&self, name: &str) -> Option<&Node<'a>> {
        match &self.kind {
            Kind::Map(members) => members.iter().find(|(key, _)| key.text == name).map(|(_, node)| node),
            _ => None,
        }
    }

    pub fn element(&self, index: usize) -> Option<&Node<'a>> {
        match &self.kind {
            Kind::Array(elements) => elements.get(index),
            _ => None,
        }
    }

    /// For JSONPath filters, which compare as floats. Never the source of a value.
    pub fn to_value(&self) -> serde_json::Value {
        use serde_json::Value;
        match &self.kind {
            Kind::Special(_) => Value::Null,
            Kind::Bool(state) => Value::Bool(*state),
            Kind::Literal(text) => number_value(text.parse().ok(), text.parse().ok()),
            Kind::Number(Ok(number)) => {
                number_value(number.to_integer().and_then(|whole| i64::try_from(whole).ok()), Some(number.to_f64()))
            }
            Kind::Number(Err(_)) | Kind::Bytes(_) => Value::Null,
            Kind::Text(text) => Value::String(text.clone().into_owned()),
            Kind::Array(elements) => Value::Array(elements.iter().map(Node::to_value).collect()),
            Kind::Map(members) => Value::Object(
                members.iter().map(|(key, node)| (key.text.clone().into_owned(), node.to_value())).collect(),
            ),
        }
    }
}

fn number_value(whole: Option<i64>, float: Option<f64>) -> serde_json::Value {
    whole
        .map(serde_json::Value::from)
        .or_else(|| float.and_then(serde_json::Number::from_f64).map(serde_json::Value::Number))
        .unwrap_or(serde_json::Value::Null)
}

/// Counts what a reader has taken, so that a small payload cannot make much of itself.
#[derive(Debug)]
pub(crate) struct Budget {
    nodes: usize,
}

impl Budget {
    pub fn new(payload: &[u8]) -> Result<Self, DecodeError> {
        if payload.len() > MAX_PAYLOAD_BYTES {
            let fault = Fault::TooLarge { bytes: payload.len(), limit: MAX_PAYLOAD_BYTES };
            return Err(Position::default().error(fault));
        }
        Ok(Self { nodes: MAX_NODES })
    }

    /// Takes a node at that depth (the root's is 0).
    pub fn take(&mut self, at: usize, depth: usize) -> Result<(), DecodeError> {
        if depth > MAX_DEPTH {
            return Err(Position::byte(at).error(Fault::TooDeep { limit: MAX_DEPTH }));
        }
        self.nodes = self
            .nodes
            .checked_sub(1)
            .ok_or_else(|| Position::byte(at).error(Fault::TooMany { what: "values", limit: MAX_NODES }))?;
        Ok(())
    }
}

/// Refuses an object that names a member twice (RFC 8259 §4 leaves it open which one counts).
pub(crate) fn refuse_duplicates(members: &[(Key<'_>, Node<'_>)]) -> Result<(), DecodeError> {
    let twice = if members.len() <= FEW_MEMBERS {
        let earlier = |index: usize| members.get(..index).unwrap_or_default();
        members
            .iter()
            .enumerate()
            .find(|(index, (key, _))| earlier(*index).iter().any(|(other, _)| other.text == key.text))
            .map(|(_, member)| member)
    } else {
        let mut seen = BTreeSet::new();
        members.iter().find(|(key, _)| !seen.insert(key.text.as_ref()))
    };
    match twice {
        Some((key, node)) => Err(Position::byte(node.at).error(Fault::Duplicate { key: key.text.to_string() })),
        None => Ok(()),
    }
}
