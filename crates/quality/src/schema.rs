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
    #[error("the schema has {0} bytes; at most {MAX_SCHEMA_BYTES} are allowed")]
    TooLarge(usize),
    /// No JSON.
    #[error("not JSON: {0}")]
    Json(serde_json::Error),
    /// No JSON Schema, or one with references to elsewhere.
    #[error("not a schema, or it refers to another document (none is fetched: put everything into one): {0}")]
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

    #[test]
    fn judges_what_devices_send() {
        let check = |schema: &str, good: &str, bad: &str| {
            let compiled = Schema::new(schema).unwrap_or_else(|error| panic!("{schema}: {error}"));
            let found = |text: &str| compiled.check(&serde_json::from_str(text).unwrap());
            assert_eq!(found(good), None, "{schema}");
            assert!(found(bad).is_some(), "{schema} takes {bad}");
        };
        // Decimals as they are written: as binary fractions, 20.3 is no multiple of 0.1.
        check(r#"{"multipleOf":0.1}"#, "20.3", "20.35");
        check(r#"{"pattern":"^[a-z]{2}\\d+$"}"#, r#""ab12""#, r#""ab""#);
        check(r#"{"unevaluatedProperties":false,"properties":{"t":true}}"#, r#"{"t":1}"#, r#"{"u":1}"#);
        for draft in ["04", "06", "07"] {
            let draft = format!("http://json-schema.org/draft-{draft}/schema#");
            check(
                &format!(r#"{{"$schema":"{draft}","format":"date-time"}}"#),
                r#""2026-01-01T00:00:00Z""#,
                r#""noon""#,
            );
        }
        for draft in ["2019-09", "2020-12"] {
            let draft = format!("https://json-schema.org/draft/{draft}/schema");
            check(
                &format!(r#"{{"$schema":"{draft}","dependentRequired":{{"t":["u"]}}}}"#),
                r#"{"t":1,"u":2}"#,
                r#"{"t":1}"#,
            );
        }
    }

    #[test]
    fn patterns_take_linear_time() {
        // What only backtracking can match is refused when the schema is read.
        assert!(matches!(Schema::new(r#"{"pattern":"^(?=a)b"}"#), Err(SchemaError::Schema(_))));
        let schema = Schema::new(r#"{"pattern":"^(a+)+$"}"#).unwrap();
        assert!(schema.check(&Value::String("a".repeat(50_000) + "!")).is_some());
    }
}
