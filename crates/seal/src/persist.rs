//! What an [`Opener`] remembers, as rows of bytes: so that a restart does not let old messages pass again.
//!
//! One row for each sender of an epoch and class of QoS, one for each topic's mark, one for the floor of a sender's marks. A store with keys takes
//! [`Opener::changes`], which costs what was touched; a plain file takes [`Opener::export`].

use crate::{
    content::QosClass,
    epoch::EpochId,
    header::{GroupNumber, LeafIndex, Start},
    open::Opener,
    replay::{
        MAX_MARKS, MAX_SENDERS, Mark, MarkKey, Order, ReplayWindow, SenderKey, SenderState, SenderTag, StartWindow,
    },
};

/// First byte of an export (`version u8 | rows u32 | rows`, each `key length u8 | key | value length u32 | value`) and of
/// every row's value.
const VERSION: u8 = 2;
const SENDER: u8 = b's';
const SENDER_ACKNOWLEDGED: u8 = b'a';
const MARK: u8 = b'm';
const FLOOR: u8 = b'f';

/// The bytes are not what an [`Opener`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored replay windows of this client cannot be read: without them, old messages could be replayed to it")]
pub struct ImportError;

/// A row to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Names the row within its client, at most 17 bytes.
    pub key: Vec<u8>,
    /// What to store under it; `None` to delete it.
    pub value: Option<Vec<u8>>,
}

/// What to store since the last time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Delete all rows of this client first: more changed than is kept track of, and [`Self::rows`] is everything.
    pub replace_all: bool,
    /// Each row at most once.
    pub rows: Vec<Row>,
}

impl Opener {
    /// The rows that changed since the last call. Store them before acknowledging upstream what was marked since: what
    /// is lost may pass again.
    pub fn changes(&mut self) -> Changes {
        let senders = self.windows.take_dirty();
        let marks = self.marks.dirty.take();
        let (Some(senders), Some(marks)) = (senders, marks) else {
            return Changes { replace_all: true, rows: self.rows().collect() };
        };
        let senders = senders.iter().map(|sender| sender_row(sender, self.windows.get(sender)));
        // A mark goes only for room, and then a floor has risen.
        let floors = marks.iter().any(|key| !self.marks.marks.contains_key(key)).then(|| self.floor_rows());
        let marks = marks.iter().map(|key| mark_row(key, self.marks.marks.get(key)));
        let rows = senders.chain(marks).chain(floors.into_iter().flatten()).collect();
        Changes { replace_all: false, rows }
    }

    /// What [`Self::changes`] gave last was not stored: the next call gives everything.
    pub fn changes_were_not_stored(&mut self) {
        self.windows.make_all_dirty();
        self.marks.dirty.add_all();
    }

    /// Reads stored rows, in any order. Never panics.
    pub fn restore<'a>(rows: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Result<Self, ImportError> {
        let mut opener = Self::new();
        for (key, value) in rows {
            opener.read_row(key, value).ok_or(ImportError)?;
        }
        Ok(opener)
    }

    /// Everything it remembers, as one piece.
    pub fn export(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&(self.rows().count() as u32).to_be_bytes());
        for Row { key, value } in self.rows() {
            let value = value.unwrap_or_default();
            out.push(key.len() as u8);
            out.extend_from_slice(&key);
            out.extend_from_slice(&(value.len() as u32).to_be_bytes());
            out.extend_from_slice(&value);
        }
        out
    }

    /// Reads what [`Self::export`] wrote. Never panics.
    pub fn import(bytes: &[u8]) -> Result<Self, ImportError> {
        let mut reader = Reader(bytes);
        let mut opener = Self::new();
        let read = (|| {
            if reader.take()? != [VERSION] {
                return None;
            }
            for _ in 0..reader.u32()? {
                let [key_bytes] = reader.take()?;
                let key = reader.slice(key_bytes.into())?;
                let value_bytes = usize::try_from(reader.u32()?).ok()?;
                opener.read_row(key, reader.slice(value_bytes)?)?;
            }
            reader.0.is_empty().then_some(())
        })();
        read.ok_or(ImportError)?;
        Ok(opener)
    }

    fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        let senders = self.windows.iter().map(|(sender, state)| sender_row(sender, Some(state)));
        let marks = self.marks.marks.iter().map(|(key, mark)| mark_row(key, Some(mark)));
        senders.chain(marks).chain(self.floor_rows())
    }

    fn floor_rows(&self) -> impl Iterator<Item = Row> + '_ {
        self.marks.floors_ms.iter().map(|(SenderTag(sender), floor_ms)| Row {
            key: [&[FLOOR][..], sender].concat(),
            value: Some([&[VERSION][..], &floor_ms.to_be_bytes()].concat()),
        })
    }

    fn read_row(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let (mut key, mut value) = (Reader(key), Reader(value));
        let [kind] = key.take()?;
        if value.take()? != [VERSION] {
            return None;
        }
        match kind {
            SENDER | SENDER_ACKNOWLEDGED => {
                let (group, epoch) = (GroupNumber(key.u16()?), key.epoch()?);
                let leaf = LeafIndex::new(key.u16()?.into())?;
                let class = if kind == SENDER { QosClass::AtMostOnce } else { QosClass::Acknowledged };
                let state = read_sender(&mut value, &mut self.windows.clock)?;
                if !self.windows.restore(SenderKey { group, epoch, leaf, class }, state) {
                    return None;
                }
            }
            MARK => {
                let key = MarkKey(key.take()?);
                let (time_ms, epoch) = (value.u64()?, value.epoch()?);
                let order = Order { time_ms, epoch, start: value.start()?, counter: value.u32()? };
                let sender = SenderTag(value.take()?);
                let retained_in = if value.flag()? { Some(GroupNumber(value.u16()?)) } else { None };
                let mark = Mark { order, sender, retained_in, done: value.flag()? };
                let before = self.marks.marks.insert(key, mark);
                if before.is_some() || self.marks.marks.len() > MAX_MARKS {
                    return None;
                }
            }
            FLOOR => {
                let before = self.marks.floors_ms.insert(SenderTag(key.take()?), value.u64()?);
                if before.is_some() || self.marks.floors_ms.len() > MAX_SENDERS {
                    return None;
                }
            }
            _ => return None,
        }
        (key.0.is_empty() && value.0.is_empty()).then_some(())
    }
}

fn sender_row(sender: &SenderKey, state: Option<&SenderState>) -> Row {
    let mut key = vec![match sender.class {
        QosClass::AtMostOnce => SENDER,
        QosClass::Acknowledged => SENDER_ACKNOWLEDGED,
    }];
    key.extend_from_slice(&sender.group.0.to_be_bytes());
    write_epoch(sender.epoch, &mut key);
    key.extend_from_slice(&sender.leaf.number().to_be_bytes());
    let value = state.map(|state| {
        let mut out = vec![VERSION];
        write_floor(state.floor_ms, &mut out);
        for held in &state.windows {
            write_start(held.start, &mut out);
            out.extend_from_slice(&held.newest_ms.to_be_bytes());
            write_floor(held.floor_ms, &mut out);
            held.window.export(&mut out);
        }
        out
    });
    Row { key, value }
}

fn read_sender(value: &mut Reader<'_>, clock: &mut u64) -> Option<SenderState> {
    let mut state = SenderState { floor_ms: value.floor()?, ..SenderState::default() };
    while !value.0.is_empty() {
        let (start, newest_ms, floor_ms) = (value.start()?, value.u64()?, value.floor()?);
        if state.windows.last().is_some_and(|last| last.start >= start) {
            return None;
        }
        *clock += 1;
        state.windows.reserve_exact(1);
        let window = ReplayWindow::import(&value.take()?)?;
        state.windows.push(StartWindow { start, used: *clock, newest_ms, floor_ms, window });
    }
    Some(state)
}

fn mark_row(MarkKey(key): &MarkKey, mark: Option<&Mark>) -> Row {
    let value = mark.map(|mark| {
        let mut out = vec![VERSION];
        out.extend_from_slice(&mark.order.time_ms.to_be_bytes());
        write_epoch(mark.order.epoch, &mut out);
        write_start(mark.order.start, &mut out);
        out.extend_from_slice(&mark.order.counter.to_be_bytes());
        out.extend_from_slice(&mark.sender.0);
        out.push(mark.retained_in.is_some().into());
        out.extend(mark.retained_in.into_iter().flat_map(|group| group.0.to_be_bytes()));
        out.push(mark.done.into());
        out
    });
    Row { key: [&[MARK][..], key].concat(), value }
}

fn write_epoch(id: EpochId, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.generation.to_be_bytes());
    out.extend_from_slice(&id.epoch.to_be_bytes());
}

fn write_start(start: Start, out: &mut Vec<u8>) {
    out.extend_from_slice(&start.bits().to_be_bytes());
}

fn write_floor(floor_ms: Option<u64>, out: &mut Vec<u8>) {
    out.push(floor_ms.is_some().into());
    out.extend_from_slice(&floor_ms.unwrap_or(0).to_be_bytes());
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn slice(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.take()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn start(&mut self) -> Option<Start> {
        Start::new(self.u32()?)
    }

    fn floor(&mut self) -> Option<Option<u64>> {
        match (self.flag()?, self.u64()?) {
            (true, floor_ms) => Some(Some(floor_ms)),
            (false, 0) => Some(None),
            _ => None,
        }
    }

    fn epoch(&mut self) -> Option<EpochId> {
        Some(EpochId { generation: self.u32()?, epoch: self.u64()? })
    }
}
