//! What an [`Opener`] remembers, as bytes: so that a restart does not let old messages pass again.
//!
//! `version u8 | sender count u32 | senders | mark floor | mark count u32 | marks`, all integers big-endian.

use crate::{
    header::{GroupNumber, KeyId, LeafIndex},
    keys::EpochId,
    open::Opener,
    replay::{MAX_MARKS, MAX_SENDERS, MAX_WINDOWS, Mark, MarkKey, Order, ReplayWindow, SenderKey, SenderState},
};

const VERSION: u8 = 1;

/// The bytes are not what [`Opener::export`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the stored replay windows cannot be read (at byte {at} of {len}): restore them, or old messages may pass again"
)]
pub struct ImportError {
    at: usize,
    len: usize,
}

impl Opener {
    /// Everything it remembers. Store it before acknowledging upstream what was marked since.
    pub fn export(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&(self.windows.senders.len() as u32).to_be_bytes());
        for (sender, state) in &self.windows.senders {
            out.extend_from_slice(&sender.group.0.to_be_bytes());
            write_epoch(sender.epoch, &mut out);
            out.extend_from_slice(&sender.leaf.number().to_be_bytes());
            let (boot, counter) = state.floor.unwrap_or_default();
            out.push(state.floor.is_some().into());
            out.extend_from_slice(&boot.to_be_bytes());
            out.extend_from_slice(&counter.to_be_bytes());
            out.extend_from_slice(&(state.windows.len() as u16).to_be_bytes());
            for (boot, (window, _)) in &state.windows {
                out.extend_from_slice(&boot.to_be_bytes());
                window.export(&mut out);
            }
        }
        out.push(self.marks.floor_ms.is_some().into());
        out.extend_from_slice(&self.marks.floor_ms.unwrap_or_default().to_be_bytes());
        out.extend_from_slice(&(self.marks.marks.len() as u32).to_be_bytes());
        for (MarkKey(key), mark) in &self.marks.marks {
            out.extend_from_slice(key);
            out.extend_from_slice(&mark.order.time_ms.to_be_bytes());
            write_epoch(mark.order.epoch, &mut out);
            out.extend_from_slice(&mark.order.boot.to_be_bytes());
            out.extend_from_slice(&mark.order.counter.to_be_bytes());
            out.extend_from_slice(&mark.sender);
            out.push(mark.done.into());
        }
        out
    }

    /// Reads what [`Self::export`] wrote. Never panics.
    pub fn import(bytes: &[u8]) -> Result<Self, ImportError> {
        let mut reader = Reader { bytes, at: 0 };
        let error = |reader: &Reader<'_>| ImportError { at: reader.at, len: bytes.len() };
        let mut opener = Self::new();
        read(&mut reader, &mut opener).ok_or_else(|| error(&reader))?;
        if reader.at != bytes.len() {
            return Err(error(&reader));
        }
        Ok(opener)
    }
}

fn write_epoch(id: EpochId, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.generation.to_be_bytes());
    out.extend_from_slice(&id.epoch.to_be_bytes());
}

fn read(reader: &mut Reader<'_>, opener: &mut Opener) -> Option<()> {
    if reader.take::<1>()? != [VERSION] {
        return None;
    }
    let windows = &mut opener.windows;
    for _ in 0..reader.u32()? {
        let group = GroupNumber(reader.u16()?);
        let epoch = reader.epoch()?;
        let leaf = LeafIndex::new(reader.u16()?.into())?;
        let floor = reader.flag()?;
        let floor = Some((reader.u16()?, reader.u32()?)).filter(|_| floor);
        let mut state = SenderState { floor, ..SenderState::default() };
        for _ in 0..reader.u16()? {
            let boot = reader.u16().filter(|boot| *boot <= KeyId::MAX_BOOT)?;
            let window = ReplayWindow::import(&reader.take()?)?;
            state.windows.insert(boot, (window, windows.clock));
            windows.clock += 1;
        }
        windows.count += state.windows.len();
        windows.senders.insert(SenderKey { group, epoch, leaf }, state);
        if windows.count > MAX_WINDOWS || windows.senders.len() > MAX_SENDERS {
            return None;
        }
    }
    let floor = reader.flag()?;
    opener.marks.floor_ms = Some(reader.u64()?).filter(|_| floor);
    for _ in 0..reader.u32()? {
        let key = MarkKey(reader.take()?);
        let order =
            Order { time_ms: reader.u64()?, epoch: reader.epoch()?, boot: reader.u16()?, counter: reader.u32()? };
        let mark = Mark { order, sender: reader.take()?, done: reader.flag()? };
        opener.marks.marks.insert(key, mark);
        if opener.marks.marks.len() > MAX_MARKS {
            return None;
        }
    }
    Some(())
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = *self.bytes.get(self.at..)?.first_chunk::<N>()?;
        self.at += N;
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

    fn epoch(&mut self) -> Option<EpochId> {
        Some(EpochId { generation: self.u32()?, epoch: self.u64()? })
    }
}
