//! Registers to payloads, and messages to registers.

use sealcast_reading::{Decimal, DecimalError, Value, packed::Endian, packed::FieldType};

use super::settings::{Read, Write};

const NOT_A_STATE: &str = "not a state of a coil: give 1 or 0, true or false, on or off";

/// What is to be written to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A coil's state.
    Coil(bool),
    /// The contents of one register or of several that follow each other.
    Registers(Vec<u16>),
}

/// What is published of the bytes that a device answered.
pub fn payload(read: &Read, bytes: &[u8], now_ms: u64) -> Result<Vec<u8>, String> {
    let mut records = read.decoder.decode(bytes, now_ms).map_err(|error| error.to_string())?;
    for record in &mut records {
        record.reading.time_ms.get_or_insert(now_ms);
    }
    read.encoder.encode(&records).map_err(|error| error.to_string())
}

/// What a message commands: a number or a state as text, or as `value` of a JSON object.
pub fn command(write: &Write, payload: &[u8], now_ms: u64) -> Result<Command, String> {
    let text = std::str::from_utf8(payload).map_err(|_| "the payload is not text".to_owned())?.trim();
    let number = if text.starts_with('{') {
        let records = write.json.decode(payload, now_ms).map_err(|error| error.to_string())?;
        match records.into_iter().next().map(|record| record.reading.value) {
            Some(Value::Number(number)) => number,
            Some(Value::Bool(state)) => Decimal::from(u64::from(state)),
            Some(Value::Text(text)) => number(write, &text)?,
            _ => return Err("the member `value` is neither a number nor a state".into()),
        }
    } else {
        number(write, text)?
    };
    if write.min.is_some_and(|min| number < min) {
        return Err(format!("{number} is below min ({})", write.min.unwrap_or(number)));
    }
    if write.max.is_some_and(|max| number > max) {
        return Err(format!("{number} is above max ({})", write.max.unwrap_or(number)));
    }
    if write.kind == FieldType::Bit {
        return match number.to_integer() {
            Some(0) => Ok(Command::Coil(false)),
            Some(1) => Ok(Command::Coil(true)),
            _ => Err(format!("{number} is {NOT_A_STATE}")),
        };
    }
    let raw = raw(number, write.scale, write.offset).ok_or_else(|| format!("{number} has too many digits"))?;
    let mut bytes = match write.kind {
        FieldType::U16 => u16::try_from(raw).map(|raw| raw.to_be_bytes().to_vec()),
        FieldType::I16 => i16::try_from(raw).map(|raw| raw.to_be_bytes().to_vec()),
        FieldType::U32 => u32::try_from(raw).map(|raw| raw.to_be_bytes().to_vec()),
        _ => i32::try_from(raw).map(|raw| raw.to_be_bytes().to_vec()),
    }
    .map_err(|_| format!("{number} does not fit the register's type: it would be {raw}"))?;
    if matches!(write.endian, Endian::Little | Endian::BigSwapped) {
        bytes.reverse();
    }
    if matches!(write.endian, Endian::BigSwapped | Endian::LittleSwapped) {
        bytes.chunks_exact_mut(2).for_each(<[u8]>::reverse);
    }
    Ok(Command::Registers(bytes.as_chunks::<2>().0.iter().map(|word| u16::from_be_bytes(*word)).collect()))
}

fn number(write: &Write, text: &str) -> Result<Decimal, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" => Ok(Decimal::from(1u64)),
        "false" | "off" => Ok(Decimal::ZERO),
        _ => Decimal::parse(text).map_err(|error| match error {
            DecimalError::Syntax { .. } if write.kind == FieldType::Bit => NOT_A_STATE.to_owned(),
            DecimalError::Syntax { .. } => format!("{error}, nor true or false, on or off (1 or 0)"),
            error => error.to_string(),
        }),
    }
}

/// `(value - offset) / scale`, to the nearest whole number, half to even.
fn raw(value: Decimal, scale: Decimal, offset: Decimal) -> Option<i128> {
    let (moved, scale) = (value.checked_sub(offset)?.normalize(), scale.normalize());
    let power = |decimals: u8| 10i128.checked_pow(u32::from(decimals));
    let mut numerator = moved.mantissa().checked_mul(power(scale.decimals())?)?;
    let mut denominator = scale.mantissa().checked_mul(power(moved.decimals())?)?;
    if denominator < 0 {
        (numerator, denominator) = (numerator.checked_neg()?, denominator.checked_neg()?);
    }
    let (quotient, rest) = (numerator.checked_div_euclid(denominator)?, numerator.checked_rem_euclid(denominator)?);
    Some(match rest.cmp(&(denominator - rest)) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Greater => quotient + 1,
        std::cmp::Ordering::Equal => quotient + quotient.rem_euclid(2),
    })
}

#[cfg(test)]
mod tests {
    use anyhow::{Result, anyhow};

    use super::{
        super::settings::{self, ModbusFile, ModbusUnit},
        *,
    };

    fn device(text: &str) -> Result<ModbusUnit> {
        let file: ModbusFile = toml::from_str(&format!("device = '127.0.0.1:502'\n{text}"))?;
        let unit = settings::devices(vec![file])?.pop().and_then(|mut device| device.units.pop());
        unit.ok_or_else(|| anyhow!("no unit"))
    }

    #[test]
    fn registers_become_payloads_with_their_digits() -> Result<()> {
        let check = |text: &str, bytes: &[u8], expected: &str| {
            let device = device(&format!("[[read]]\ntopic = 't'\naddress = 0\n{text}"))?;
            let read = device.reads.first().ok_or_else(|| anyhow!("no read"))?;
            let text = payload(read, bytes, 0).map(String::from_utf8);
            assert_eq!(text, Ok(Ok(expected.to_owned())), "{bytes:?}");
            anyhow::Ok(())
        };
        check("table = 'holding'", &[1, 0], "256")?;
        check("table = 'input'\ntype = 'i16'\nscale = 0.1", &[0xff, 0xfe], "-0.2")?;
        check("table = 'input'\nscale = '0.10'\noffset = -40", &[0x02, 0x67], "21.50")?;
        check("table = 'holding'\ntype = 'u32'\nendian = 'big_swapped'", &[0, 2, 0, 1], "65538")?;
        check("table = 'holding'\ntype = 'f32'", &[0x41, 0xac, 0, 0], "21.5")?;
        check("table = 'coil'", &[1], "1")?;
        check("table = 'input'\nunit = 'K'\nconvert_to = 'Cel'\nscale = 0.01", &[0x73, 0x8f], "22.68")
    }

    #[test]
    fn messages_become_registers() -> Result<()> {
        let check = |text: &str, payload: &str, expected: Result<Command, &str>| {
            let device = device(&format!("[[write]]\ntopic = 't'\naddress = 0\n{text}"))?;
            let write = device.writes.first().ok_or_else(|| anyhow!("no write"))?;
            match (command(write, payload.as_bytes(), 0), expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{payload}"),
                (Err(got), Err(part)) => assert!(got.contains(part), "{payload}: {got}"),
                (got, expected) => assert!(got.is_ok() == expected.is_ok(), "{payload}: {got:?}, not {expected:?}"),
            }
            anyhow::Ok(())
        };
        let coil = "table = 'coil'";
        check(coil, " ON\n", Ok(Command::Coil(true)))?;
        check(coil, "0", Ok(Command::Coil(false)))?;
        check(coil, r#"{"value": true, "by": "x"}"#, Ok(Command::Coil(true)))?;
        check(coil, "2", Err("not a state of a coil"))?;
        check(coil, "open", Err("not a state of a coil: give 1 or 0, true or false, on or off"))?;
        check(coil, r#"{"value": "open"}"#, Err("not a state of a coil"))?;
        check(coil, r#"{"valve": true}"#, Err("value"))?;
        let holding = "table = 'holding'";
        check(holding, "65535", Ok(Command::Registers(vec![65535])))?;
        check(holding, "65536", Err("does not fit"))?;
        check(holding, "-1", Err("does not fit"))?;
        check(holding, "open", Err("not a number such as 21.5, nor true or false, on or off"))?;
        let scaled = "table = 'holding'\ntype = 'i16'\nscale = 0.1\noffset = -40\nmin = -40\nmax = 60";
        check(scaled, "21.5", Ok(Command::Registers(vec![615])))?;
        check(scaled, "21.55", Ok(Command::Registers(vec![616])))?;
        check(scaled, "21.65", Ok(Command::Registers(vec![616])))?;
        check(scaled, "60.1", Err("above max (60)"))?;
        check(scaled, "-41", Err("below min (-40)"))?;
        let wide = |endian: &str| format!("table = 'holding'\ntype = 'u32'\nendian = '{endian}'");
        check(&wide("big"), "16909060", Ok(Command::Registers(vec![0x0102, 0x0304])))?;
        check(&wide("little"), "16909060", Ok(Command::Registers(vec![0x0403, 0x0201])))?;
        check(&wide("big_swapped"), "16909060", Ok(Command::Registers(vec![0x0304, 0x0102])))?;
        check(&wide("little_swapped"), "16909060", Ok(Command::Registers(vec![0x0201, 0x0403])))
    }

    #[test]
    fn what_no_device_can_do_is_refused_by_name() {
        for (text, part) in [
            ("", "neither a [[modbus.read]] nor"),
            ("period_ms = 1\n[[read]]\ntopic='t'\ntable='coil'\naddress=0", "period_ms"),
            ("[[read]]\ntopic='t/#'\ntable='coil'\naddress=0", "topic"),
            ("[[read]]\ntopic='t'\ntable='coil'\naddress=0\ntype='u16'", "must be bit, or left out"),
            ("[[read]]\ntopic='t'\ntable='input'\naddress=65535\ntype='u32'", "65535"),
            ("[[read]]\ntopic='t'\ntable='input'\naddress=0\ntype='u8'", "type"),
            ("[[read]]\ntopic='t'\ntable='input'\naddress=0\nformat='senml_json'", "name"),
            ("[[write]]\ntopic='t'\ntable='input'\naddress=0", "coil or holding"),
            ("[[write]]\ntopic='t'\ntable='holding'\naddress=0\nscale=0", "scale"),
            ("[[write]]\ntopic='t'\ntable='coil'\naddress=0\n[[write]]\ntopic='u'\ntable='coil'\naddress=0", "twice"),
            ("[[write]]\ntopic='t'\ntable='coil'\naddress=0\nadress=0", "adress"),
        ] {
            let error = device(text).map_or_else(|error| format!("{error:#}"), |_| "accepted".into());
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
