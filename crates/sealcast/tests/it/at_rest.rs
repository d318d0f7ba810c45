//! Keys at rest: where a passphrase is given, no private key lies on a disk in the clear.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use sealcast_agent::Store;
use sealcast_node::KeyFiles;

use crate::harness::{Agent, Hub, configure, output, sealcast, succeed, until_joined};

const PASSPHRASE: &str = "correct-horse-battery-staple";

/// A file of the owner alone.
pub fn secret(path: &Path, content: &str) -> PathBuf {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_owned()
}

/// What `command` says when it fails.
pub fn refusal(command: &mut Command) -> String {
    let output = output(command);
    assert!(!output.status.success(), "{command:?} succeeded");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// All files below `dir` that hold a key in PEM, with its label.
pub fn keys(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(keys(&path));
        } else if let Ok(text) = fs::read_to_string(&path)
            && let Some(label) = text.lines().find(|line| line.ends_with("PRIVATE KEY-----"))
        {
            found.push((path, label.to_owned()));
        }
    }
    found
}

#[test]
fn private_keys_are_encrypted_where_a_passphrase_is_given() {
    let mut hub = Hub::start_with(&[], |dir| {
        secret(&dir.join("passphrase"), &format!("{PASSPHRASE}\n"));
        fs::write(dir.join("hub.toml"), "passphrase_file = 'passphrase'").unwrap();
    });
    let passphrase = hub.path().join("passphrase");
    let operate = |hub: &Hub, args: &[&str]| {
        succeed(hub.command(args).arg("--passphrase-file").arg(&passphrase));
    };
    let said = refusal(&mut hub.command(&["group", "list"]));
    assert!(said.contains("operator.key") && said.contains("--passphrase-file"), "{said}");
    operate(&hub, &["group", "create", "hsu0001", "--filter", "hsu0001/#"]);

    let dirs = ["1111", "1112"].map(|device| {
        let token = hub.invite(device);
        let dir = hub.dir.path().join(device);
        let mut enroll = sealcast();
        enroll.args(["enroll", "--hub", &format!("https://{}", hub.est)]).arg("--token-file").arg(token);
        succeed(enroll.arg("--dir").arg(&dir).arg("--passphrase-file").arg(&passphrase));
        configure(&dir, &format!("passphrase_file = {passphrase:?}"));
        dir
    });
    operate(&hub, &["group", "grant", "hsu0001", "1111", "1112"]);
    let [first, second] = dirs.each_ref().map(|dir| Agent::start(dir, &[]));
    until_joined(&first, &second, "hsu0001/probe");

    // Keys that are made later, too.
    operate(&hub, &["key", "rotate", "operator"]);
    hub.kill();
    succeed(sealcast().args(["key", "rotate", "ca", "--hub"]).arg(hub.path()));
    hub.restart();
    until_joined(&first, &second, "hsu0001/probe");
    let found = keys(hub.dir.path());
    let names: Vec<_> = found.iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap()).collect();
    for name in ["issuing.key", "server.key", "operator.key", "root.key", "device.key"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    let clear: Vec<_> = found.iter().filter(|(_, label)| label != "-----BEGIN ENCRYPTED PRIVATE KEY-----").collect();
    assert!(clear.is_empty(), "{clear:?}");

    // What an agent keeps of its groups is no use without the passphrase, nor is any file of its folder.
    let said = Store::read_state(&dirs[0], None).map_or_else(|error| format!("{error:#}"), |_| "read".to_owned());
    assert!(said.contains("agent.keys is encrypted"), "{said}");
    let key_files = KeyFiles::new(Some(&passphrase)).unwrap();
    let device_key = key_files.read(&dirs[0].join("device.key")).unwrap();
    let mut secrets = vec![device_key.scalar().unwrap().to_vec()];
    for (name, value) in Store::read_state(&dirs[0], key_files.passphrase()).unwrap() {
        assert!(!value.windows(32).any(|window| window == secrets[0]), "{name} holds the device's key");
        // Generation, epoch and leaf come before the exporter secret.
        secrets.extend(name.starts_with("epoch/").then(|| value[16..][..32].to_vec()));
        secrets.extend(name.starts_with("mls/").then(|| value.to_vec()));
    }
    assert!(secrets.len() >= 3, "{}", secrets.len());
    for file in fs::read_dir(&dirs[0]).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        let bytes = fs::read(&file).unwrap();
        let text = String::from_utf8_lossy(&bytes).replace('\n', "");
        for secret in &secrets {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{}", file.display());
            assert!(!text.contains(&hex::encode(secret)), "{}", file.display());
        }
    }

    // Without the passphrase, and with another one, nobody gets anywhere, and the agent says so before it runs.
    let other = secret(&hub.dir.path().join("other"), "another-passphrase\n");
    let agent = |extra: &[&str]| refusal(sealcast().args(["agent", "--check", "--dir"]).arg(&dirs[0]).args(extra));
    let said = agent(&["--passphrase-file", other.to_str().unwrap()]);
    assert!(said.contains("device.key") && said.contains("another passphrase"), "{said}");
    configure(&dirs[0], "");
    let said = agent(&[]);
    assert!(said.contains("device.key") && said.contains("passphrase_file"), "{said}");
    hub.kill();
    fs::remove_file(hub.path().join("hub.toml")).unwrap();
    let said = refusal(&mut hub.up(sealcast()));
    assert!(said.contains("issuing.key") && said.contains("passphrase_file"), "{said}");
}

#[test]
fn systemd_s_credential_opens_a_key_that_openssl_has_encrypted() {
    let hub = Hub::start();
    let dir = hub.enroll("1111");
    let key = dir.join("device.key");
    let credentials = tempfile::tempdir().unwrap();
    let credential = secret(&credentials.path().join("sealcast-passphrase"), PASSPHRASE);
    let check = || {
        let mut command = sealcast();
        command.args(["agent", "--check", "--dir"]).arg(&dir).env("CREDENTIALS_DIRECTORY", credentials.path());
        command
    };
    // It says how the key is encrypted, and that does it.
    let said = output(&mut check());
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let advice = said.split("Encrypt it: ").nth(1).unwrap_or_else(|| panic!("{said}")).lines().next().unwrap();
    let advice = advice.replace("PASSPHRASE_FILE", credential.to_str().unwrap());
    succeed(Command::new("sh").args(["-ec", &advice]));
    assert!(fs::read_to_string(&key).unwrap().contains("BEGIN ENCRYPTED PRIVATE KEY"));
    // The mode of a credential shows the mask of its access control list.
    fs::set_permissions(&credential, fs::Permissions::from_mode(0o440)).unwrap();
    let checked = output(&mut check());
    assert!(
        checked.status.success() && !String::from_utf8_lossy(&checked.stderr).contains("not encrypted"),
        "{checked:?}"
    );
    let without = refusal(sealcast().args(["agent", "--check", "--dir"]).arg(&dir));
    assert!(without.contains("device.key") && without.contains("is encrypted"), "{without}");

    fs::set_permissions(&credential, fs::Permissions::from_mode(0o600)).unwrap();
    // The agent's state is moved under the passphrase when it starts with it; then it does not start without.
    let agent = Agent::start(&dir, &["--passphrase-file", credential.to_str().unwrap()]);
    drop(agent);
    let plain = hub.dir.path().join("plain.key");
    let mut decrypt = Command::new("openssl");
    decrypt.args(["pkcs8", "-passin", &format!("file:{}", credential.display())]).arg("-in").arg(&key);
    succeed(decrypt.arg("-out").arg(&plain));
    fs::rename(&plain, &key).unwrap();
    fs::remove_file(&credential).unwrap();
    let said = refusal(&mut check());
    assert!(said.contains("agent.keys is encrypted") && said.contains("passphrase_file"), "{said}");

    // A key that others may read is no secret.
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let said = refusal(&mut check());
    assert!(said.contains("device.key") && said.contains("chmod 600"), "{said}");
}
