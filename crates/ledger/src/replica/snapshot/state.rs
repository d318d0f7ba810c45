//! What the replica knows of devices, groups and key packages, in a snapshot.

use sealcast_identity::{DeviceId, PublicKey};

use super::stored::{SnapshotError, Stored, put_length, stored_enum, stored_struct};
use crate::{
    Authenticity, DeviceState, Epoch, Generation, Group, GroupName, GroupNumber, Hash, LedgerId, Limits, Number,
    Policy, PublishedKeys, ReadingCounts, ReadingTopic, Reason, Registration, Report, Reporters, Revocation,
    RevocationCause, SequenceRule, Serial, Stream, TopicFilter, TopicLimits, UnitText,
    codec::Reader,
    replica::state::{CommitMade, Device, EndedGrant},
};

/// A device without what follows from its id and its last registration.
pub(super) fn put_device(device: &Device, out: &mut Vec<u8>) {
    let Device {
        id,
        state,
        latest_keys,
        has_published,
        rejoins,
        registrations,
        number: _,
        key: _,
        certificate: _,
        serial: _,
        not_after_s: _,
        registered_at: _,
    } = device;
    id.put(out);
    state.put(out);
    latest_keys.put(out);
    has_published.put(out);
    rejoins.put(out);
    registrations.put(out);
}

/// What [`put_device`] wrote.
pub(super) fn read_device(reader: &mut Reader<'_>, ledger: &LedgerId) -> Result<Device, SnapshotError> {
    let id = DeviceId::read(reader)?;
    let (state, latest_keys, has_published) = Stored::read(reader)?;
    let (rejoins, registrations): (_, Vec<Registration>) = Stored::read(reader)?;
    let Registration { at, key, certificate, serial, not_after_s, revocation: _ } =
        registrations.last().cloned().ok_or(SnapshotError::Value("a device that was never registered"))?;
    Ok(Device {
        number: ledger.number_of(&id),
        id,
        key,
        certificate,
        serial,
        not_after_s,
        state,
        registered_at: at,
        latest_keys,
        has_published,
        rejoins,
        registrations,
    })
}

stored_struct!(Registration { at, key, certificate, serial, not_after_s, revocation });
stored_struct!(Revocation { at, time_s, cause });
stored_enum!(RevocationCause { 0 => DeviceRevoked {}, 1 => OtherKey {} });
stored_enum!(DeviceState { 0 => Active {}, 1 => Revoked { reason, at } });
stored_struct!(Group {
    number,
    name,
    filters,
    policy,
    owner,
    generation,
    epoch,
    grants,
    limits,
    created_at,
    ended,
    commits,
    reports,
    distrusted,
});
stored_struct!(Policy { epoch_max_age_s, epoch_max_messages, retention, authenticity, ledger_max_age_s });
stored_enum!(Authenticity { 0 => Signature {}, 1 => Group {} });
stored_struct!(EndedGrant { from, until });
stored_struct!(CommitMade { at, by });
stored_struct!(Report { author, time_s, kept_out });
stored_struct!(PublishedKeys { device, key_package, certificate, rejoin, at, time_s });
stored_struct!(TopicLimits { limits, version, set_at });
stored_struct!(Limits { min, max, max_step, decimals, unit, sequence, reporters });
stored_enum!(SequenceRule { 0 => Increasing {}, 1 => Gapless {} });
stored_struct!(Stream { accepted, refused, sequence, value, version });
stored_struct!(ReadingCounts { accepted, refused });

impl Stored for Reporters {
    fn put(&self, out: &mut Vec<u8>) {
        let listed = match self {
            Self::Granted => None,
            Self::Listed(devices) => Some(devices),
        };
        listed.is_some().put(out);
        listed.into_iter().for_each(|devices| devices.put(out));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        Ok(Option::<Vec<Number>>::read(reader)?.map_or(Self::Granted, Self::Listed))
    }
}

stored_struct!(LedgerId { chain_id, address });

impl Stored for [u8; 20] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend(self);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        Ok(reader.array()?)
    }
}

impl Stored for Number {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.as_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        Ok(Self::from(reader.array::<20>()?))
    }
}

impl Stored for Hash {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.as_bytes());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        Ok(Self::from(reader.array::<32>()?))
    }
}

impl Stored for GroupNumber {
    fn put(&self, out: &mut Vec<u8>) {
        self.get().put(out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        Self::new(Stored::read(reader)?).ok_or(SnapshotError::Value("group 0"))
    }
}

impl Stored for Generation {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        Stored::read(reader).map(Self)
    }
}

impl Stored for Epoch {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        Stored::read(reader).map(Self)
    }
}

impl Stored for PublicKey {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.xy());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        Self::from_xy(reader.array()?).map_err(|_| SnapshotError::Value("a key that is not on the curve"))
    }
}

impl Stored for DeviceId {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_str().as_bytes(), out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        let text = str::from_utf8(read_bytes(reader)?).ok().and_then(|text| text.parse().ok());
        text.ok_or(SnapshotError::Value("a device id that none may have"))
    }
}

/// Texts: their length and their bytes, which are checked as those of an entry are.
macro_rules! stored_texts {
    ($($name:ident),*) => {
        $(impl Stored for $name {
            fn put(&self, out: &mut Vec<u8>) {
                put_bytes(self.as_str().as_bytes(), out);
            }

            fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
                Ok(Self::from_bytes(read_bytes(reader)?)?)
            }
        })*
    };
}
stored_texts!(GroupName, Reason, ReadingTopic, TopicFilter, UnitText);

impl Stored for Serial {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        Ok(Self::new(read_bytes(reader)?)?)
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_length(bytes.len(), out);
    out.extend(bytes);
}

fn read_bytes<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], SnapshotError> {
    let length = reader.u32()? as usize;
    Ok(reader.bytes(length)?)
}
