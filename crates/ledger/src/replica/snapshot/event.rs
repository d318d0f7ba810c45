//! Summaries in a snapshot.

use super::stored::{SnapshotError, Stored, stored_enum, stored_struct};
use crate::{Breach, Event, FaultOutcome, Former, LimitVerdict, Summary, codec::Reader};

stored_struct!(Summary { index, time_s, originator, event });
stored_enum!(Event {
    1 => DeviceRegistered { device, id, former, certificate, not_after_s },
    2 => DeviceRevoked { device, reason },
    3 => KeysPublished { device, key_package, rejoin },
    4 => GroupCreated { group, name },
    5 => Granted { group, device },
    6 => Revoked { group, device, reason },
    7 => Committed { group, generation, epoch, commit_bytes },
    8 => Reading { group, topic, value, decimals, unit, time_ms, sequence, verdict },
    9 => Anchored { group, root, count },
    10 => GroupReset { group, generation, reason },
    11 => LimitsSet { group, topic, version },
    12 => FaultReported { group, generation, epoch, author, kept_out, outcome },
    13 => KeyRotated { whose, public_key },
    14 => Moved { to },
});
stored_enum!(Former { 0 => Nothing {}, 1 => SameKey {}, 2 => OtherKey {} });
stored_enum!(FaultOutcome { 0 => Noted {}, 1 => FoundedAnew {}, 2 => AuthorOut {} });
stored_enum!(Breach {
    1 => NotAReporter {},
    2 => SequenceNotGreater { last },
    3 => SequenceGap { expected },
    4 => TooPrecise { decimals },
    5 => BelowMin { min, decimals },
    6 => AboveMax { max, decimals },
    7 => StepTooLarge { last, max_step, decimals },
});

impl Stored for LimitVerdict {
    fn put(&self, out: &mut Vec<u8>) {
        let breach = match self {
            Self::Accepted => None,
            Self::Refused(breach) => Some(breach),
        };
        breach.is_some().put(out);
        breach.into_iter().for_each(|breach| breach.put(out));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        Ok(Option::<Breach>::read(reader)?.map_or(Self::Accepted, Self::Refused))
    }
}
