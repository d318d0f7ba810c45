//! What the tests of several modules need: a network with its CA, and openssl where it is installed.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{Authority, DeviceId, Issued, Root, SigningKey, TrustAnchor};

/// 2026-01-01T00:00:00Z.
pub(crate) const NOW_MS: u64 = 1_767_225_600_000;
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const DAY_MS: u64 = 86_400_000;

pub(crate) struct Network {
    pub(crate) root: Root,
    pub(crate) authority: Authority,
    pub(crate) anchor: TrustAnchor,
}

impl Network {
    pub(crate) fn new() -> Self {
        let root = Root::create("test", NOW_MS, 3650 * DAY).unwrap();
        let authority = root.create_authority("test", NOW_MS, 365 * DAY).unwrap();
        let anchor = TrustAnchor::new(root.certificate().clone()).unwrap();
        Self { root, authority, anchor }
    }

    pub(crate) fn device(&self, name: &str) -> (SigningKey, Issued) {
        let key = SigningKey::generate().unwrap();
        let issued = self.authority.issue_device(&id(name), key.public(), NOW_MS, 30 * DAY).unwrap();
        (key, issued)
    }
}

pub(crate) fn id(name: &str) -> DeviceId {
    name.parse().unwrap()
}

pub(crate) fn chain_der(issued: &Issued) -> Vec<Vec<u8>> {
    issued.chain().iter().map(|certificate| certificate.der().to_vec()).collect()
}

/// Runs openssl with `input` on its standard input and returns its standard output; `None` where it is not installed.
pub(crate) fn openssl(args: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new("openssl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    // A refusal may close the pipe before all is written; its exit status says so.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

/// A new key and a request for it, DER, both made by openssl: `None` where it is not installed.
pub(crate) fn openssl_request(key_options: &[&str], request_options: &[&str]) -> Option<Vec<u8>> {
    let mut args = vec!["genpkey"];
    args.extend(key_options);
    let key = openssl(&args, b"")?;
    let mut args = vec!["req", "-new", "-key", "/dev/stdin", "-outform", "DER"];
    args.extend(request_options);
    openssl(&args, &key)
}

pub(crate) const P256_KEY: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
