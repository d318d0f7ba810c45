//! A reason code and properties at a packet's end, which are left out where they say nothing (MQTT 5 3.4.2.1, 3.14.2.1,
//! 3.15.2.1).

use bytes::{BufMut as _, BytesMut};

use super::error::{EncodeError, ParseError};
use super::properties::Properties;
use super::property_set::PropertySet;
use super::reason;
use super::version::Version;
use super::wire::Reader;

pub(super) fn read(
    reader: &mut Reader<'_>,
    set: PropertySet,
    version: Version,
) -> Result<(u8, Properties), ParseError> {
    if version != Version::V5 || reader.is_empty() {
        return Ok((reason::SUCCESS, Properties::new()));
    }
    let code = reader.u8("reason code")?;
    let properties = if reader.is_empty() { Properties::new() } else { Properties::read(reader, set, version)? };
    Ok((code, properties))
}

pub(super) fn len(code: u8, properties: &Properties, version: Version) -> usize {
    match (version, code, properties.is_empty()) {
        (Version::V31 | Version::V311, ..) | (_, reason::SUCCESS, true) => 0,
        (_, _, true) => 1,
        (_, _, false) => 1 + properties.len_on_wire(version),
    }
}

pub(super) fn put(code: u8, properties: &Properties, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
    match len(code, properties, version) {
        0 => Ok(()),
        1 => {
            out.put_u8(code);
            Ok(())
        }
        _ => {
            out.put_u8(code);
            properties.put(version, out)
        }
    }
}
