//! Decimal numbers that keep the digits they were written with.
//!
//! A sensor that writes `21.50` says more than `21.5`, and a binary float says something else than either. A [`Decimal`]
//! is an integer and a number of decimals, so every text with at most 38 digits survives unchanged, sums and conversions
//! are exact, and the pair is what the ledger's `reading` entry holds.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The most decimals that a [`Decimal`] has.
pub const MAX_DECIMALS: u8 = u8::MAX;

/// `mantissa / 10^decimals`.
///
/// Equality, order and hash are those of the number: `21.5 == 21.50`. [`Decimal::same_digits`] tells them apart. Negative
/// zero is zero. Exponents above zero are written out (`1e3` is `1000`), since such zeros are no digits that were measured.
#[derive(Clone, Copy)]
pub struct Decimal {
    mantissa: i128,
    decimals: u8,
}

/// Why a text or float is no [`Decimal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// The text is not a decimal number; `at` is the byte of the first character that does not fit.
    #[error("not a number such as 21.5")]
    Syntax {
        /// Offset in bytes from the start of the number.
        at: usize,
    },
    /// Too large in magnitude, or more than 38 significant digits.
    #[error("number has more than 38 digits")]
    TooLarge,
    /// More than [`MAX_DECIMALS`] digits after the point.
    #[error("number has more than 255 decimals")]
    TooFine,
    /// A float that is NaN or infinite.
    #[error("number is not finite")]
    NotFinite,
}

impl Decimal {
    /// Zero, without decimals.
    pub const ZERO: Self = Self { mantissa: 0, decimals: 0 };

    /// `mantissa / 10^decimals`.
    pub const fn new(mantissa: i128, decimals: u8) -> Self {
        Self { mantissa, decimals }
    }

    /// `mantissa * 10^exponent`, as CBOR's decimal fractions say it (RFC 8949 §3.4.4).
    ///
    /// # Errors
    /// [`DecimalError::TooLarge`], [`DecimalError::TooFine`].
    pub fn from_exponent(mantissa: i128, exponent: i64) -> Result<Self, DecimalError> {
        if exponent <= 0 {
            match u8::try_from(exponent.unsigned_abs()) {
                Ok(decimals) => return Ok(Self { mantissa, decimals }),
                Err(_) if mantissa == 0 => return Ok(Self { mantissa, decimals: MAX_DECIMALS }),
                Err(_) => {}
            }
            // Zeros at the end may hide a number that fits.
            let mut left = Self { mantissa, decimals: 0 };
            let mut exponent = exponent;
            while exponent < -i64::from(MAX_DECIMALS) && left.mantissa % 10 == 0 {
                left.mantissa /= 10;
                exponent += 1;
            }
            let decimals = u8::try_from(exponent.unsigned_abs()).map_err(|_| DecimalError::TooFine)?;
            return Ok(Self { mantissa: left.mantissa, decimals });
        }
        if mantissa == 0 {
            return Ok(Self::ZERO);
        }
        let factor = u32::try_from(exponent).ok().and_then(power_of_ten).ok_or(DecimalError::TooLarge)?;
        let mantissa = mantissa.checked_mul(factor).ok_or(DecimalError::TooLarge)?;
        Ok(Self { mantissa, decimals: 0 })
    }

    /// Reads `[+-] digits [. digits] [e [+-] digits]`; one of the digit runs around the point may be empty.
    ///
    /// # Errors
    /// [`DecimalError`]; nothing is rounded.
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        let bytes = text.as_bytes();
        let mut at = 0;
        let negative = bytes.first() == Some(&b'-');
        if matches!(bytes.first(), Some(b'-' | b'+')) {
            at += 1;
        }
        let mut mantissa: i128 = 0;
        let mut digits = 0usize;
        let mut fraction: i64 = 0;
        let mut point = false;
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'0'..=b'9' => {
                    // Negative numbers are gathered below zero, so that i128::MIN can be read back too.
                    let digit = i128::from(byte - b'0');
                    let next = mantissa.checked_mul(10);
                    mantissa = next
                        .and_then(|m| if negative { m.checked_sub(digit) } else { m.checked_add(digit) })
                        .ok_or(DecimalError::TooLarge)?;
                    digits += 1;
                    fraction += i64::from(point);
                }
                b'.' if !point => point = true,
                _ => break,
            }
            at += 1;
        }
        if digits == 0 {
            return Err(DecimalError::Syntax { at });
        }
        let mut exponent: i64 = 0;
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            at += 1;
            let down = bytes.get(at) == Some(&b'-');
            if matches!(bytes.get(at), Some(b'-' | b'+')) {
                at += 1;
            }
            let start = at;
            while let Some(byte @ b'0'..=b'9') = bytes.get(at) {
                exponent = exponent.saturating_mul(10).saturating_add(i64::from(byte - b'0')).min(1 << 40);
                at += 1;
            }
            if at == start {
                return Err(DecimalError::Syntax { at });
            }
            if down {
                exponent = -exponent;
            }
        }
        if at != bytes.len() {
            return Err(DecimalError::Syntax { at });
        }
        Self::from_exponent(mantissa, exponent - fraction)
    }

    /// The shortest decimal that reads back as this float: `0.1` is 0.1, not the 55 digits of its binary value.
    ///
    /// # Errors
    /// [`DecimalError::NotFinite`], and [`DecimalError::TooLarge`] or [`DecimalError::TooFine`] beyond about 1e38 and 1e-240.
    pub fn from_f64(value: f64) -> Result<Self, DecimalError> {
        if !value.is_finite() {
            return Err(DecimalError::NotFinite);
        }
        Self::parse(&format!("{value:e}"))
    }

    /// As [`Decimal::from_f64`], with the fewer digits that single precision needs.
    ///
    /// # Errors
    /// As [`Decimal::from_f64`].
    pub fn from_f32(value: f32) -> Result<Self, DecimalError> {
        if !value.is_finite() {
            return Err(DecimalError::NotFinite);
        }
        Self::parse(&format!("{value:e}"))
    }

    /// All digits as an integer.
    pub const fn mantissa(self) -> i128 {
        self.mantissa
    }

    /// How many of the digits stand after the point.
    pub const fn decimals(self) -> u8 {
        self.decimals
    }

    /// True if both are written alike: `21.50` and `21.5` are equal and do not have the same digits.
    pub const fn same_digits(self, other: Self) -> bool {
        self.mantissa == other.mantissa && self.decimals == other.decimals
    }

    /// Zero, with any number of decimals.
    pub const fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    /// Below zero.
    pub const fn is_negative(self) -> bool {
        self.mantissa < 0
    }

    /// The distance from zero; saturates for the one number whose opposite has no place.
    pub const fn abs(self) -> Self {
        Self { mantissa: self.mantissa.saturating_abs(), decimals: self.decimals }
    }

    /// The nearest binary float (ties to even).
    pub fn to_f64(self) -> f64 {
        // Both sides are exact floats here, so the division rounds once, as parsing the text would.
        if self.mantissa.unsigned_abs() < (1 << 53) && self.decimals <= 22 {
            return self.mantissa as f64 / 10f64.powi(i32::from(self.decimals));
        }
        self.to_string().parse().unwrap_or(f64::NAN)
    }

    /// The number as an integer, if it is one: `3.00` is 3.
    pub fn to_integer(self) -> Option<i128> {
        self.rescale(0).map(Self::mantissa)
    }

    /// The same number without zeros at the end of its decimals.
    pub fn normalize(mut self) -> Self {
        while self.decimals > 0 && self.mantissa % 10 == 0 {
            self.mantissa /= 10;
            self.decimals -= 1;
        }
        self
    }

    /// The same number with exactly that many decimals; `None` if digits would be lost or it does not fit.
    pub fn rescale(self, decimals: u8) -> Option<Self> {
        if decimals >= self.decimals {
            let mantissa = if self.mantissa == 0 {
                0
            } else {
                self.mantissa.checked_mul(power_of_ten(u32::from(decimals - self.decimals))?)?
            };
            return Some(Self { mantissa, decimals });
        }
        let rounded = self.round(decimals);
        (rounded == self).then_some(rounded)
    }

    /// Rounded to at most that many decimals, half to even.
    pub fn round(self, decimals: u8) -> Self {
        if decimals >= self.decimals {
            return self;
        }
        let mantissa = match power_of_ten(u32::from(self.decimals - decimals)) {
            Some(divisor) => divide_half_even(self.mantissa, divisor),
            None => 0,
        };
        Self { mantissa, decimals }
    }

    /// The exact sum, with the decimals of the finer one; `None` if it has more than 38 digits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let (a, b) = self.aligned(other).or_else(|| self.normalize().aligned(other.normalize()))?;
        Some(Self { mantissa: a.mantissa.checked_add(b.mantissa)?, decimals: a.decimals })
    }

    /// The exact difference, with the decimals of the finer one; `None` if it has more than 38 digits.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        let (a, b) = self.aligned(other).or_else(|| self.normalize().aligned(other.normalize()))?;
        Some(Self { mantissa: a.mantissa.checked_sub(b.mantissa)?, decimals: a.decimals })
    }

    /// The exact product; `None` if it has more than 38 digits.
    pub fn checked_mul(self, other: Self) -> Option<Self> {
        let product = |a: Self, b: Self| {
            Some(Self { mantissa: a.mantissa.checked_mul(b.mantissa)?, decimals: a.decimals.checked_add(b.decimals)? })
        };
        product(self, other).or_else(|| product(self.normalize(), other.normalize()))
    }

    fn aligned(self, other: Self) -> Option<(Self, Self)> {
        let decimals = self.decimals.max(other.decimals);
        Some((self.rescale(decimals)?, other.rescale(decimals)?))
    }
}

/// `10^exponent`, if it fits.
pub(crate) fn power_of_ten(exponent: u32) -> Option<i128> {
    10i128.checked_pow(exponent)
}

/// `numerator / denominator` rounded half to even; `denominator` is positive.
pub(crate) fn divide_half_even(numerator: i128, denominator: i128) -> i128 {
    let quotient = numerator.div_euclid(denominator);
    let rest = numerator.rem_euclid(denominator);
    // rest and denominator - rest cannot overflow, as twice the rest could.
    match rest.cmp(&(denominator - rest)) {
        Ordering::Less => quotient,
        Ordering::Greater => quotient + 1,
        Ordering::Equal => quotient + quotient.rem_euclid(2),
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        if let Some((a, b)) = self.aligned(*other) {
            return a.mantissa.cmp(&b.mantissa);
        }
        // The coarser one has no place at the finer one's scale: it is the larger in magnitude.
        let coarser_is_self = self.decimals < other.decimals;
        let coarser = if coarser_is_self { self } else { other };
        let order = if coarser.mantissa > 0 { Ordering::Greater } else { Ordering::Less };
        if coarser_is_self { order } else { order.reverse() }
    }
}

impl Hash for Decimal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let normal = self.normalize();
        normal.mantissa.hash(state);
        normal.decimals.hash(state);
    }
}

impl fmt::Display for Decimal {
    /// Plain notation with all digits, never an exponent: a JSON number and a SenML number too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.mantissa.unsigned_abs().to_string();
        let decimals = usize::from(self.decimals);
        let mut text = String::with_capacity(digits.len() + decimals + 2);
        if digits.len() <= decimals {
            text.push_str("0.");
            text.extend(std::iter::repeat_n('0', decimals - digits.len()));
            text.push_str(&digits);
        } else {
            let (whole, fraction) = digits.split_at(digits.len() - decimals);
            text.push_str(whole);
            if !fraction.is_empty() {
                text.push('.');
                text.push_str(fraction);
            }
        }
        f.pad_integral(self.mantissa >= 0, "", &text)
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        Self::parse(text)
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Self { mantissa: i128::from(value), decimals: 0 }
    }
}

impl From<u64> for Decimal {
    fn from(value: u64) -> Self {
        Self { mantissa: i128::from(value), decimals: 0 }
    }
}

impl Serialize for Decimal {
    /// As text, so that no reader rounds it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    /// From a text, an integer, or a float, which gives its shortest digits (`0.1` in TOML is 0.1).
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Decimal;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a text with one")
            }

            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Decimal, E> {
                Ok(value.into())
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Decimal, E> {
                Ok(value.into())
            }

            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Decimal, E> {
                Decimal::from_f64(value).map_err(E::custom)
            }

            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Decimal, E> {
                Decimal::parse(value).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Read)
    }
}
