//! JSON (RFC 8259), read with positions and numbers as they were written.
//!
//! serde_json keeps a number's digits only under its `arbitrary_precision` feature, which changes how every crate of a build
//! reads numbers, and it does not tell where in the text a value stood. This reader borrows from the payload, keeps both,
//! and refuses what RFC 8259 leaves to chance: a member named twice, and half of a surrogate pair.

use std::borrow::Cow;

use crate::fault::{DecodeError, Fault, Position};
use crate::reading::Special;
use crate::tree::{Budget, Key, Kind, Node, refuse_duplicates};

/// Reads one JSON text. A byte order mark before it is skipped.
pub(crate) fn parse(payload: &[u8]) -> Result<Node<'_>, DecodeError> {
    let budget = Budget::new(payload)?;
    let text =
        std::str::from_utf8(payload).map_err(|error| Position::byte(error.valid_up_to()).error(Fault::NotUtf8))?;
    let at = if text.starts_with('\u{feff}') { 3 } else { 0 };
    let mut reader = Reader { text, at, budget };
    reader.space();
    if reader.peek().is_none() {
        return Err(reader.fail("payload is empty, expected JSON"));
    }
    let root = reader.value(0)?;
    reader.space();
    match reader.peek() {
        None => Ok(root),
        Some(_) => Err(reader.fail("something follows after the end of the JSON value")),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    budget: Budget,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn fail(&self, what: &'static str) -> DecodeError {
        let what = if self.at >= self.text.len() && !self.text.is_empty() { "payload ends inside JSON" } else { what };
        Position::byte(self.at).error(Fault::Syntax(what))
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn slice(&self, from: usize) -> &'a str {
        self.text.get(from..self.at).unwrap_or_default()
    }

    fn value(&mut self, depth: usize) -> Result<Node<'a>, DecodeError> {
        let at = self.at;
        self.budget.take(at, depth)?;
        let kind = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => Kind::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => Kind::Literal(self.number()?),
            _ => self.word()?,
        };
        Ok(Node { at, kind })
    }

    fn word(&mut self) -> Result<Kind<'a>, DecodeError> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        for (word, kind) in
            [("true", Kind::Bool(true)), ("false", Kind::Bool(false)), ("null", Kind::Special(Special::Null))]
        {
            if rest.starts_with(word) {
                self.at += word.len();
                return Ok(kind);
            }
        }
        Err(self.fail("expected a JSON value"))
    }

    fn array(&mut self, depth: usize) -> Result<Kind<'a>, DecodeError> {
        self.at += 1;
        let mut elements = Vec::new();
        self.space();
        if self.eat(b']') {
            return Ok(Kind::Array(elements));
        }
        loop {
            self.space();
            elements.push(self.value(depth + 1)?);
            self.space();
            if self.eat(b']') {
                return Ok(Kind::Array(elements));
            }
            if !self.eat(b',') {
                return Err(self.fail("expected `,` or `]` in an array"));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Kind<'a>, DecodeError> {
        self.at += 1;
        let mut members = Vec::new();
        self.space();
        if self.eat(b'}') {
            return Ok(Kind::Map(members));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.fail("expected a member name in double quotes"));
            }
            let key = Key { text: self.string()?, integer: false };
            self.space();
            if !self.eat(b':') {
                return Err(self.fail("expected `:` after a member name"));
            }
            self.space();
            members.push((key, self.value(depth + 1)?));
            self.space();
            if self.eat(b'}') {
                refuse_duplicates(&members)?;
                return Ok(Kind::Map(members));
            }
            if !self.eat(b',') {
                return Err(self.fail("expected `,` or `}` in an object"));
            }
        }
    }

    fn digits(&mut self) -> Result<(), DecodeError> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.fail("expected a digit"));
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<&'a str, DecodeError> {
        let start = self.at;
        self.eat(b'-');
        if self.eat(b'0') {
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.fail("a number must not begin with 0"));
            }
        } else {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        Ok(self.slice(start))
    }

    fn string(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        self.at += 1;
        let mut owned: Option<String> = None;
        let mut start = self.at;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let last = self.slice(start);
                    self.at += 1;
                    return Ok(match owned {
                        None => Cow::Borrowed(last),
                        Some(mut text) => {
                            text.push_str(last);
                            Cow::Owned(text)
                        }
                    });
                }
                Some(b'\\') => {
                    let text = owned.get_or_insert_default();
                    text.push_str(self.text.get(start..self.at).unwrap_or_default());
                    let character = self.escape()?;
                    if let Some(text) = owned.as_mut() {
                        text.push(character);
                    }
                    start = self.at;
                }
                Some(0..=0x1f) => return Err(self.fail("a control character must be escaped in a string")),
                Some(_) => self.at += 1,
                None => return Err(self.fail("a string does not end")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, DecodeError> {
        self.at += 1;
        let character = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.fail("unknown escape in a string")),
        };
        self.at += 1;
        Ok(character)
    }

    fn unicode(&mut self) -> Result<char, DecodeError> {
        let first = self.hex()?;
        let code = match first {
            0xd800..=0xdbff => {
                if !(self.eat(b'\\') && self.eat(b'u')) {
                    return Err(self.fail("half of a surrogate pair in a string"));
                }
                match self.hex()? {
                    second @ 0xdc00..=0xdfff => 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                    _ => return Err(self.fail("half of a surrogate pair in a string")),
                }
            }
            other => other,
        };
        char::from_u32(code).ok_or_else(|| self.fail("half of a surrogate pair in a string"))
    }

    fn hex(&mut self) -> Result<u32, DecodeError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.fail("expected four hexadecimal digits after \\u"))?;
            self.at += 1;
        }
        Ok(code)
    }
}

/// Appends a string with its quotes, escaped as little as RFC 8259 §7 asks for.
pub(crate) fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if u32::from(control) < 0x20 => {
                out.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}
