//! A device without our software enrols: `openssl` makes key and request, `curl` speaks EST.

use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};

use serde_json::Value;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpSocket, TcpStream},
};

use crate::harness::{Hub, Port, refuse, sealcast, secret_file, succeed, until};

#[test]
fn curl_and_openssl_alone_can_enrol_a_device() {
    let hub = Hub::start();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let openssl = |args: &[&str]| succeed(Command::new("openssl").args(args));

    let token = std::fs::read_to_string(hub.invite("1111")).unwrap();
    let secret = token.trim().split('.').nth(1).unwrap().to_owned();
    let root = hub.path().join("root.pem").to_str().unwrap().to_owned();
    openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &path("device.key")]);
    openssl(&[
        "req",
        "-new",
        "-key",
        &path("device.key"),
        "-subj",
        "/CN=1111",
        "-outform",
        "DER",
        "-out",
        &path("csr.der"),
    ]);
    openssl(&["base64", "-in", &path("csr.der"), "-out", &path("csr.b64")]);

    let est = |resource: &str| format!("https://{}/.well-known/est/{resource}", hub.est);
    let enrol = |user: &str, out: &str| {
        let mut command = Command::new("curl");
        command
            .args(["-sS", "--cacert", &root, "-u", user, "-H", "Content-Type: application/pkcs10"])
            .args(["--data-binary", &format!("@{}", path("csr.b64")), "-o", &path(out), "-w", "%{http_code}"])
            .arg(est("simpleenroll"));
        succeed(&mut command)
    };
    assert_eq!(enrol("1111:wrong", "refused"), "401");
    assert_eq!(enrol(&format!("1112:{secret}"), "refused"), "401", "a token is for one device");
    assert_eq!(enrol(&format!("1111:{secret}"), "cert.b64"), "200");
    assert_eq!(enrol(&format!("1111:{secret}"), "refused"), "401", "a token is used once");
    succeed(Command::new("curl").args(["-sS", "--fail", "--cacert", &root, "-o", &path("ca.b64"), &est("cacerts")]));

    for name in ["cert", "ca"] {
        openssl(&["base64", "-d", "-in", &path(&format!("{name}.b64")), "-out", &path(&format!("{name}.p7"))]);
        let pem = path(&format!("{name}.pem"));
        openssl(&["pkcs7", "-inform", "DER", "-in", &path(&format!("{name}.p7")), "-print_certs", "-out", &pem]);
    }
    openssl(&["verify", "-CAfile", &root, "-untrusted", &path("ca.pem"), &path("cert.pem")]);
    let subject = openssl(&["x509", "-in", &path("cert.pem"), "-noout", "-subject", "-pubkey"]);
    assert!(subject.contains("1111"), "{subject}");
    assert!(subject.contains(openssl(&["pkey", "-in", &path("device.key"), "-pubout"]).trim()), "the device's own key");

    let devices: Value = serde_json::from_str(&hub.operate(&["device", "list", "--json"])).unwrap();
    assert_eq!(devices[0]["device"], "1111");
    assert_eq!(devices[0]["state"], "active");
}

#[test]
fn an_enrolment_that_cannot_be_is_refused_with_its_reason() {
    let hub = Hub::start();
    let other = Hub::start();
    let dir = tempfile::tempdir().unwrap();
    let token = hub.invite("1111");
    let attempt = |url: &str, token: &std::path::Path| {
        refuse([
            "enroll".as_ref(),
            "--hub".as_ref(),
            url.as_ref(),
            "--token-file".as_ref(),
            token.as_os_str(),
            "--dir".as_ref(),
            dir.path().as_os_str(),
        ])
    };
    let open = dir.path().join("open");
    std::fs::copy(&token, &open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = attempt(&format!("https://{}", hub.est), &open);
    assert!(said.contains("others than its owner may use it (mode 644): chmod 600"), "{said}");
    let said = attempt(&format!("https://{}", other.est), &token);
    assert!(said.contains("not the hub that made the token"), "{said}");
    let garbled = dir.path().join("garbled");
    secret_file(&garbled, "1111.x");
    let said = attempt(&format!("https://{}", hub.est), &garbled);
    assert!(said.contains("token"), "{said}");
    assert!(!dir.path().join("device.pem").exists());

    hub.enroll("1112");
    let said = attempt(&format!("https://{}", hub.est), &hub.path().join("1112.token"));
    assert!(said.contains("401"), "{said}");
}

#[test]
fn a_folder_that_belongs_to_another_device_or_hub_is_not_taken_over() {
    let (hub, other) = (Hub::start(), Hub::start());
    let dir = hub.enroll("1111");
    let kept = || FILES.map(|name| std::fs::read(dir.join(name)).unwrap());
    let before = kept();
    let attempt = |hub: &Hub, device: &str| {
        let (token, url) = (hub.invite(device), format!("https://{}", hub.est));
        refuse(["enroll", "--hub", &url, "--token-file", token.to_str().unwrap(), "--dir", dir.to_str().unwrap()])
    };
    let said = attempt(&hub, "1112");
    assert!(
        said.contains("belongs to the device 1111") && said.contains("enrol 1112 in a folder of its own"),
        "{said}"
    );
    let said = attempt(&other, "1111");
    assert!(said.contains("belongs to a device of another hub"), "{said}");
    assert!(before == kept(), "nothing in the folder has changed");
}

#[test]
fn an_enrolment_that_does_not_reach_its_hub_leaves_nothing_behind() {
    let hub = Hub::start();
    let token = hub.invite("1111");
    let dir = hub.path().join("1111");
    let unused = Port::reserve();
    // Nobody listens, and the broker does.
    for (address, said) in [(unused.address(), "cannot reach the hub"), (hub.mqtt.clone(), "give the hub's HTTPS port")]
    {
        let url = format!("https://{address}");
        let error =
            refuse(["enroll", "--hub", &url, "--token-file", token.to_str().unwrap(), "--dir", dir.to_str().unwrap()]);
        assert!(error.contains(said), "{error}");
        assert!(!dir.exists());
    }
}

/// In the order in which an enrolment writes them. One that failed at a file leaves those before it; one that failed although
/// the file was written leaves that one too.
const FILES: [&str; 6] = ["device.key", "root.pem", "network.json", "agent.keys", "agent.sqlite", "device.pem"];

#[test]
fn an_enrolment_that_failed_at_any_file_is_done_again_with_the_same_key() {
    let hub = Hub::start();
    let first = hub.enroll("1111");
    let url = format!("https://{}", hub.est);
    for written in 0..=FILES.len() {
        let dir = tempfile::tempdir().unwrap();
        for name in &FILES[..written] {
            std::fs::copy(first.join(name), dir.path().join(name)).unwrap();
        }
        if written < FILES.len() {
            let said = refuse(["agent", "--check", "--dir", dir.path().to_str().unwrap()]);
            assert!(said.contains("does not hold an enrolled device"), "after {written} files: {said}");
        }
        // The device is on the ledger, and its token is used up.
        let token = hub.invite("1111");
        succeed(sealcast().args(["enroll", "--hub", &url, "--token-file"]).arg(&token).arg("--dir").arg(dir.path()));
        succeed(sealcast().args(["agent", "--check", "--dir"]).arg(dir.path()));
        let same =
            std::fs::read(first.join("device.key")).unwrap() == std::fs::read(dir.path().join("device.key")).unwrap();
        assert_eq!(same, written > 0, "a key that was made is kept");
    }
}

/// Connections that say nothing. A server that took 256 and let the others wait would let nobody in for ten seconds.
const SILENT: usize = 380;

async fn connect(from: &str, to: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    socket.connect(to.parse::<SocketAddr>().unwrap()).await.unwrap()
}

#[tokio::test]
async fn one_host_with_silent_connections_keeps_no_other_from_enrolling() {
    let hub = Hub::start();
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(connect("127.0.0.2", &hub.est).await);
    }
    let mut command = Command::new("curl");
    let root = hub.path().join("root.pem");
    command.args(["-sS", "--fail", "--max-time", "8", "--interface", "127.0.0.3", "--cacert"]).arg(root);
    succeed(command.args(["-o", "/dev/null", &format!("https://{}/.well-known/est/cacerts", hub.est)]));
    // Those that have no place are closed at once.
    assert_eq!(silent.last_mut().unwrap().read(&mut [0]).await.unwrap(), 0);
}

#[test]
fn a_request_whose_body_does_not_come_is_answered_soon_and_holds_no_place() {
    let hub = Hub::start();
    let mut command = Command::new("curl");
    command.args(["-s", "-u", "1111:secret", "-H", "Content-Type: application/pkcs10", "--cacert"]);
    command.arg(hub.path().join("root.pem")).args(["-X", "POST", "-T", ".", "-o", "/dev/null", "-w", "%{http_code}"]);
    command.arg(format!("https://{}/.well-known/est/simpleenroll", hub.est));
    // The body's end never comes.
    let mut curl = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let stdin = curl.stdin.take().unwrap();
    until("it is answered", || curl.try_wait().unwrap().is_some());
    drop(stdin);
    let said = curl.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(said.stdout).unwrap(), "408");
}
