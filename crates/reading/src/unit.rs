//! Units of SenML (RFC 8428 §12.1, RFC 8798 and the later entries of the IANA registry), and exact conversion between
//! those that measure the same quantity.
//!
//! A conversion is an integer formula, `primary = (num * value + add) / den`, so the only inexact step is the last
//! division. Its result keeps the *resolution* of what was measured: one unit of the last digit of `72.6 degF` is
//! 0.056 Cel, so the result has two decimals (`22.50`); where it does not come out even it has one more, rounded half to
//! even (`22.556`), which is fine enough for converting back to give the digits that came in. A result that does come out
//! even is never rounded, however many decimals it takes.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::decimal::{Decimal, divide_half_even, power_of_ten};

/// The longest unit that is taken from outside, in bytes.
pub const MAX_UNIT_BYTES: usize = 32;

/// A unit's symbol, as in SenML's `u`: `Cel`, `%RH`, `m/s`.
///
/// Symbols outside the registry are kept as the device wrote them (devices write what they like); they cannot be converted.
/// `°C` and `°F` are read as `Cel` and `degF`. `C` is not: it is the coulomb.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unit(Cow<'static, str>);

/// Why a text is no unit, or two units do not convert.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Empty, longer than [`MAX_UNIT_BYTES`], or with control characters.
    #[error("unit must have 1 to {MAX_UNIT_BYTES} bytes and no control characters")]
    Malformed,
    /// Not a unit that this crate can convert.
    #[error("unit `{unit}` is in no registry that can be converted from or to; SenML writes degrees Celsius as `Cel`")]
    Unknown {
        /// The symbol.
        unit: Unit,
    },
    /// The two units measure different quantities.
    #[error("unit `{from}` cannot be converted to `{to}`: they measure different quantities")]
    Different {
        /// What the reading has.
        from: Unit,
        /// What was asked for.
        to: Unit,
    },
    /// The result has more than 38 digits.
    #[error("{value} {from} has no room for its digits in {to}")]
    Overflow {
        /// The number.
        value: Decimal,
        /// Its unit.
        from: Unit,
        /// What was asked for.
        to: Unit,
    },
}

/// Where a unit stands in the registries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In the SenML units registry (RFC 8428 §12.1).
    Primary,
    /// In it, and marked as not recommended for new producers (`%`, `l`, `g`).
    NotRecommended,
    /// In the secondary units registry (RFC 8798 §3): SenML packs carry the primary unit instead, unless their version says
    /// otherwise (RFC 9100).
    Secondary,
    /// In no registry; known here because devices use it (`degF`).
    Other,
}

struct Entry {
    symbol: &'static str,
    /// The unit that all of this quantity's formulas lead to.
    base: &'static str,
    num: i128,
    add: i128,
    den: i128,
    standing: Standing,
}

const fn primary(symbol: &'static str) -> Entry {
    Entry { symbol, base: symbol, num: 1, add: 0, den: 1, standing: Standing::Primary }
}

const fn linear(
    symbol: &'static str,
    base: &'static str,
    num: i128,
    add: i128,
    den: i128,
    standing: Standing,
) -> Entry {
    Entry { symbol, base, num, add, den, standing }
}

const fn secondary(symbol: &'static str, base: &'static str, num: i128, den: i128) -> Entry {
    linear(symbol, base, num, 0, den, Standing::Secondary)
}

const fn discouraged(symbol: &'static str, base: &'static str, num: i128, den: i128) -> Entry {
    linear(symbol, base, num, 0, den, Standing::NotRecommended)
}

#[rustfmt::skip]
static UNITS: &[Entry] = &[
    // RFC 8428 §12.1
    primary("Cel"), linear("K", "Cel", 100, -27315, 100, Standing::Primary),
    primary("m"), primary("kg"), primary("s"), primary("A"), primary("cd"), primary("mol"), primary("Hz"), primary("rad"),
    primary("sr"), primary("N"), primary("Pa"), primary("J"), primary("W"), primary("C"), primary("V"), primary("F"),
    primary("Ohm"), primary("S"), primary("Wb"), primary("T"), primary("H"), primary("lm"), primary("lx"), primary("Bq"),
    primary("Gy"), primary("Sv"), primary("kat"), primary("m2"), primary("m3"), primary("m/s"), primary("m/s2"),
    primary("m3/s"), primary("W/m2"), primary("cd/m2"), primary("bit"), primary("bit/s"), primary("lat"), primary("lon"),
    primary("pH"), primary("dB"), primary("dBW"), primary("count"), primary("/"), primary("%RH"), primary("%EL"),
    primary("EL"), primary("1/s"), primary("S/m"),
    discouraged("g", "kg", 1, 1000), discouraged("l", "m3", 1, 1000), discouraged("l/s", "m3/s", 1, 1000),
    discouraged("%", "/", 1, 100), discouraged("1/min", "1/s", 1, 60), discouraged("Bspl", "Bspl", 1, 1),
    discouraged("beat/min", "beat/min", 1, 1), discouraged("beats", "beats", 1, 1),
    // RFC 8798 §2, and later entries
    primary("B"), primary("VA"), primary("VAs"), primary("var"), primary("vars"), primary("J/m"), primary("kg/m3"),
    discouraged("deg", "deg", 1, 1), primary("NTU"),
    // RFC 8798 §3
    secondary("ms", "s", 1, 1000), secondary("min", "s", 60, 1), secondary("h", "s", 3600, 1),
    secondary("MHz", "Hz", 1_000_000, 1), secondary("kW", "W", 1000, 1), secondary("kVA", "VA", 1000, 1),
    secondary("kvar", "var", 1000, 1), secondary("Ah", "C", 3600, 1), secondary("Wh", "J", 3600, 1),
    secondary("kWh", "J", 3_600_000, 1), secondary("varh", "vars", 3600, 1), secondary("kvarh", "vars", 3_600_000, 1),
    secondary("kVAh", "VAs", 3_600_000, 1), secondary("Wh/km", "J/m", 36, 10), secondary("KiB", "B", 1024, 1),
    secondary("GB", "B", 1_000_000_000, 1), secondary("Mbit/s", "bit/s", 1_000_000, 1), secondary("B/s", "bit/s", 8, 1),
    secondary("MB/s", "bit/s", 8_000_000, 1), secondary("mV", "V", 1, 1000), secondary("mA", "A", 1, 1000),
    linear("dBm", "dBW", 1, -30, 1, Standing::Secondary), secondary("ug/m3", "kg/m3", 1, 1_000_000_000),
    secondary("mm/h", "m/s", 1, 3_600_000), secondary("m/h", "m/s", 1, 3600), secondary("ppm", "/", 1, 1_000_000),
    secondary("/100", "/", 1, 100), secondary("/1000", "/", 1, 1000), secondary("hPa", "Pa", 100, 1),
    secondary("mm", "m", 1, 1000), secondary("cm", "m", 1, 100), secondary("km", "m", 1000, 1),
    secondary("km/h", "m/s", 10, 36),
    // Later entries of the secondary registry
    secondary("ppb", "/", 1, 1_000_000_000), secondary("ppt", "/", 1, 1_000_000_000_000),
    secondary("VAh", "VAs", 3600, 1), secondary("mg/l", "kg/m3", 1, 1000), secondary("ug/l", "kg/m3", 1, 1_000_000),
    secondary("g/l", "kg/m3", 1, 1),
    // In no registry
    linear("degF", "Cel", 5, -160, 9, Standing::Other),
];

fn entry(symbol: &str) -> Option<&'static Entry> {
    UNITS.iter().find(|entry| entry.symbol == symbol)
}

impl Unit {
    /// Degrees Celsius, `Cel`.
    pub const CELSIUS: Self = Self(Cow::Borrowed("Cel"));
    /// Kelvin, `K`.
    pub const KELVIN: Self = Self(Cow::Borrowed("K"));
    /// Degrees Fahrenheit, `degF` (SenML has no name for it, and does not carry it).
    pub const FAHRENHEIT: Self = Self(Cow::Borrowed("degF"));

    /// Takes a symbol from outside. Spaces around it are dropped.
    ///
    /// # Errors
    /// [`UnitError::Malformed`].
    pub fn new(symbol: &str) -> Result<Self, UnitError> {
        let symbol = match symbol.trim() {
            "°C" | "℃" => "Cel",
            "°F" | "℉" => "degF",
            other => other,
        };
        if let Some(entry) = entry(symbol) {
            return Ok(Self(Cow::Borrowed(entry.symbol)));
        }
        if symbol.is_empty() || symbol.len() > MAX_UNIT_BYTES || symbol.chars().any(char::is_control) {
            return Err(UnitError::Malformed);
        }
        Ok(Self(Cow::Owned(symbol.to_owned())))
    }

    /// The symbol.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the unit is registered; `None` if nowhere, and this crate does not know it.
    pub fn standing(&self) -> Option<Standing> {
        entry(&self.0).map(|entry| entry.standing)
    }

    /// The unit that a SenML pack carries this quantity in: itself if primary, what RFC 8798 derives it from if secondary,
    /// `Cel` for `degF`, `None` if unknown.
    pub fn to_primary(&self) -> Option<Self> {
        let found = entry(&self.0)?;
        let symbol = match found.standing {
            Standing::Primary | Standing::NotRecommended => found.symbol,
            Standing::Secondary | Standing::Other => found.base,
        };
        Some(Self(Cow::Borrowed(symbol)))
    }

    /// The value in another unit. The digits follow the rule at the top of this module.
    ///
    /// # Errors
    /// [`UnitError::Unknown`], [`UnitError::Different`], [`UnitError::Overflow`]. Equal units convert, known or not.
    pub fn convert(&self, value: Decimal, to: &Self) -> Result<Decimal, UnitError> {
        if self == to {
            return Ok(value);
        }
        let source = entry(&self.0).ok_or_else(|| UnitError::Unknown { unit: self.clone() })?;
        let target = entry(&to.0).ok_or_else(|| UnitError::Unknown { unit: to.clone() })?;
        if source.base != target.base {
            return Err(UnitError::Different { from: self.clone(), to: to.clone() });
        }
        transform(value, source, target).ok_or_else(|| UnitError::Overflow {
            value,
            from: self.clone(),
            to: to.clone(),
        })
    }
}

/// Solves `(num2 * x + add2) / den2 = (num1 * value + add1) / den1` for x.
fn transform(value: Decimal, from: &Entry, to: &Entry) -> Option<Decimal> {
    let mut num = to.den * from.num;
    let mut add = to.den * from.add - to.add * from.den;
    let mut den = to.num * from.den;
    let shared = gcd(gcd(num, add), den);
    num /= shared;
    add /= shared;
    den /= shared;

    let scale = u32::from(value.decimals());
    let add = if add == 0 { 0 } else { add.checked_mul(power_of_ten(scale)?)? };
    let numerator = num.checked_mul(value.mantissa())?.checked_add(add)?;

    // The decimals that show one unit of the last digit that was measured.
    let resolution = resolution_decimals(num, den, value.decimals());
    let rest = den / gcd(numerator, den);
    let exact = finite_decimals(rest).map(|extra| scale + extra);
    let wanted = match exact {
        Some(exact) => exact.max(resolution),
        None => resolution + 1,
    };
    let decimals = u8::try_from(wanted).ok()?;
    let mantissa = if wanted >= scale {
        divide_half_even(numerator.checked_mul(power_of_ten(wanted - scale)?)?, den)
    } else {
        divide_half_even(numerator, den.checked_mul(power_of_ten(scale - wanted)?)?)
    };
    let mut result = Decimal::new(mantissa, decimals);
    // `exact` counts the input's zeros too; drop those that the resolution does not ask for.
    while u32::from(result.decimals()) > resolution && result.mantissa() % 10 == 0 && exact.is_some() {
        result = Decimal::new(result.mantissa() / 10, result.decimals() - 1);
    }
    Some(result)
}

/// The least number of decimals whose unit is not above `num / den / 10^decimals`.
fn resolution_decimals(num: i128, den: i128, decimals: u8) -> u32 {
    let mut result = u32::from(decimals);
    let (mut num, mut den) = (num, den);
    while num < den {
        num = num.saturating_mul(10);
        result += 1;
    }
    while result > 0 && num / 10 >= den {
        den = den.saturating_mul(10);
        result -= 1;
    }
    result
}

/// How many decimals `1 / den` takes if it comes out even.
fn finite_decimals(mut den: i128) -> Option<u32> {
    let (mut twos, mut fives) = (0, 0);
    while den % 2 == 0 {
        den /= 2;
        twos += 1;
    }
    while den % 5 == 0 {
        den /= 5;
        fives += 1;
    }
    (den == 1).then_some(twos.max(fives))
}

/// The greatest common divisor, above zero unless both are zero.
fn gcd(a: i128, b: i128) -> i128 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.saturating_abs()
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for Unit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Unit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&Cow::<str>::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
