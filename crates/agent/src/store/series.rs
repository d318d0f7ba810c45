//! The series of what this device has sent, for proofs: see `sealcast_audit`.
//!
//! A message is there before it leaves, with the tree as it is then. What a series is anchored by is written down when its
//! root is drawn ([`Write::DrawAnchor`](sealcast_agent_core::control::Write::DrawAnchor)): the tree's frontier, from which
//! proofs go on when the messages before are forgotten.
//!
//! A message takes about 37 bytes, its topic, and its payload or 32 bytes (`docs/audit.md`).

use std::path::Path;

use anyhow::{Context as _, Result};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use sealcast_agent_core::SeriesState;
use sealcast_audit::{Frontier, Sent, SentKind, SeriesSecret};
use sealcast_ledger::{GroupNumber, Hash};

use super::{Store, open_to_read};

/// An anchor has the number of messages in four bytes: a series of so many is over, and a new one begins.
const MAX_SIZE: i64 = u32::MAX as i64;

/// A series of a folder, from one anchor to another.
pub struct StoredSeries {
    /// The device's number for it.
    pub id: i64,
    /// Of which group.
    pub group: GroupNumber,
    /// What hides its messages.
    pub secret: SeriesSecret,
    /// The roots on the ledger, each with the number of messages and the tree, in their order.
    pub anchors: Vec<(Hash, Frontier)>,
    /// The place of the first message that is kept.
    pub first: u64,
    /// How many messages the series has.
    pub size: u64,
}

struct Open {
    id: i64,
    secret: SeriesSecret,
    tree: Frontier,
}

/// Adds a message to its group's series.
pub(super) fn append(db: &Connection, group: GroupNumber, sent: &Sent) -> rusqlite::Result<()> {
    let Open { id, secret, mut tree } = match open(db, group)? {
        Some(open) => open,
        None => begin(db, group)?,
    };
    let index = tree.size();
    tree.append(secret.leaf(index, sent.time_ms, sent.kind, &sent.topic, &sent.digest).hash());
    let payload = sent.payload.as_deref().unwrap_or(&sent.digest);
    db.prepare_cached(
        "INSERT INTO sent (series, idx, time_ms, kind, topic, whole, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        id,
        index.cast_signed(),
        sent.time_ms.cast_signed(),
        sent.kind.number(),
        sent.topic,
        sent.payload.is_some(),
        payload
    ])?;
    db.prepare_cached("UPDATE series SET size = ?2, peaks = ?3, over = ?2 = ?4 WHERE id = ?1")?
        .execute(params![id, tree.size().cast_signed(), tree.to_bytes(), MAX_SIZE])
        .map(drop)
}

fn open(db: &Connection, group: GroupNumber) -> rusqlite::Result<Option<Open>> {
    db.prepare_cached("SELECT id, secret, size, peaks FROM series WHERE grp = ?1 AND over = 0")?
        .query_row([group.get()], |row| Ok(Open { id: row.get(0)?, secret: secret(row, 1)?, tree: tree(row, 2)? }))
        .optional()
}

fn begin(db: &Connection, group: GroupNumber) -> rusqlite::Result<Open> {
    let no_random = |_| rusqlite::Error::ToSqlConversionFailure("the system gives no random bytes".into());
    let secret = SeriesSecret::generate().map_err(no_random)?;
    db.execute(
        "INSERT INTO series (grp, secret, size, peaks) VALUES (?1, ?2, 0, x'')",
        params![group.get(), secret.as_bytes()],
    )?;
    Ok(Open { id: db.last_insert_rowid(), secret, tree: Frontier::default() })
}

fn secret(row: &Row<'_>, at: usize) -> rusqlite::Result<SeriesSecret> {
    row.get::<_, [u8; 32]>(at).map(SeriesSecret::from)
}

/// From its size and, in the next column, its peaks.
fn tree(row: &Row<'_>, at: usize) -> rusqlite::Result<Frontier> {
    let size = row.get::<_, i64>(at)?.cast_unsigned();
    Frontier::from_bytes(size, &row.get::<_, Vec<u8>>(at + 1)?).ok_or(rusqlite::Error::InvalidQuery)
}

/// Writes down the group's series as it is now, and forgets messages from before `before_ms` as far as a series that was
/// written down begins behind them.
pub(super) fn draw(db: &Connection, group: GroupNumber, before_ms: u64) -> rusqlite::Result<()> {
    if let Some(Open { id, tree, .. }) = open(db, group)?
        && let Some(root) = tree.root()
    {
        db.execute(
            "INSERT OR IGNORE INTO anchor (series, size, root, peaks) VALUES (?1, ?2, ?3, ?4)",
            params![id, tree.size().cast_signed(), root, tree.to_bytes()],
        )?;
    }
    forget(db, group, before_ms)
}

fn forget(db: &Connection, group: GroupNumber, before_ms: u64) -> rusqlite::Result<()> {
    let mut query = db.prepare_cached("SELECT id, over FROM series WHERE grp = ?1")?;
    let all = query.query_map([group.get()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for (id, over) in all.collect::<rusqlite::Result<Vec<(i64, bool)>>>()? {
        // Where the message before an anchor is too old, so are those before it.
        let old: Option<i64> = db
            .prepare_cached(
                "SELECT max(anchor.size) FROM anchor JOIN sent ON sent.series = anchor.series AND sent.idx = anchor.size - 1
                 WHERE anchor.series = ?1 AND sent.time_ms < ?2",
            )?
            .query_row(params![id, before_ms.cast_signed()], |row| row.get(0))?;
        let Some(old) = old else { continue };
        db.execute("DELETE FROM sent WHERE series = ?1 AND idx < ?2", [id, old])?;
        db.execute("DELETE FROM anchor WHERE series = ?1 AND size < ?2", [id, old])?;
        if over && !db.query_row("SELECT EXISTS (SELECT 1 FROM sent WHERE series = ?1)", [id], |row| row.get(0))? {
            db.execute("DELETE FROM anchor WHERE series = ?1", [id])?;
            db.execute("DELETE FROM series WHERE id = ?1", [id])?;
        }
    }
    Ok(())
}

/// The ledger has this root.
pub(super) fn anchored(db: &Connection, group: GroupNumber, root: &Hash, count: u32) -> rusqlite::Result<()> {
    db.execute(
        "UPDATE anchor SET on_ledger = 1
         WHERE size = ?1 AND root = ?2 AND series IN (SELECT id FROM series WHERE grp = ?3)",
        params![count, root.as_bytes(), group.get()],
    )
    .map(drop)
}

/// What comes next is the first of new series. Those so far may have two messages of one place, of which one is lost.
pub(super) fn begin_anew(db: &Connection) -> rusqlite::Result<()> {
    db.execute("UPDATE series SET over = 1", []).map(drop)
}

impl Store {
    /// The series that are not over.
    pub fn series(&self) -> Result<Vec<SeriesState>> {
        self.read(|db| {
            let mut query = db.prepare_cached(
                "SELECT series.grp, series.size - coalesce(last.size, 0),
                    (SELECT time_ms FROM sent WHERE sent.series = series.id AND idx = coalesce(last.size, 0)),
                    last.root, last.size
                 FROM series LEFT JOIN anchor AS last ON last.series = series.id
                    AND last.size = (SELECT max(size) FROM anchor WHERE anchor.series = series.id)
                 WHERE series.over = 0",
            )?;
            let mut on_ledger = db.prepare_cached(
                "SELECT on_ledger FROM anchor JOIN series ON series.id = anchor.series
                 WHERE series.grp = ?1 AND over = 0 AND anchor.size = ?2",
            )?;
            let rows = query.query_map([], |row| {
                let group = group_of(row.get(0)?)?;
                let root: Option<[u8; 32]> = row.get(3)?;
                let drawn = root.map(Hash::from).zip(row.get::<_, Option<u32>>(4)?);
                let first_ms = row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned);
                Ok(SeriesState { group, new: row.get::<_, i64>(1)?.cast_unsigned(), first_ms, drawn })
            })?;
            let mut all = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            for series in &mut all {
                let Some((_, count)) = series.drawn else { continue };
                if on_ledger.query_row(params![series.group.get(), count], |row| row.get(0))? {
                    series.drawn = None;
                }
            }
            Ok(all)
        })
    }

    /// Reads the series of a group from an agent's folder, whether it runs or not, the newest first.
    pub fn read_series(dir: &Path, group: GroupNumber) -> Result<Vec<StoredSeries>> {
        let (path, db) = open_to_read(dir)?;
        stored(&db, group).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Reads a series' messages in an agent's folder from one place to before another, and gives each with its place.
    pub fn read_sent(dir: &Path, series: i64, from: u64, to: u64, each: impl FnMut(u64, Sent)) -> Result<()> {
        let (path, db) = open_to_read(dir)?;
        sent(&db, series, from, to, each).with_context(|| format!("cannot read {}", path.display()))
    }
}

fn group_of(number: u16) -> rusqlite::Result<GroupNumber> {
    GroupNumber::new(number).ok_or(rusqlite::Error::InvalidQuery)
}

fn stored(db: &Connection, group: GroupNumber) -> rusqlite::Result<Vec<StoredSeries>> {
    let mut anchors =
        db.prepare("SELECT root, size, peaks FROM anchor WHERE series = ?1 AND on_ledger = 1 ORDER BY size")?;
    let mut first = db.prepare("SELECT min(idx) FROM sent WHERE series = ?1")?;
    let mut query = db.prepare("SELECT id, secret, size FROM series WHERE grp = ?1 ORDER BY id DESC")?;
    let rows = query.query_map([group.get()], |row| {
        let (id, size) = (row.get(0)?, row.get::<_, i64>(2)?.cast_unsigned());
        let anchors = anchors.query_map([id], |row| Ok((row.get::<_, [u8; 32]>(0)?.into(), tree(row, 1)?)))?;
        let anchors = anchors.collect::<rusqlite::Result<_>>()?;
        let first = first.query_row([id], |row| row.get::<_, Option<i64>>(0))?.map_or(size, i64::cast_unsigned);
        Ok(StoredSeries { id, group, secret: secret(row, 1)?, anchors, first, size })
    })?;
    rows.collect()
}

fn sent(db: &Connection, series: i64, from: u64, to: u64, mut each: impl FnMut(u64, Sent)) -> rusqlite::Result<()> {
    let mut query = db.prepare(
        "SELECT time_ms, kind, topic, whole, payload, idx FROM sent WHERE series = ?1 AND idx >= ?2 AND idx < ?3
         ORDER BY idx",
    )?;
    let mut rows = query.query(params![series, from.cast_signed(), to.cast_signed()])?;
    while let Some(row) = rows.next()? {
        let time_ms = row.get::<_, i64>(0)?.cast_unsigned();
        let kind = SentKind::of(row.get(1)?).ok_or(rusqlite::Error::InvalidQuery)?;
        let (topic, whole, bytes) = (row.get(2)?, row.get(3)?, row.get::<_, Vec<u8>>(4)?);
        let sent = if whole {
            Sent::whole(time_ms, kind, topic, bytes)
        } else {
            let digest = bytes.try_into().map_err(|_| rusqlite::Error::InvalidQuery)?;
            Sent { time_ms, kind, topic, digest, payload: None }
        };
        each(row.get::<_, i64>(5)?.cast_unsigned(), sent);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sealcast_agent_core::{control, session};

    use super::*;

    fn group() -> GroupNumber {
        GroupNumber::new(3).unwrap_or_else(|| unreachable!())
    }

    fn write(time_ms: u64) -> session::Write {
        let payload = format!("at {time_ms}").into_bytes();
        let message = Sent::whole(time_ms, SentKind::Message, "a/b".into(), payload);
        session::Write::Sent { group: group(), message }
    }

    fn send(store: &Store, times: std::ops::Range<u64>) -> Result<()> {
        times.into_iter().try_for_each(|time_ms| store.commit_session(&[write(time_ms)], 0).map(drop))
    }

    fn draw(store: &Store, forget_before_ms: u64) -> Result<Option<(Hash, u32)>> {
        store.commit(&[control::Write::DrawAnchor { group: group(), forget_before_ms }])?;
        Ok(store.series()?.first().and_then(|series| series.drawn))
    }

    fn on_ledger(store: &Store, drawn: Option<(Hash, u32)>) -> Result<()> {
        let (root, count) = drawn.context("a root was drawn")?;
        Ok(store.commit(&[control::Write::Anchored { group: group(), root, count }])?)
    }

    #[test]
    fn a_series_goes_on_over_restarts_and_forgets_what_is_old() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let mut store = Store::create(dir.path())?;
        let mut whole = Frontier::default();
        let mut roots = Vec::new();
        for part in 0..3 {
            send(&store, 10 * part..10 * part + 7)?;
            let state = store.series()?;
            assert_eq!((state.len(), state[0].new, state[0].first_ms), (1, 7, Some(10 * part)));
            let drawn = draw(&store, 0)?;
            assert_eq!(draw(&store, 0)?, drawn, "it is as it was");
            on_ledger(&store, drawn)?;
            assert_eq!(store.series()?[0].drawn, None);
            roots.push(drawn);
            drop(store);
            store = Store::open(dir.path(), None)?;
        }
        let [stored] = &Store::read_series(dir.path(), group())?[..] else { panic!("one series") };
        assert_eq!((stored.first, stored.size, stored.anchors.len()), (0, 21, 3));
        Store::read_sent(dir.path(), stored.id, 0, 21, |index, sent| {
            whole.append(stored.secret.leaf(index, sent.time_ms, sent.kind, &sent.topic, &sent.digest).hash());
        })?;
        let last = roots.last().copied().flatten();
        assert_eq!(whole.root().map(Hash::from), last.map(|(root, _)| root));

        // All before the second anchor is older than 20 ms; the first message after it is not.
        draw(&store, 20)?;
        let [stored] = &Store::read_series(dir.path(), group())?[..] else { panic!("one series") };
        assert_eq!((stored.first, stored.anchors.len()), (14, 2));
        let mut left = Vec::new();
        Store::read_sent(dir.path(), stored.id, 0, 21, |index, _| left.push(index))?;
        assert_eq!(left, [14, 15, 16, 17, 18, 19, 20]);
        Ok(())
    }

    /// Whoever goes on from an old copy would put a second message in a place that has one.
    #[test]
    fn an_old_copy_begins_a_series_of_its_own() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let store = Store::create(dir.path())?;
        send(&store, 0..3)?;
        on_ledger(&store, draw(&store, 0)?)?;
        store.commit(&[control::Write::BeginAnew { before_ms: 0 }])?;
        assert_eq!(store.series()?, []);
        send(&store, 5..6)?;
        let all = Store::read_series(dir.path(), group())?;
        assert_eq!(all.iter().map(|series| series.size).collect::<Vec<_>>(), [1, 3]);
        assert!(all[0].secret.as_bytes() != all[1].secret.as_bytes());
        on_ledger(&store, draw(&store, 4)?)?;
        assert_eq!(Store::read_series(dir.path(), group())?.len(), 1, "the old one is over, and all of it is old");
        Ok(())
    }
}
