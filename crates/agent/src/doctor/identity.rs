//! Who the device is: its certificate, its key, and what it knows of its network.

use std::path::Path;

use sealcast_identity::SigningKey;
use sealcast_node::{
    KeyFiles,
    doctor::{Report, check_certificate},
    files, output,
};

use crate::Folder;

/// A third of the lifetime is left when the agent renews, and a thirtieth later it should have been able to.
const WARN_PART: u64 = 30;
const RENEWAL: &str = "the agent renews it by itself while it runs and reaches the hub: start it, and see its log. If it \
                       has expired, stop the agent, `sealcast device add NAME`, and `sealcast enroll` with this \
                       folder: key and grants stay";
const RESTORE: &str = "restore device.pem, device.key, root.pem and network.json from one backup, or enrol the device \
                       again in an empty folder: sealcast device add NAME";

/// Who the device is.
pub struct Identified {
    /// With its certificates.
    pub folder: Folder,
    /// Its key, if it can be used.
    pub key: Option<SigningKey>,
}

/// Reads all that says who the device is. `None` if that cannot be said.
pub fn check(report: &mut Report, dir: &Path, key_files: Option<&KeyFiles>, now_ms: u64) -> Option<Identified> {
    let leaf = report.attempt("certificate", files::certificate(&dir.join("device.pem")), RESTORE)?;
    check_certificate(report, "certificate", &leaf, now_ms, WARN_PART, RENEWAL);
    // One that has expired still says whose it is.
    let at_ms = if leaf.is_valid_at(now_ms) { now_ms } else { leaf.not_before_s() * 1000 };
    let folder = report.attempt("network", Folder::open_at(dir, at_ms), RESTORE)?;
    let written = output::utc(folder.network.written_ms / 1000);
    report.ok(
        "network",
        format!("the certificate leads to this network's root; hub {}, as of {written}", folder.network.hub),
    );
    let key = key_files.and_then(|key_files| report.attempt("key", folder.key(key_files), RESTORE));
    if key.is_some() {
        report.ok("key", "device.key is that of the certificate");
    }
    Some(Identified { folder, key })
}
