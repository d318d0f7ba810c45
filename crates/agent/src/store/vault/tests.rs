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

fn passphrase(text: &str) -> Passphrase {
    Passphrase::from_file(text.as_bytes()).unwrap()
}

/// A store with two secrets.
fn prepared(dir: &Path) -> Result<Store> {
    prepared_with(dir, None)
}

fn prepared_with(dir: &Path, passphrase: Option<&Passphrase>) -> Result<Store> {
    Store::make(dir, passphrase)?;
    let store = Store::open(dir, passphrase)?;
    store.commit(&[state("ledger/next", Some(b"7")), state("epoch/1/1", Some(OLD)), state("epoch/1/2", Some(KEPT))])?;
    Ok(store)
}

/// Which files have these bytes.
fn files_with(dir: &Path, wanted: &[u8]) -> Vec<String> {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let holds = |path: &Path| std::fs::read(path).unwrap().windows(wanted.len()).any(|bytes| bytes == wanted);
    files.filter(|path| holds(path)).map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

fn slot(store: &Store) -> Result<Slot> {
    Ok(Slot::of_row(store.read(vault_row)?.unwrap().0).unwrap())
}

/// What a thief needs for the secrets of now: the master key.
fn master(store: &Store, dir: &Path) -> Result<Key> {
    Ok(KeyFile::open_to_read(dir, None)?.read(slot(store)?)?)
}

/// The key of a secret, as the database has it.
fn key_of(store: &Store, dir: &Path, name: &str) -> Result<Key> {
    let file = KeyFile::open_to_read(dir, None)?;
    Ok(store.read(|db| Keys::load(db, &file))?.1.0.remove(name).unwrap())
}

#[test]
fn a_secret_that_is_replaced_or_deleted_takes_its_keys_with_it() -> Result<()> {
    let own = "own/00000000000000000007";
    for (name, value) in [("epoch/1/1", None), ("epoch/1/1", Some(&b"new"[..])), (own, None)] {
        let change = state(name, value);
        let dir = tempfile::tempdir()?;
        let store = prepared(dir.path())?;
        store.commit(&[state(name, Some(OLD))])?;
        let (master, key) = (master(&store, dir.path())?, key_of(&store, dir.path(), name)?);
        assert_eq!(files_with(dir.path(), &*master), [FILE], "the search finds what is there");
        // A reader keeps SQLite from clearing its log.
        let reader = Connection::open(dir.path().join("agent.sqlite"))?;
        reader.execute_batch("BEGIN; SELECT count(*) FROM state")?;
        store.commit(std::slice::from_ref(&change))?;
        for gone in [OLD, KEPT, &*master, &*key] {
            assert!(files_with(dir.path(), gone).is_empty(), "{change:?}");
        }
        drop(store);
        let rows = Store::open(dir.path(), None)?.state()?;
        assert_eq!(rows.iter().find(|(key, _)| key == "epoch/1/2").unwrap().1.as_slice(), KEPT);
        assert_eq!(rows, Store::read_state(dir.path(), None)?);
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
    let store = Store::open(dir.path(), None)?;
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

fn said<T>(outcome: Result<T>) -> String {
    outcome.map_or_else(|error| format!("{error:#}"), |_| "opened".to_owned())
}

#[test]
fn with_a_passphrase_the_master_key_is_in_no_file() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (right, wrong) = (passphrase("correct horse"), passphrase("battery staple"));
    let store = prepared_with(dir.path(), Some(&right))?;
    let mut retired = Vec::new();
    for round in [b"first", b"later"] {
        let opened = KeyFile::open_to_read(dir.path(), Some(&right))?;
        let at = slot(&store)?;
        assert!(files_with(dir.path(), &*opened.read(at)?).is_empty(), "the key in use");
        assert!(files_with(dir.path(), &*opened.read(at.other())?).is_empty(), "the next one");
        // What a thief who learns the passphrase later needs is destroyed as it is without one.
        let wrapped = opened.raw(at)?;
        assert_eq!(files_with(dir.path(), &*wrapped), [FILE], "the search finds what is there");
        retired.push(wrapped);
        store.commit(&[state("epoch/1/1", Some(round))])?;
        assert!(retired.iter().all(|wrapped| files_with(dir.path(), &**wrapped).is_empty()));
    }
    drop(store);
    let before = std::fs::read(dir.path().join(FILE))?;
    let refused = said(Store::open(dir.path(), None));
    assert!(refused.contains("agent.keys is encrypted: give the file"), "{refused}");
    let refused = said(Store::read_state(dir.path(), None));
    assert!(refused.contains("agent.keys is encrypted: give the file"), "{refused}");
    let refused = said(Store::open(dir.path(), Some(&wrong)));
    assert!(refused.contains("another passphrase"), "{refused}");
    assert_eq!(std::fs::read(dir.path().join(FILE))?, before, "who cannot open it changes nothing");
    let rows = Store::read_state(dir.path(), Some(&right))?;
    assert_eq!(rows, Store::open(dir.path(), Some(&right))?.state()?);
    assert_eq!(rows.iter().find(|(key, _)| key == "epoch/1/2").unwrap().1.as_slice(), KEPT);
    Ok(())
}

/// Also if the start at which it is moved fails, in whichever way.
#[test]
fn a_master_key_from_before_the_passphrase_is_gone_after_a_start_with_it() -> Result<()> {
    let right = passphrase("correct horse");
    for fault in [None].into_iter().chain(Fault::ALL.map(Some)) {
        let dir = tempfile::tempdir()?;
        let store = prepared(dir.path())?;
        let (bare, rows) = (master(&store, dir.path())?, store.state()?);
        drop(store);
        assert_eq!(files_with(dir.path(), &*bare), [FILE]);
        if let Some(fault) = fault {
            let db = crate::store::connect(&dir.path().join(crate::store::FILE))?;
            fault.strike(&db)?;
            assert!(Vault::open(dir.path(), Some(&right), &db).is_err(), "{fault:?}");
            assert_eq!(files_with(dir.path(), &*bare), [FILE], "{fault:?}: it failed too late");
        }
        assert_eq!(Store::open(dir.path(), Some(&right))?.state()?, rows, "{fault:?}");
        assert!(files_with(dir.path(), &*bare).is_empty(), "{fault:?}");
        assert!(said(Store::open(dir.path(), None)).contains("is encrypted"), "{fault:?}");
        // A second start has nothing to move.
        let wrapped = KeyFile::open_to_read(dir.path(), Some(&right))?;
        let before = Store::open(dir.path(), Some(&right)).and_then(|store| slot(&store))?;
        assert_eq!(slot(&Store::open(dir.path(), Some(&right))?)?, before);
        assert!(!wrapped.is_to_be_wrapped(before)? && !wrapped.is_to_be_wrapped(before.other())?);
    }
    Ok(())
}

#[test]
fn a_file_that_is_damaged_is_not_read_as_something_else() -> Result<()> {
    let right = passphrase("correct horse");
    let dir = tempfile::tempdir()?;
    let whole = prepared_with(dir.path(), Some(&right)).and_then(|store| slot(&store))?;
    let bytes = std::fs::read(dir.path().join(FILE))?;
    let start =
        if whole == Slot::First { 0 } else { bytes.len() - KeyFile::open_to_read(dir.path(), None)?.raw(whole)?.len() };
    // The first byte, the work, the salt, the nonce, the key, the tag.
    for at in [0, 1, 2, 6, 22, 40, 81] {
        let mut damaged = bytes.clone();
        damaged[start + at] ^= 0x80;
        std::fs::write(dir.path().join(FILE), damaged)?;
        let refused = said(Store::read_state(dir.path(), Some(&right)));
        assert!(refused.contains("damaged"), "byte {at}: {refused}");
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
        let reader = scope.spawn(|| (0..200).try_for_each(|_| Store::read_state(dir.path(), None).map(drop)));
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
    let error = Store::open(dir.path(), None).map_or_else(|error| format!("{error:#}"), |_| String::new());
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
