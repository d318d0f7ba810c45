//! Keeps the messages of the control plane for nodes that are away, on disk, and answers what is kept: see
//! [`sealcast_hub_core::Kept`].

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rusqlite::{Connection, params};
use sealcast_chain::Keeper as Answers;
use sealcast_hub_core::{Change, Kept, Place, SharedReplica};
use sealcast_ledger_client::{KeptPage, KeptQuery};
use sealcast_node::{Tasks, files};
use tokio::sync::mpsc;
use tracing::error;

use crate::carrier::Carried;

/// See the module.
pub struct Keeper {
    /// What is on disk, and the disk. One change at a time goes to both.
    state: Mutex<(Kept, Connection)>,
    /// Drawn when the file was made: numbers of another file's places say nothing here.
    file: String,
    replica: SharedReplica,
}

impl Keeper {
    /// Opens or makes `kept.sqlite`. If it was lost, the devices publish again what it had.
    pub fn open(dir: &Path, replica: SharedReplica) -> Result<Self> {
        let path = dir.join("kept.sqlite");
        let attempt = || -> Result<(Kept, Connection, String)> {
            if !path.exists() {
                files::write(&path, b"", files::Mode::Secret)?;
            }
            let db = Connection::open(&path)?;
            db.busy_timeout(Duration::from_secs(5))?;
            db.pragma_update(None, "journal_mode", "WAL")?;
            db.pragma_update(None, "synchronous", "FULL")?;
            db.execute_batch(
                "CREATE TABLE IF NOT EXISTS file (id TEXT PRIMARY KEY) WITHOUT ROWID;
                 INSERT INTO file SELECT lower(hex(randomblob(8))) WHERE NOT EXISTS (SELECT 1 FROM file);
                 CREATE TABLE IF NOT EXISTS place (topic TEXT PRIMARY KEY, sequence INTEGER NOT NULL UNIQUE, payload BLOB NOT NULL)",
            )?;
            let file = db.query_row("SELECT id FROM file", [], |row| row.get(0))?;
            let places = db
                .prepare("SELECT topic, sequence, payload FROM place ORDER BY sequence")?
                .query_map([], |row| {
                    Ok(Place {
                        topic: row.get(0)?,
                        sequence: row.get::<_, i64>(1)?.cast_unsigned(),
                        payload: row.get::<_, Vec<u8>>(2)?.into(),
                    })
                })?
                .collect::<Result<Vec<_>, _>>()?;
            Ok((Kept::restored(places), db, file))
        };
        let (kept, db, file) = attempt().with_context(|| format!("cannot use {}", path.display()))?;
        Ok(Self { state: Mutex::new((kept, db)), file, replica })
    }

    /// Takes what arrives until `tasks` end.
    pub async fn run(self: Arc<Self>, mut arriving: mpsc::Receiver<Carried>, tasks: Tasks) {
        loop {
            let message = tokio::select! {
                () = tasks.stop().cancelled() => return,
                message = arriving.recv() => message,
            };
            // Whatever carries the messages has stopped, and says why.
            let Some(Carried { topic, payload, .. }) = message else { return tasks.stop().cancelled().await };
            self.change(|kept| {
                let replica = self.replica.read().unwrap_or_else(PoisonError::into_inner);
                kept.judge(&replica, &topic, payload)
            });
        }
    }

    /// The replica has new records, which may name what came before them.
    pub fn handle_records(&self) {
        self.change(|kept| kept.judge_early(&self.replica.read().unwrap_or_else(PoisonError::into_inner)));
    }

    /// Answers for the relay.
    pub fn answers(self: Arc<Self>) -> Answers {
        Box::new(move |node, query| self.answer(node, query))
    }

    fn answer(&self, node: &str, query: &KeptQuery) -> KeptPage {
        let after = query.after.as_deref().and_then(|after| after.strip_prefix(&self.file)?.strip_prefix(':'));
        let after = after.and_then(|number| number.parse().ok()).unwrap_or(0);
        let (kept, _) = &*self.state();
        let page = kept.page(node, after);
        let lacks = query.have.iter().filter(|(topic, message)| !kept.has(topic, message));
        KeptPage {
            messages: page.messages.into_iter().map(|place| (place.topic, place.payload.into())).collect(),
            next: format!("{}:{}", self.file, page.next),
            more: page.more,
            lacks: lacks.map(|(topic, _)| topic.clone()).collect(),
        }
    }

    /// What does not get onto the disk is not kept: its owner hears so when it next asks, and publishes it again.
    fn change(&self, judge: impl FnOnce(&mut Kept) -> Vec<Change>) {
        let (kept, db) = &mut *self.state();
        let changes = judge(kept);
        if changes.is_empty() {
            return;
        }
        match write(db, &changes) {
            Ok(()) => changes.into_iter().for_each(|change| kept.apply(change)),
            Err(error) => error!(%error, "the hub cannot write to kept.sqlite what it keeps for devices that are away"),
        }
    }

    fn state(&self) -> MutexGuard<'_, (Kept, Connection)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(db: &mut Connection, changes: &[Change]) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    for change in changes {
        match change {
            Change::Put(Place { topic, sequence, payload }) => transaction.execute(
                "INSERT OR REPLACE INTO place (topic, sequence, payload) VALUES (?1, ?2, ?3)",
                params![topic, sequence.cast_signed(), &payload[..]],
            )?,
            Change::Drop(topic) => transaction.execute("DELETE FROM place WHERE topic = ?1", [topic])?,
        };
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use std::sync::RwLock;

    use sealcast_faults::Fault;
    use sealcast_identity::SigningKey;
    use sealcast_ledger::{AttestedHead, Genesis, Hash, LedgerId, Replica};
    use sealcast_topic::ControlTopic;

    use super::*;

    /// The operator's words of growing time, and a replica by which they are judged.
    fn words() -> Result<(SharedReplica, Vec<Vec<u8>>)> {
        let (key, id) = (SigningKey::generate()?, LedgerId { chain_id: 1, address: [1; 20] });
        let genesis = Genesis { id, root: *key.public(), ca: *key.public(), operator: *key.public() };
        let said = |time_ms| AttestedHead { time_ms, height: 0, head: Hash::of(b"") }.sign(&key, &id);
        let words = (1..4).map(said).collect::<Result<_, _>>()?;
        Ok((Arc::new(RwLock::new(Replica::new(genesis))), words))
    }

    fn comes(keeper: &Keeper, word: &[u8]) {
        let replica = keeper.replica.clone();
        let topic = ControlTopic::Head.to_string();
        let judge = |kept: &mut Kept| {
            kept.judge(&replica.read().unwrap_or_else(PoisonError::into_inner), &topic, word.to_vec().into())
        };
        keeper.change(judge);
    }

    fn kept(keeper: &Keeper) -> Vec<Vec<u8>> {
        let page = keeper.answer("1111", &KeptQuery::default());
        page.messages.into_iter().map(|(_, payload)| payload.to_vec()).collect()
    }

    /// However the write of a message fails, and whether it is on disk or not: the message is not kept until it comes again,
    /// and it is there after a start then.
    #[test]
    fn what_could_not_be_written_is_kept_when_it_comes_again() -> Result<()> {
        for fault in Fault::ALL {
            let (dir, (replica, words)) = (tempfile::tempdir()?, words()?);
            let keeper = Keeper::open(dir.path(), replica.clone())?;
            comes(&keeper, &words[0]);
            fault.strike(&keeper.state().1)?;
            comes(&keeper, &words[1]);
            assert_eq!(kept(&keeper), words[..1], "{fault:?}");
            sealcast_faults::mend(&keeper.state().1)?;
            comes(&keeper, &words[1]);
            assert_eq!(kept(&keeper), words[1..2], "{fault:?}");
            drop(keeper);
            assert_eq!(kept(&Keeper::open(dir.path(), replica)?), words[1..2], "{fault:?}");
        }
        Ok(())
    }

    /// A node asks for what is newer than what it has, which means nothing to a hub that has lost its file.
    #[test]
    fn a_node_gets_what_is_new_and_all_of_another_file() -> Result<()> {
        let (dir, (replica, words)) = (tempfile::tempdir()?, words()?);
        let keeper = Keeper::open(dir.path(), replica.clone())?;
        comes(&keeper, &words[0]);
        let topic = ControlTopic::Head.to_string();
        let have = vec![(topic.clone(), Hash::of(&words[0])), (topic.clone(), Hash::of(&words[1]))];
        let first = keeper.answer("1111", &KeptQuery { after: None, have });
        assert_eq!((first.messages.len(), first.lacks), (1, vec![topic]));
        let query = KeptQuery { after: Some(first.next), have: Vec::new() };
        assert_eq!(keeper.answer("1111", &query).messages, []);
        comes(&keeper, &words[2]);
        assert_eq!(keeper.answer("1111", &query).messages.len(), 1);
        let other = Keeper::open(tempfile::tempdir()?.path(), replica)?;
        comes(&other, &words[0]);
        assert_eq!(other.answer("1111", &query).messages.len(), 1);
        Ok(())
    }
}
