//! CBOR (RFC 8949): what a reading needs of it, with positions, and with the digits that a number has.
//!
//! A general decoder into values loses what is wanted here: where an item stood, and how wide a float was (the half
//! precision `0.1` is the number 0.1 measured coarsely, not 0.0999755859375). Decimal fractions (tag 4), bigfloats (tag 5)
//! and big integers (tags 2 and 3) are numbers; every other tag is passed over for the item in it.

use std::borrow::Cow;

use crate::decimal::{Decimal, DecimalError};
use crate::fault::{DecodeError, Fault, Position};
use crate::reading::Special;
use crate::tree::{Budget, Key, Kind, Node, refuse_duplicates};

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;
const BREAK: u8 = 0xff;

/// Reads one CBOR item that fills the payload.
pub(crate) fn parse(payload: &[u8]) -> Result<Node<'_>, DecodeError> {
    let budget = Budget::new(payload)?;
    let mut reader = Reader { bytes: payload, at: 0, budget };
    let root = reader.item(0)?;
    if reader.at < payload.len() {
        return Err(reader.fail("something follows after the end of the CBOR item"));
    }
    Ok(root)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    budget: Budget,
}

/// The first byte of an item and its argument; `None` for an indefinite length.
struct Head {
    at: usize,
    major: u8,
    info: u8,
    argument: Option<u64>,
}

impl<'a> Reader<'a> {
    fn fail(&self, what: &'static str) -> DecodeError {
        Position::byte(self.at).error(Fault::Syntax(what))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], DecodeError> {
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(slice) => {
                self.at += slice.len();
                Ok(slice)
            }
            None => Err(self.fail("payload ends inside CBOR")),
        }
    }

    fn eat_break(&mut self) -> bool {
        let found = self.bytes.get(self.at) == Some(&BREAK);
        self.at += usize::from(found);
        found
    }

    fn head(&mut self) -> Result<Head, DecodeError> {
        let at = self.at;
        let first = self.take(1)?.first().copied().unwrap_or_default();
        let (major, info) = (first >> 5, first & 0x1f);
        let argument = match info {
            0..=23 => Some(u64::from(info)),
            24..=27 => {
                let bytes = self.take(1 << (info - 24))?;
                Some(bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
            }
            31 if matches!(major, BYTES..=MAP) => None,
            31 if major == SIMPLE => {
                return Err(Position::byte(at).error(Fault::Syntax("a break where no item is open")));
            }
            _ => return Err(Position::byte(at).error(Fault::Syntax("not a CBOR item"))),
        };
        Ok(Head { at, major, info, argument })
    }

    fn item(&mut self, depth: usize) -> Result<Node<'a>, DecodeError> {
        let head = self.head()?;
        self.budget.take(head.at, depth)?;
        let kind = match (head.major, head.argument) {
            (UNSIGNED, Some(value)) => Kind::Number(Ok(value.into())),
            (NEGATIVE, Some(value)) => Kind::Number(Ok(Decimal::new(-1 - i128::from(value), 0))),
            (BYTES, length) => Kind::Bytes(self.chunks(BYTES, length)?),
            (TEXT, length) => Kind::Text(self.text(head.at, length)?),
            (ARRAY, length) => Kind::Array(self.array(length, depth)?),
            (MAP, length) => Kind::Map(self.map(length, depth)?),
            (TAG, Some(tag)) => return self.tagged(head.at, tag, depth),
            (_, Some(argument)) => self.simple(&head, argument)?,
            (_, None) => return Err(self.fail("not a CBOR item")),
        };
        Ok(Node { at: head.at, kind })
    }

    /// A string, in one piece or in chunks of its own type (RFC 8949 §3.2.3).
    fn chunks(&mut self, major: u8, length: Option<u64>) -> Result<Cow<'a, [u8]>, DecodeError> {
        if let Some(length) = length {
            return Ok(Cow::Borrowed(self.take(length)?));
        }
        let mut whole = Vec::new();
        while !self.eat_break() {
            let chunk = self.head()?;
            match chunk.argument {
                Some(length) if chunk.major == major => whole.extend_from_slice(self.take(length)?),
                _ => return Err(Position::byte(chunk.at).error(Fault::Syntax("a chunk of another type in a string"))),
            }
        }
        Ok(Cow::Owned(whole))
    }

    fn text(&mut self, at: usize, length: Option<u64>) -> Result<Cow<'a, str>, DecodeError> {
        let fault = |_| Position::byte(at).error(Fault::NotUtf8);
        match self.chunks(TEXT, length)? {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(fault),
            Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|e| fault(e.utf8_error())),
        }
    }

    fn array(&mut self, length: Option<u64>, depth: usize) -> Result<Vec<Node<'a>>, DecodeError> {
        // Nothing is reserved by a length that was only announced.
        let mut elements = Vec::new();
        let mut left = length;
        while self.another(&mut left) {
            elements.push(self.item(depth + 1)?);
        }
        Ok(elements)
    }

    fn map(&mut self, length: Option<u64>, depth: usize) -> Result<Vec<(Key<'a>, Node<'a>)>, DecodeError> {
        let mut members = Vec::new();
        let mut left = length;
        while self.another(&mut left) {
            let key = self.key()?;
            members.push((key, self.item(depth + 1)?));
        }
        refuse_duplicates(&members)?;
        Ok(members)
    }

    fn another(&mut self, left: &mut Option<u64>) -> bool {
        match left {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => !self.eat_break(),
        }
    }

    fn key(&mut self) -> Result<Key<'a>, DecodeError> {
        let head = self.head()?;
        match (head.major, head.argument) {
            (TEXT, length) => Ok(Key { text: self.text(head.at, length)?, integer: false }),
            (UNSIGNED, Some(value)) => Ok(Key { text: integer_name(i128::from(value)), integer: true }),
            (NEGATIVE, Some(value)) => Ok(Key { text: integer_name(-1 - i128::from(value)), integer: true }),
            _ => Err(Position::byte(head.at).error(Fault::Syntax("a map key must be a text or an integer"))),
        }
    }

    fn tagged(&mut self, at: usize, tag: u64, depth: usize) -> Result<Node<'a>, DecodeError> {
        let inner = self.item(depth + 1)?;
        let kind = match tag {
            2 | 3 => Kind::Number(big_integer(&inner, tag == 3).ok_or_else(|| malformed(at))?),
            4 | 5 => {
                let (exponent, mantissa) = fraction_parts(&inner).ok_or_else(|| malformed(at))?;
                Kind::Number(mantissa.and_then(|mantissa| {
                    if tag == 4 { Decimal::from_exponent(mantissa, exponent) } else { bigfloat(mantissa, exponent) }
                }))
            }
            _ => inner.kind,
        };
        Ok(Node { at, kind })
    }

    fn simple(&mut self, head: &Head, argument: u64) -> Result<Kind<'a>, DecodeError> {
        let float = |value: f64, decimal: Result<Decimal, DecimalError>| match Special::from_f64(value) {
            Some(special) => Kind::Special(special),
            None => Kind::Number(decimal),
        };
        Ok(match (head.info, argument) {
            (20, _) => Kind::Bool(false),
            (21, _) => Kind::Bool(true),
            (22 | 23, _) => Kind::Special(Special::Null),
            (25, bits) => {
                let bits = u16::try_from(bits).unwrap_or_default();
                float(half_to_f64(bits), half_to_decimal(bits))
            }
            (26, bits) => {
                let value = f32::from_bits(u32::try_from(bits).unwrap_or_default());
                float(f64::from(value), Decimal::from_f32(value))
            }
            (27, bits) => float(f64::from_bits(bits), Decimal::from_f64(f64::from_bits(bits))),
            _ => return Err(Position::byte(head.at).error(Fault::Syntax("a simple value without a meaning"))),
        })
    }
}

fn malformed(at: usize) -> DecodeError {
    Position::byte(at).error(Fault::Syntax("the item in this tag is not what the tag says"))
}

/// A big integer's bytes as a number (RFC 8949 §3.4.3).
fn big_integer(node: &Node<'_>, negative: bool) -> Option<Result<Decimal, DecimalError>> {
    let Kind::Bytes(bytes) = &node.kind else { return None };
    let significant = bytes.iter().position(|&byte| byte != 0).and_then(|first| bytes.get(first..)).unwrap_or_default();
    if significant.len() > 16 {
        return Some(Err(DecimalError::TooLarge));
    }
    let value = significant.iter().fold(0u128, |value, &byte| value << 8 | u128::from(byte));
    let value = i128::try_from(value).map_err(|_| DecimalError::TooLarge);
    Some(value.map(|value| Decimal::new(if negative { -1 - value } else { value }, 0)))
}

/// `[exponent, mantissa]` (RFC 8949 §3.4.4). Exponents beyond 64 bits are far out of range either way.
fn fraction_parts(node: &Node<'_>) -> Option<(i64, Result<i128, DecimalError>)> {
    let Kind::Array(parts) = &node.kind else { return None };
    let [exponent, mantissa] = parts.as_slice() else { return None };
    let (Kind::Number(exponent), Kind::Number(mantissa)) = (&exponent.kind, &mantissa.kind) else { return None };
    let exponent = (*exponent).ok()?.to_integer()?;
    let exponent = i64::try_from(exponent).unwrap_or(if exponent < 0 { i64::MIN } else { i64::MAX });
    let mantissa = match mantissa {
        Ok(mantissa) => Ok(mantissa.to_integer()?),
        Err(error) => Err(*error),
    };
    Some((exponent, mantissa))
}

/// `mantissa * 2^exponent`, exactly.
fn bigfloat(mantissa: i128, exponent: i64) -> Result<Decimal, DecimalError> {
    let power = u32::try_from(exponent.unsigned_abs()).map_err(|_| DecimalError::TooLarge)?;
    let base: i128 = if exponent < 0 { 5 } else { 2 };
    let mantissa =
        base.checked_pow(power).and_then(|factor| mantissa.checked_mul(factor)).ok_or(DecimalError::TooLarge)?;
    Decimal::from_exponent(mantissa, exponent.min(0))
}

fn integer_name(value: i128) -> Cow<'static, str> {
    // SenML's labels (RFC 8428 §6), so that reading a pack needs no allocation for each.
    const NAMES: [&str; 15] = ["-6", "-5", "-4", "-3", "-2", "-1", "0", "1", "2", "3", "4", "5", "6", "7", "8"];
    let known = usize::try_from(value + 6).ok().and_then(|index| NAMES.get(index));
    known.map_or_else(|| Cow::Owned(value.to_string()), |name| Cow::Borrowed(*name))
}

/// IEEE 754 binary16 (RFC 8949 appendix D).
fn half_to_f64(bits: u16) -> f64 {
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f64::from(bits & 0x3ff);
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if bits & 0x3ff == 0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    };
    if bits & 0x8000 == 0 { magnitude } else { -magnitude }
}

/// The shortest decimal that is nearer to this half than to its neighbours.
fn half_to_decimal(bits: u16) -> Result<Decimal, DecimalError> {
    let value = half_to_f64(bits).abs();
    let below = if bits & 0x7fff == 0 { 0.0 } else { half_to_f64((bits & 0x7fff) - 1) };
    let above = match half_to_f64((bits & 0x7fff) + 1) {
        above if above.is_finite() => above,
        _ => value + (value - below),
    };
    let text = (0..=5).map(|digits| format!("{value:.digits$e}")).find(|text| {
        let short: f64 = text.parse().unwrap_or(f64::NAN);
        let off = (short - value).abs();
        value == 0.0 || (off < (short - below).abs() && off < (short - above).abs())
    });
    let magnitude = text.map_or_else(|| Decimal::from_f64(value), |text| Decimal::parse(&text))?;
    Ok(if bits & 0x8000 == 0 { magnitude } else { Decimal::new(-magnitude.mantissa(), magnitude.decimals()) })
}

/// The half that is exactly this single, if there is one.
fn half_bits(value: f32) -> Option<u16> {
    let bits = value.to_bits();
    let sign = u16::try_from(bits >> 16).ok()? & 0x8000;
    let magnitude = f64::from(value.abs());
    let candidate = if magnitude < 2f64.powi(-14) {
        magnitude * 2f64.powi(24)
    } else {
        let exponent = i32::try_from(bits >> 23 & 0xff).ok()? - 127;
        let steps = magnitude / 2f64.powi(exponent - 10) - 1024.0;
        f64::from(exponent + 15) * 1024.0 + steps
    };
    let candidate = ((0.0..31744.0).contains(&candidate) && candidate.fract() == 0.0).then_some(candidate as u16)?;
    (half_to_f64(candidate) == magnitude).then_some(sign | candidate)
}

/// Appends an item's head with the shortest argument (RFC 8949 §4.2.1).
fn write_head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    if let Ok(small) = u8::try_from(argument) {
        if small < 24 {
            out.push(major | small);
        } else {
            out.extend_from_slice(&[major | 24, small]);
        }
    } else if let Ok(short) = u16::try_from(argument) {
        out.push(major | 25);
        out.extend_from_slice(&short.to_be_bytes());
    } else if let Ok(word) = u32::try_from(argument) {
        out.push(major | 26);
        out.extend_from_slice(&word.to_be_bytes());
    } else {
        out.push(major | 27);
        out.extend_from_slice(&argument.to_be_bytes());
    }
}

pub(crate) fn write_array(out: &mut Vec<u8>, length: usize) {
    write_head(out, ARRAY, length as u64);
}

pub(crate) fn write_map(out: &mut Vec<u8>, length: usize) {
    write_head(out, MAP, length as u64);
}

pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    write_head(out, TEXT, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

pub(crate) fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_head(out, BYTES, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn write_bool(out: &mut Vec<u8>, state: bool) {
    out.push(if state { 0xf5 } else { 0xf4 });
}

pub(crate) fn write_integer(out: &mut Vec<u8>, value: i128) {
    let negative = value < 0;
    // -1 - value, which is the complement, and above or at zero.
    let argument = if negative { !value } else { value }.unsigned_abs();
    match u64::try_from(argument) {
        Ok(argument) => write_head(out, if negative { NEGATIVE } else { UNSIGNED }, argument),
        Err(_) => {
            write_head(out, TAG, if negative { 3 } else { 2 });
            let bytes = argument.to_be_bytes();
            let first = bytes.iter().position(|&byte| byte != 0).unwrap_or_default();
            write_bytes(out, bytes.get(first..).unwrap_or_default());
        }
    }
}

/// Appends a number so that reading it gives the same digits: an integer; the shortest float that holds the value exactly as
/// the double does, if the double's digits are these; a decimal fraction otherwise (RFC 8428 §6).
pub(crate) fn write_number(out: &mut Vec<u8>, number: Decimal) {
    if number.decimals() == 0 {
        return write_integer(out, number.mantissa());
    }
    let float = number.to_f64();
    if Decimal::from_f64(float).is_ok_and(|read| read.same_digits(number)) {
        return write_float(out, number, float);
    }
    write_head(out, TAG, 4);
    write_array(out, 2);
    write_integer(out, -i128::from(number.decimals()));
    write_integer(out, number.mantissa());
}

fn write_float(out: &mut Vec<u8>, number: Decimal, float: f64) {
    let single = float as f32;
    let same = |read: Result<Decimal, DecimalError>| read.is_ok_and(|read| read.same_digits(number));
    if f64::from(single) != float || !same(Decimal::from_f32(single)) {
        out.push(0xfb);
        out.extend_from_slice(&float.to_be_bytes());
        return;
    }
    match half_bits(single).filter(|&bits| same(half_to_decimal(bits))) {
        Some(bits) => {
            out.push(0xf9);
            out.extend_from_slice(&bits.to_be_bytes());
        }
        None => {
            out.push(0xfa);
            out.extend_from_slice(&single.to_be_bytes());
        }
    }
}
