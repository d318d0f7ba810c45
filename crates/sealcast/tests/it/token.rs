//! Private keys in a token: the CA's, the operator's and devices' sign there, and no file has them.

use std::{fs, path::Path, process::Command};

use crate::{
    at_rest::{keys, refusal, secret},
    harness::{Agent, Hub, SoftToken, sealcast, succeed, until_joined},
};

/// The commands of these tests reach the token.
fn with(token: &SoftToken) -> impl Fn() -> Command + use<> {
    let environment = token.environment();
    move || {
        let mut command = sealcast();
        command.envs([environment.clone()]);
        command
    }
}

fn enroll(hub: &Hub, mut command: Command, device: &str, dir: &Path, uri: &str) -> Command {
    let token = hub.invite(device);
    command.args(["enroll", "--hub", &format!("https://{}", hub.est)]).arg("--token-file").arg(token);
    command.arg("--dir").arg(dir).args(["--key", uri]);
    command
}

#[test]
fn a_ca_an_operator_and_devices_have_their_keys_in_a_token() {
    let token = SoftToken::new();
    let command = with(&token);
    let issuing = token.uri("issuing");
    let mut hub = Hub::start_with(&[token.environment()], |dir| {
        fs::write(dir.join("hub.toml"), format!("issuing_key = {issuing:?}")).unwrap();
    });
    assert_eq!(fs::read_to_string(hub.path().join("issuing.key")).unwrap().trim_end(), issuing);

    // A certificate, TLS, entries, leaves, messages: the device's key signs all of them.
    hub.operate(&["group", "create", "hsu0001", "--filter", "hsu0001/#"]);
    let dirs = ["1111", "1112"].map(|device| hub.dir.path().join(device));
    for (device, dir) in ["1111", "1112"].iter().zip(&dirs) {
        succeed(&mut enroll(&hub, command(), device, dir, &token.uri(device)));
        assert_eq!(fs::read_to_string(dir.join("device.key")).unwrap().trim_end(), token.uri(device));
    }
    let plain = hub.enroll("1113");
    hub.operate(&["group", "grant", "hsu0001", "1111", "1112", "1113"]);
    let mut agents = dirs.each_ref().map(|dir| Agent::start_by(with(&token), dir, &[]));
    let plain = Agent::start(&plain, &[]);
    until_joined(&agents[0], &agents[1], "hsu0001/probe");
    until_joined(&agents[1], &plain, "hsu0001/probe");
    until_joined(&plain, &agents[0], "hsu0001/probe");
    agents[0].kill();
    agents[0].restart();
    until_joined(&agents[0], &plain, "hsu0001/probe");
    // The same key, not another one of that name: the device's certificate is renewed.
    succeed(&mut enroll(&hub, command(), "1112", &dirs[1].with_extension("again"), &token.uri("1112")));

    // Another operator's key and another CA's, which are in the token too.
    let mut rotate = command();
    rotate.args(["key", "rotate", "operator", "--key", &token.uri("operator")]).arg("--operator").arg(hub.operator());
    succeed(&mut rotate);
    let mut reset = command();
    succeed(reset.args(["group", "reset", "hsu0001", "--operator"]).arg(hub.operator()));
    hub.kill();
    let mut rotate = command();
    rotate.args(["key", "rotate", "ca", "--key", &issuing]).arg("--hub").arg(hub.path());
    let said = refusal(&mut rotate);
    assert!(said.contains("issuing.key is the key that --key names"), "{said}");
    let mut rotate = command();
    succeed(rotate.args(["key", "rotate", "ca", "--key", &token.uri("second")]).arg("--hub").arg(hub.path()));
    hub.restart();
    until_joined(&agents[0], &plain, "hsu0001/probe");
    let mut found: Vec<_> = keys(hub.dir.path()).into_iter().map(|(path, _)| path).collect();
    found.sort();
    let names: Vec<_> = found.iter().map(|path| path.strip_prefix(hub.dir.path()).unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["agents/1113/device.key", "hub/server.key", "hub-root/root.key"], "no other key is in a file");
}

#[test]
fn what_is_wrong_with_a_token_is_said_and_makes_no_key() {
    let token = SoftToken::new();
    let hub = Hub::start();
    let dir = hub.dir.path().join("1111");
    let refused = |uri: &str, extra: &[&str]| refusal(enroll(&hub, with(&token)(), "1111", &dir, uri).args(extra));
    let wrong = secret(&hub.dir.path().join("wrong"), "1234567\n");
    let uri = token.uri_without_pin("1111");
    for (uri, extra, part) in [
        (&uri, &["--passphrase-file", wrong.to_str().unwrap()][..], "does not take the PIN"),
        (&uri, &[], "name the file that holds it by pin-source"),
        (&uri.replace("token=sealcast", "token=other"), &[][..], "no such token, but these: sealcast"),
        (&uri.replace("libsofthsm2", "libother"), &[], "module-path"),
        (&uri.replace(";object=1111", ""), &[], "give object or id"),
        (&format!("{uri}&pin-value=7654321"), &[], "pin-source"),
        (&"device.key".to_owned(), &[], "not a pkcs11: URI"),
    ] {
        let said = refused(uri, extra);
        assert!(said.contains(part), "{uri}: {said}");
        assert!(!dir.join("device.key").exists(), "{uri}");
    }
    // The passphrase is the PIN where the URI names none.
    let pin = token.pin();
    let pin = pin.to_str().unwrap();
    succeed(enroll(&hub, with(&token)(), "1111", &dir, &uri).args(["--passphrase-file", pin]));
    let said = refused(&token.uri("other"), &["--passphrase-file", pin]);
    assert!(said.contains("is there already"), "{said}");
    // An agent does not make the key that it lacks.
    fs::remove_file(dir.join("device.key")).unwrap();
    secret(&dir.join("device.key"), &token.uri("lost"));
    let said = refusal(with(&token)().args(["agent", "--check", "--dir"]).arg(&dir));
    assert!(said.contains("device.key") && said.contains("the token holds no such key"), "{said}");
}
