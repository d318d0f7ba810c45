//! What can be done to records of TLS (RFC 8446, 5.1), without the keys: whoever reads them has to notice.

use std::io;

use super::{Connection, Fate, Fault, Subject, Units, Way};

const HEADER_BYTES: usize = 5;
/// Older ones of the same connection that can come again.
const KEPT: usize = 16;

/// The records of one way of a connection.
#[derive(Default)]
pub struct Records {
    buffer: Vec<u8>,
    passed: Vec<Vec<u8>>,
}

impl Units for Records {
    fn feed(&mut self, bytes: &[u8], on: &Connection<'_>, way: Way) -> io::Result<Vec<Fate>> {
        self.buffer.extend(bytes);
        let mut fates = Vec::new();
        while let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() {
            let length = HEADER_BYTES + usize::from(u16::from_be_bytes([header[3], header[4]]));
            if self.buffer.len() < length {
                break;
            }
            let record: Vec<u8> = self.buffer.drain(..length).collect();
            fates.push(match on.line.take(Subject::Record, way) {
                Some(armed) => self.suffer(record.clone(), armed.fault, armed.salt),
                None => Fate::Pass(record.clone()),
            });
            self.passed.push(record);
            if self.passed.len() > KEPT {
                self.passed.remove(0);
            }
        }
        Ok(fates)
    }
}

impl Records {
    fn suffer(&self, record: Vec<u8>, fault: Fault, salt: u64) -> Fate {
        let place = |length: usize| salt as usize % length.max(1);
        let mut altered = record.clone();
        let at = HEADER_BYTES + place(record.len() - HEADER_BYTES);
        if let Some(byte) = altered.get_mut(at) {
            *byte ^= 1 << (salt >> 32 & 7);
        }
        let older = self.passed.get(place(self.passed.len())).cloned().unwrap_or_default();
        match fault {
            Fault::Duplicate => Fate::Pass(record.repeat(2)),
            Fault::Reorder => Fate::Hold(record),
            Fault::Truncate => Fate::End(record[..place(record.len())].to_vec()),
            Fault::Rewrite => Fate::Pass(altered),
            Fault::Exchange => Fate::Pass(older),
            Fault::Forge => Fate::Pass([altered, record].concat()),
            // Records have no topic: part of one goes to another one's end.
            Fault::Move => Fate::Pass([&record[..], &record[at..]].concat()),
            Fault::Replay => Fate::Pass([older, record].concat()),
        }
    }
}
