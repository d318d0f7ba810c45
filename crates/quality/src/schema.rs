//! JSON Schema of a whole message. Nothing is fetched: a reference out of the schema is refused when it is read.

use std::{fmt, sync::Arc};

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

/// Largest schema, in bytes.
pub const MAX_SCHEMA_BYTES: usize = 256 * 1024;
/// Longest problem text, in characters: it ends in a reason string.
const MAX_PROBLEM: usize = 200;

/// A compiled JSON Schema. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Schema(Arc<Validator>);

/// Why a text is no usable schema.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Too large.
    #[error("the schema has {0} bytes, at most {MAX_SCHEMA_BYTES} are allowed")]
    TooLarge(usize),
    /// No JSON.
    #[error("not JSON: {0}")]
    Json(serde_json::Error),
    /// No JSON Schema, or one with references to elsewhere.
    #[error("not a schema, or it refers to another document (nothing is fetched: put all of it in one): {0}")]
    Schema(String),
}

impl Schema {
    pub fn new(text: &str) -> Result<Self, SchemaError> {
        if text.len() > MAX_SCHEMA_BYTES {
            return Err(SchemaError::TooLarge(text.len()));
        }
        let schema: Value = serde_json::from_str(text).map_err(SchemaError::Json)?;
        // Patterns without look-around and back references run in linear time, whatever a device sends.
        let validator = jsonschema::options()
            .with_pattern_options(PatternOptions::regex())
            .build(&schema)
            .map_err(|error| SchemaError::Schema(cut(error.to_string())))?;
        Ok(Self(Arc::new(validator)))
    }

    /// Where and what is wrong first, if anything is.
    pub fn check(&self, document: &Value) -> Option<(String, String)> {
        if self.0.is_valid(document) {
            return None;
        }
        let error = self.0.iter_errors(document).next()?;
        Some((cut(error.instance_path().to_string()), cut(error.to_string())))
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_PROBLEM) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_where() {
        let schema =
            Schema::new(r#"{"type":"object","properties":{"t":{"type":"number","maximum":50}},"required":["t"]}"#);
        let schema = schema.unwrap();
        let check = |text: &str, expected: Option<&str>| {
            let found = schema.check(&serde_json::from_str(text).unwrap());
            assert_eq!(found.as_ref().map(|(at, _)| at.as_str()), expected, "{found:?}");
        };
        check(r#"{"t":20.5}"#, None);
        check(r#"{"t":60}"#, Some("/t"));
        check("{}", Some(""));
    }

    #[test]
    fn fetches_nothing() {
        for reference in ["http://127.0.0.1:9/s.json", "file:///etc/hostname", "other.json"] {
            let text = format!(r#"{{"$ref":"{reference}"}}"#);
            assert!(matches!(Schema::new(&text), Err(SchemaError::Schema(_))), "{reference}");
        }
        assert!(matches!(Schema::new("{"), Err(SchemaError::Json(_))));
        assert!(Schema::new(r##"{"$ref":"#/$defs/a","$defs":{"a":{"type":"number"}}}"##).is_ok());
    }
}
