//! Numbers as people and programs write them into files. One that can be read in two ways is refused.

use sealcast_reading::{Decimal, Special};

use super::{
    error::CellFault,
    signs::{DecimalSign, Thousands, is_space},
};

/// Longest unit behind a number.
const MAX_UNIT_CHARS: usize = 24;
/// What programs write where they have no number.
const NO_NUMBER: [&str; 16] = [
    "",
    "null",
    "none",
    "nil",
    "unavailable",
    "unknown",
    "undefined",
    "n/a",
    "na",
    "#n/a",
    "no data",
    "nodata",
    "missing",
    "-",
    "--",
    "?",
];

/// How the numbers of a column are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NumberFormat {
    pub decimal: DecimalSign,
    pub thousands: Option<Thousands>,
}

/// A field that says that there is no number, in any case.
pub(super) fn no_number(text: &str) -> Option<Special> {
    if text.len() > 12 {
        return None;
    }
    let word = text.to_ascii_lowercase();
    match word.as_str() {
        "nan" | "-nan" => Some(Special::Nan),
        "inf" | "+inf" | "infinity" | "+infinity" => Some(Special::PositiveInfinity),
        "-inf" | "-infinity" => Some(Special::NegativeInfinity),
        word => NO_NUMBER.contains(&word).then_some(Special::Null),
    }
}

/// A number's parts, as they stand there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written<'a> {
    negative: bool,
    /// Digits, and what stands between them.
    digits: &'a str,
    /// `e-3`, or nothing.
    exponent: &'a str,
    /// What stands behind it.
    pub unit: &'a str,
}

impl<'a> Written<'a> {
    /// `None` if it does not begin as a number, or what stands behind it cannot be a unit.
    pub(super) fn split(text: &'a str) -> Option<Self> {
        let text = text.trim();
        let unsigned = text.strip_prefix(['+', '-', '\u{2212}']).unwrap_or(text);
        let negative = text.len() != unsigned.len() && !text.starts_with('+');
        let mut end = 0;
        let mut digits = 0;
        for (at, c) in unsigned.char_indices() {
            let next = unsigned.get(at + c.len_utf8()..).unwrap_or_default();
            match c {
                '0'..='9' => digits += 1,
                '.' | ',' => {}
                // Between two digits only: behind the number a unit follows.
                _ if is_space(c) || matches!(c, '\'' | '\u{2019}' | '_') => {
                    if digits == 0 || !next.starts_with(|c: char| c.is_ascii_digit()) {
                        break;
                    }
                }
                _ => break,
            }
            end = at + c.len_utf8();
        }
        if digits == 0 {
            return None;
        }
        let (number, rest) = unsigned.split_at(end);
        let exponent = exponent(rest);
        let unit = rest.get(exponent.len()..)?.trim();
        is_unit(unit).then_some(Self { negative, digits: number, exponent, unit })
    }

    /// What it says about the signs of its column.
    pub(super) fn evidence(&self, thousands: Option<Thousands>) -> Evidence {
        let grouped = |c: char| thousands.is_some_and(|sign| sign.holds(c));
        let digits: String = self.digits.chars().filter(|c| !grouped(*c)).collect();
        let count = |wanted| digits.chars().filter(|c| *c == wanted).count();
        let sign = match (count('.'), count(',')) {
            (1, 0) => DecimalSign::Point,
            (0, 1) => DecimalSign::Comma,
            _ => return Evidence::None,
        };
        if digits.chars().any(|c| !matches!(c, '0'..='9' | '.' | ',')) {
            return Evidence::None;
        }
        let (whole, fraction) = digits.split_once(['.', ',']).unwrap_or_default();
        let thousands = fraction.len() == 3
            && thousands.is_none()
            && (1..=3).contains(&whole.len())
            && !whole.starts_with('0')
            && self.exponent.is_empty();
        if thousands { Evidence::Either(sign) } else { Evidence::Decimal(sign) }
    }

    /// The number that it is.
    pub(super) fn read(&self, format: NumberFormat) -> Result<Decimal, CellFault> {
        let NumberFormat { decimal, thousands } = format;
        let point = if decimal == DecimalSign::Point { '.' } else { ',' };
        let (whole, fraction) = match self.digits.split_once(point) {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (self.digits, None),
        };
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !fraction.is_none_or(plain) {
            return Err(CellFault::Sign(decimal));
        }
        let mut text = String::with_capacity(self.digits.len() + self.exponent.len() + 1);
        if self.negative {
            text.push('-');
        }
        match thousands {
            _ if plain(whole) => text.push_str(whole),
            Some(sign) => {
                for (at, group) in whole.split(|c| sign.holds(c)).enumerate() {
                    let long = if at == 0 { (1..=3).contains(&group.len()) } else { group.len() == 3 };
                    if !long || !plain(group) {
                        return Err(CellFault::Groups);
                    }
                    text.push_str(group);
                }
            }
            None => return Err(CellFault::Sign(decimal)),
        }
        if let Some(fraction) = fraction {
            text.push('.');
            text.push_str(fraction);
        }
        text.push_str(self.exponent);
        Decimal::parse(&text).map_err(CellFault::TooLong)
    }
}

/// What a number says about its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// Nothing, or it is wrong whatever the sign.
    None,
    /// This is the decimal sign: behind thousands come three digits.
    Decimal(DecimalSign),
    /// Decimals or thousands.
    Either(DecimalSign),
}

/// The exponent at the beginning of what stands behind the digits.
fn exponent(rest: &str) -> &str {
    let Some(signed) = rest.strip_prefix(['e', 'E']) else { return "" };
    let digits = signed.strip_prefix(['+', '-']).unwrap_or(signed);
    let count = digits.bytes().take_while(u8::is_ascii_digit).count();
    let end = rest.len() - digits.len() + count;
    if count == 0 { "" } else { rest.get(..end).unwrap_or_default() }
}

/// Nothing, or letters and signs as in `°C`, `%`, `m³/h`, `µg/m3`.
fn is_unit(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return true };
    // `0x1F` and `12h30` are other ways to write numbers.
    let hexadecimal =
        text.strip_prefix(['x', 'X']).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_hexdigit()));
    let digits_side_by_side = text.as_bytes().windows(2).any(|pair| pair.iter().all(u8::is_ascii_digit));
    let allowed = |c: char| c.is_alphanumeric() || "%‰°/²³·*^-µΩ\"' ().".contains(c);
    (first.is_alphabetic() || "%‰°\"'".contains(first))
        && !hexadecimal
        && !digits_side_by_side
        && text.chars().count() <= MAX_UNIT_CHARS
        && text.chars().all(allowed)
}
