//! `sealcast doctor` on folders that another user controls, and on disks that take nothing.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rusqlite::Connection;

use super::{Found, content, copy};
use crate::harness::{Agent, Hub, configure, sealcast_after, secret_file, succeed, until_joined};

/// What reads a pipe that nobody writes to, or a device that has no end, takes for ever.
const SOON: Duration = Duration::from_secs(60);

fn make_pipe(path: &Path) {
    succeed(Command::new("mkfifo").args(["-m", "600"]).arg(path));
}

fn make_endless(path: &Path) {
    symlink("/dev/zero", path).unwrap();
}

/// Copies of the folder `dir`, in each of which something stands in place of one of the files `names`: what is found in it.
fn each_replaced(option: &str, dir: &Path, names: &[&str], mut check: impl FnMut(&str, &Found)) {
    for (kind, make) in [("pipe", make_pipe as fn(&Path)), ("endless", make_endless)] {
        for name in names {
            let broken = dir.with_file_name(format!("{kind} {name}"));
            copy(dir, &broken);
            fs::remove_file(broken.join(name)).unwrap();
            make(&broken.join(name));
            let start = Instant::now();
            let found = Found::by(
                Command::new("timeout")
                    .arg(SOON.as_secs().to_string())
                    .arg(env!("CARGO_BIN_EXE_sealcast"))
                    .args(["doctor", "--json", option])
                    .arg(&broken),
            );
            assert!(start.elapsed() < SOON, "{kind} {name}");
            check(name, &found);
            fs::remove_dir_all(broken).unwrap();
        }
    }
}

/// All files of the folder `dir`.
fn names(dir: &Path) -> Vec<String> {
    content(dir).into_keys().collect()
}

#[test]
fn no_file_of_a_folder_holds_it_up_or_fills_the_memory() {
    let mut hub = Hub::start();
    let dir = hub.enroll("1111");
    let mut agent = Agent::start(&dir, &[]);
    agent.end();
    hub.kill();
    secret_file(&dir.join("passphrase"), "correct-horse");
    secret_file(&dir.join("http.token"), "correct-horse-battery");
    let http = "[http]\nlisten = '127.0.0.1:0'\ntoken_file = 'http.token'\n";
    configure(&dir, &format!("passphrase_file = 'passphrase'\n{http}"));
    let told = [
        ("agent.toml", "configuration"),
        ("passphrase", "passphrase"),
        ("http.token", "listeners"),
        ("device.pem", "certificate"),
        ("device.key", "key"),
        ("root.pem", "network"),
        ("network.json", "network"),
        ("agent.sqlite", "state"),
        ("agent.keys", "state"),
    ];
    for (option, dir) in [("--dir", dir), ("--hub", hub.path().to_owned()), ("--operator", hub.operator())] {
        let names = names(&dir);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        each_replaced(option, &dir, &names, |name, found| {
            found.assert_says("disk", "are free");
            if let (true, Some((_, check))) = (option == "--dir", told.iter().find(|(told, _)| *told == name)) {
                found.assert_failure(check, if *check == "state" { "" } else { "is not a regular file" });
            }
        });
        assert!(option != "--dir" || told.iter().all(|(told, _)| names.contains(told)), "{names:?}");
    }
}

/// In place of the tables are views whose rows never end.
#[test]
fn a_database_with_endless_views_is_told() {
    let mut hub = Hub::start();
    let dir = hub.enroll("1111");
    let mut agent = Agent::start(&dir, &[]);
    agent.end();
    hub.kill();
    let spoil = |path: PathBuf, table: &str, columns: &str| {
        let db = Connection::open(path).unwrap();
        let endless = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n)";
        db.execute_batch(&format!("ALTER TABLE {table} RENAME TO moved; CREATE VIEW {table} AS {endless} {columns}"))
            .unwrap();
    };
    spoil(dir.join("agent.sqlite"), "record", "SELECT i AS idx, zeroblob(9) AS bytes FROM n WHERE i < 0");
    let found = Found::of("--dir", &dir, &[]);
    found.assert_failure("state", "it has the view record");
    spoil(hub.path().join("broker.db"), "retained", "SELECT 'x' AS topic, x'' AS payload FROM n WHERE i < 0");
    let found = Found::of("--hub", hub.path(), &[]);
    found.assert_failure("databases", "it has the view retained");
    found.assert_failure("operator", "it has the view retained");
}

/// The same folder, in a mount namespace of its own where `mount` was run with its path as `$0`. Needs no rights where users may
/// make namespaces.
fn mounted(dir: &Path, mount: &str) -> Found {
    let script = format!("{mount} && exec \"$1\" doctor --json --dir \"$0\"");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &script]);
    Found::by(command.arg(dir).arg(env!("CARGO_BIN_EXE_sealcast")))
}

/// Whether this machine lets the tests do that: a container often does not.
fn may_mount() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/tmp"]);
    command.output().is_ok_and(|ran| ran.status.success())
}

/// A disk of this size with the folder's files on it.
fn small_disk(size: &str) -> String {
    format!(
        "copy=$(mktemp -d) && cp -a \"$0\"/. \"$copy\" && mount -t tmpfs -o mode=700,{size} none \"$0\" && \
         cp -a \"$copy\"/. \"$0\" && rm -r \"$copy\""
    )
}

#[test]
fn a_disk_that_is_full_or_read_only_is_told_and_the_state_on_it_is_read_all_the_same() {
    let hub = Hub::start();
    let dirs = hub.members("hsu0001", ["", ""]);
    let agents = dirs.each_ref().map(|dir| Agent::start(dir, &[]));
    until_joined(&agents[0], &agents[1], "hsu0001/probe");
    // It is killed, and leaves a log beside its database.
    drop(agents);
    let dir = &dirs[0];
    assert!(fs::metadata(dir.join("agent.sqlite-wal")).unwrap().size() > 0);
    let before = content(dir);

    match may_mount() {
        true => on_small_disks(dir),
        false => eprintln!("mount namespaces are not allowed here: small and read-only disks are not tried"),
    }

    // A file system that takes no byte more: nothing has to be written to read it.
    let mut full = sealcast_after("trap '' XFSZ; ulimit -f 0");
    let found = Found::by(full.args(["doctor", "--json", "--dir"]).arg(dir));
    found.assert_says("state", "agent.sqlite is whole");
    found.assert_says("groups", "hsu0001: 2 of 2");
    assert_eq!(content(dir), before, "nothing of it has changed");
}

fn on_small_disks(dir: &Path) {
    let found = mounted(dir, &small_disk("size=8m"));
    found.assert_failure("disk", "MiB are free");
    found.assert_says("state", "agent.sqlite is whole");
    found.assert_says("groups", "hsu0001: 2 of 2");
    let found = mounted(dir, &small_disk("size=64m"));
    found.assert_fault("warning", "disk", "MiB are free");
    let few = small_disk("size=64m,nr_inodes=64");
    let found = mounted(dir, &format!("{few} && {{ while touch \"$0/$((n += 1))\"; do :; done 2>/dev/null; true; }}"));
    found.assert_failure("disk", "no more files can be made");
    found.assert_says("state", "agent.sqlite is whole");

    let found = mounted(dir, "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\"");
    found.assert_failure("disk", "mounted read-only");
    found.assert_says("state", "agent.sqlite is whole");
    found.assert_says("groups", "hsu0001: 2 of 2");
    found.assert_says("broker", "takes this device's connection");
}
