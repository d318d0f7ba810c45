//! The compact bytes in which state is kept: varints, floats, decimals. Reading never panics and never allocates more
//! than there are bytes.

use sealcast_reading::Decimal;

/// The bytes are not what this crate wrote, or are of a version that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored state of the quality rules cannot be read")]
pub struct StateError;

#[derive(Default)]
pub(crate) struct Writer(pub Vec<u8>);

impl Writer {
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub fn f64(&mut self, value: f64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// Up to 64 bits of digits as a varint, else all 128.
    pub fn decimal(&mut self, value: Decimal) {
        let mantissa = value.mantissa();
        self.u8(value.decimals());
        match i64::try_from(mantissa) {
            Ok(small) => {
                self.u8(0);
                self.varint(((small << 1) ^ (small >> 63)) as u64);
            }
            Err(_) => {
                self.u8(1);
                self.0.extend_from_slice(&mantissa.to_be_bytes());
            }
        }
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }
}

pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], StateError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(StateError)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        self.take(N)?.try_into().map_err(|_| StateError)
    }

    pub fn u8(&mut self) -> Result<u8, StateError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub fn bool(&mut self) -> Result<bool, StateError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(StateError),
        }
    }

    pub fn varint(&mut self) -> Result<u64, StateError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(StateError);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(StateError)
    }

    pub fn u32(&mut self) -> Result<u32, StateError> {
        self.varint()?.try_into().map_err(|_| StateError)
    }

    /// A finite float.
    pub fn f64(&mut self) -> Result<f64, StateError> {
        let value = f64::from_be_bytes(self.array()?);
        if value.is_finite() { Ok(value) } else { Err(StateError) }
    }

    pub fn decimal(&mut self) -> Result<Decimal, StateError> {
        let decimals = self.u8()?;
        let mantissa = if self.bool()? {
            i128::from_be_bytes(self.array()?)
        } else {
            let zigzag = self.varint()?;
            i128::from((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
        };
        Ok(Decimal::new(mantissa, decimals))
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], StateError> {
        let count = usize::try_from(self.varint()?).map_err(|_| StateError)?;
        self.take(count)
    }

    pub fn text(&mut self) -> Result<&'a str, StateError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| StateError)
    }

    pub fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, StateError>,
    ) -> Result<Option<T>, StateError> {
        if self.bool()? { read(self).map(Some) } else { Ok(None) }
    }

    pub fn end(&self) -> Result<(), StateError> {
        if self.0.is_empty() { Ok(()) } else { Err(StateError) }
    }
}
