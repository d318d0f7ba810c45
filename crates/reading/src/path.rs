//! JSONPath (RFC 9535), applied to a payload's tree.
//!
//! serde_json_path checks every path and answers the ones with filters, slices, wildcards and descendants. It works on
//! serde_json's values, which round numbers, so its answer is taken as a *place*, and the value is read from the tree at
//! that place. A path of names and indexes alone (nearly all are) is walked directly.

use std::cell::OnceCell;

use serde_json_path::{JsonPath, PathElement};

use crate::fault::{DecodeError, Fault, Position};
use crate::reading::Special;
use crate::tree::{Kind, Node};

/// The longest path that is taken from a configuration, in bytes.
pub const MAX_PATH_BYTES: usize = 512;

/// A compiled path.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    text: String,
    /// For singular queries: the way down.
    steps: Option<Vec<Step>>,
    query: JsonPath,
}

#[derive(Debug, Clone)]
enum Step {
    Name(String),
    Index(usize),
}

/// A payload's tree, and its copy in serde_json's values once a path has asked for it.
pub(crate) struct Document<'a> {
    pub root: Node<'a>,
    value: OnceCell<serde_json::Value>,
}

impl<'a> Document<'a> {
    pub fn new(root: Node<'a>) -> Self {
        Self { root, value: OnceCell::new() }
    }
}

impl Path {
    /// Compiles a path; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_PATH_BYTES {
            return Err(format!("longer than {MAX_PATH_BYTES} bytes"));
        }
        // The parser behind it recurses for each bracket.
        let depth = text.bytes().filter(|byte| matches!(byte, b'[' | b'(' | b'!')).count();
        if depth > 32 {
            return Err("more than 32 brackets".to_owned());
        }
        let query = JsonPath::parse(text).map_err(|error| error.to_string())?;
        Ok(Self { text: text.to_owned(), steps: singular(text), query })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The value at the path; `None` if there is none.
    pub fn select<'n, 'a>(&self, document: &'n Document<'a>) -> Result<Option<&'n Node<'a>>, DecodeError> {
        if let Some(steps) = &self.steps {
            return Ok(steps.iter().try_fold(&document.root, |node, step| match step {
                Step::Name(name) => node.member(name),
                Step::Index(index) => node.element(*index),
            }));
        }
        let value = document.value.get_or_init(|| document.root.to_value());
        let found = self.query.query_located(value);
        let Some(first) = found.first() else { return Ok(None) };
        if found.len() > 1 {
            return Err(Position::path(self.text.as_str()).error(Fault::Ambiguous { count: found.len() }));
        }
        Ok(first.location().iter().try_fold(&document.root, |node, element| match element {
            PathElement::Name(name) => node.member(name),
            PathElement::Index(index) => node.element(*index),
        }))
    }

    /// The value at the path; `None` if there is none, or null.
    pub fn select_some<'n, 'a>(&self, document: &'n Document<'a>) -> Result<Option<&'n Node<'a>>, DecodeError> {
        let null = |node: &&Node<'_>| matches!(node.kind, Kind::Special(Special::Null));
        Ok(self.select(document)?.filter(|node| !null(node)))
    }
}

/// The steps of a path like `$.a.b[0]['c']`; `None` for what is more than that, or escaped.
fn singular(text: &str) -> Option<Vec<Step>> {
    let mut rest = text.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (name, tail) = after.split_at(end);
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii();
            if name.is_empty() || !name.chars().all(plain) {
                return None;
            }
            steps.push(Step::Name(name.to_owned()));
            rest = tail;
        } else {
            let after = rest.strip_prefix('[')?;
            let quote = after.chars().next()?;
            if matches!(quote, '\'' | '"') {
                let (name, tail) = after.get(1..)?.split_once(quote)?;
                if name.contains('\\') {
                    return None;
                }
                steps.push(Step::Name(name.to_owned()));
                rest = tail.strip_prefix(']')?;
            } else {
                let (index, tail) = after.split_once(']')?;
                if !index.bytes().all(|byte| byte.is_ascii_digit()) {
                    return None;
                }
                steps.push(Step::Index(index.parse().ok()?));
                rest = tail;
            }
        }
    }
    Some(steps)
}
