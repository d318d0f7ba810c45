#![allow(clippy::unwrap_used)]

use sealcast_agent_core::control::Write;
use sealcast_faults::Fault;

use super::*;
use crate::store::Store;

const OLD: &[u8] = b"the exporter secret of an epoch that is over";
const KEPT: &[u8] = b"the exporter secret of the epoch that is current";

fn state(key: &str, value: Option<&[u8]>) -> Write {
    let value = value.map(|value| Zeroizing::new(value.to_vec()));
    Write::State(sealcast_group::Write { key: key.to_owned(), value })
}

/// A store with two secrets.
fn prepared(dir: &Path) -> Result<Store> {
    let store = Store::create(dir)?;
    store.commit(&[state("ledger/next", Some(b"7")), state("epoch/1/1", Some(OLD)), state("epoch/1/2", Some(KEPT))])?;
    Ok(store)
}

/// Which files have these bytes.
fn files_with(dir: &Path, wanted: &[u8]) -> Vec<String> {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let holds = |path: &Path| std::fs::read(path).unwrap().windows(wanted.len()).any(|bytes| bytes == wanted);
    files.filter(|path| holds(path)).map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

/// What a thief needs for the secrets of now: the master key.
fn master(store: &Store, dir: &Path) -> Result<Key> {
    let slot = store.read(|db| Slot::of_row(vault_row(db)?.unwrap().0))?;
    Ok(read_key(&File::open(dir.join(FILE))?, slot)?)
}

/// The key of a secret, as the database has it.
fn key_of(store: &Store, dir: &Path, name: &str) -> Result<Key> {
    let file = File::open(dir.join(FILE))?;
    Ok(store.read(|db| Keys::load(db, &file))?.1.0.remove(name).unwrap())
}

#[test]
fn a_secret_that_is_replaced_or_deleted_takes_its_keys_with_it() -> Result<()> {
    for change in [state("epoch/1/1", None), state("epoch/1/1", Some(b"new"))] {
        let dir = tempfile::tempdir()?;
        let store = prepared(dir.path())?;
        let (master, key) = (master(&store, dir.path())?, key_of(&store, dir.path(), "epoch/1/1")?);
        assert_eq!(files_with(dir.path(), &*master), [FILE], "the search finds what is there");
        // A reader keeps SQLite from clearing its log.
        let reader = Connection::open(dir.path().join("agent.sqlite"))?;
        reader.execute_batch("BEGIN; SELECT count(*) FROM state")?;
        store.commit(std::slice::from_ref(&change))?;
        for gone in [OLD, KEPT, &*master, &*key] {
            assert!(files_with(dir.path(), gone).is_empty(), "{change:?}");
        }
        drop(store);
        let rows = Store::open(dir.path())?.state()?;
        assert_eq!(rows.iter().find(|(key, _)| key == "epoch/1/2").unwrap().1.as_slice(), KEPT);
        assert_eq!(rows, Store::read_state(dir.path())?);
    }
    Ok(())
}

/// The commit is on disk, and the agent dies before it has destroyed the key.
#[test]
fn a_key_that_a_crash_has_left_is_destroyed_at_the_next_start() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = prepared(dir.path())?;
    let retired = master(&store, dir.path())?;
    store.read(|db| Fault::Persisted.strike(db))?;
    store.commit(&[state("epoch/1/1", None)]).unwrap_err();
    drop(store);
    assert_eq!(files_with(dir.path(), &*retired), [FILE], "it crashed too late");
    let store = Store::open(dir.path())?;
    assert!(files_with(dir.path(), &*retired).is_empty());
    assert_eq!(store.state()?.len(), 2);
    Ok(())
}

/// However a write fails, the next one neither uses a key that was used before nor leaves it.
#[test]
fn no_key_is_used_again_after_a_write_that_failed() -> Result<()> {
    for fault in Fault::ALL {
        let dir = tempfile::tempdir()?;
        let store = prepared(dir.path())?;
        let mut seen = vec![master(&store, dir.path())?];
        store.read(|db| fault.strike(db))?;
        store.commit(&[state("epoch/1/1", None)]).unwrap_err();
        store.read(sealcast_faults::mend)?;
        for _ in 0..3 {
            store.commit(&[state("epoch/1/1", None)])?;
            let current = master(&store, dir.path())?;
            for retired in &seen {
                assert!(files_with(dir.path(), &**retired).is_empty(), "{fault:?}");
            }
            seen.push(current);
        }
        assert_eq!(store.state()?.len(), 2, "{fault:?}");
    }
    Ok(())
}

/// Records of the ledger come all the time, and change no secret: they cost no new key.
#[test]
fn what_is_not_secret_moves_no_key() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = prepared(dir.path())?;
    let before = std::fs::read(dir.path().join(FILE))?;
    store.commit(&[Write::Record { index: 0, bytes: b"first".to_vec() }, state("ledger/next", Some(b"8"))])?;
    assert_eq!(std::fs::read(dir.path().join(FILE))?, before);
    Ok(())
}

/// A thief of the folder, or the operator of the device, who reads while the agent writes.
#[test]
fn the_state_is_read_whole_beside_an_agent_that_changes_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = prepared(dir.path())?;
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| (0..200).try_for_each(|_| Store::read_state(dir.path()).map(drop)));
        let mut round = 0_u64;
        while !reader.is_finished() || round < 10 {
            store.commit(&[state("epoch/1/1", Some(&round.to_be_bytes()))])?;
            round += 1;
        }
        reader.join().unwrap()
    })
}

#[test]
fn a_key_file_of_another_agent_is_refused() -> Result<()> {
    let (dir, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
    drop(prepared(dir.path())?);
    drop(prepared(other.path())?);
    std::fs::copy(other.path().join(FILE), dir.path().join(FILE))?;
    let error = Store::open(dir.path()).map_or_else(|error| format!("{error:#}"), |_| String::new());
    assert!(error.contains(FILE) && error.contains("not of the same agent"), "{error}");
    Ok(())
}

#[test]
fn keys_survive_their_encoding() {
    let keys = Keys(["a", "epoch/1/7", ""].map(|name| (name.to_owned(), fresh_key().unwrap())).into());
    let bytes = keys.encode();
    assert_eq!(Keys::decode(&bytes).unwrap().0, keys.0);
    for cut in 1..bytes.len() {
        // Between two of them it is a shorter list.
        assert!(Keys::decode(&bytes[..cut]).is_none_or(|shorter| shorter.0.len() < keys.0.len()));
    }
    assert!(Keys::decode(&[0; KEY_BYTES]).is_none(), "a key without a name's end");
}
