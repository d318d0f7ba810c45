//! The file of tokens that `sealcast device add --csv` writes, and goes on from when it is run again.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use csv::{ReaderBuilder, Writer};
use sealcast_identity::{DeviceId, EnrolmentToken, Fingerprint};
use sealcast_node::{
    files::{self, Lock, Mode},
    key_files,
};
use zeroize::Zeroizing;

use super::invitation::Invitation;

const COLUMNS: [&str; 3] = ["device", "token", "expires_s"];
/// Longest file that is read, in bytes.
const MAX_FILE_BYTES: usize = 64 << 20;

/// Until it is dropped no other run invites many devices of this hub: two would write over each other's tokens.
pub fn lock(hub: &Path) -> Result<Lock> {
    files::lock_file(&hub.join("invitations.lock"), || {
        format!("another `sealcast device add --csv` works on {}: wait until it has ended", hub.display())
    })
}

/// The invitations in the file at `path`, by device; none if there is no such file.
///
/// # Errors
/// It is another file, which must not be written over, or of another hub than that with this `root`.
pub fn read(path: &Path, root: Fingerprint) -> Result<BTreeMap<DeviceId, Invitation>> {
    if !path.try_exists().unwrap_or(true) {
        return Ok(BTreeMap::new());
    }
    // A token that somebody else has written would let in whoever knows it.
    let bytes = key_files::read_secret(path, MAX_FILE_BYTES)?;
    parse(&bytes, root).with_context(|| {
        format!("{} is there, and is no list of this hub's tokens: give another file with --out", path.display())
    })
}

fn parse(bytes: &[u8], root: Fingerprint) -> Result<BTreeMap<DeviceId, Invitation>> {
    let mut reader = ReaderBuilder::new().from_reader(bytes);
    ensure!(reader.headers()? == COLUMNS.as_slice(), "its columns are not {}", COLUMNS.join(", "));
    let mut invitations = BTreeMap::new();
    for row in reader.records() {
        let row = row?;
        let line = row.position().map_or(0, csv::Position::line);
        let [Some(device), Some(token), Some(expires_s)] = [0, 1, 2].map(|at| row.get(at)) else {
            bail!("line {line} has not {} cells", COLUMNS.len());
        };
        let token: EnrolmentToken = token.parse().with_context(|| format!("line {line}"))?;
        ensure!(token.device().as_str() == device, "line {line}: the token is for {}", token.device());
        ensure!(token.root() == root, "line {line}: the token is of another hub");
        let expires_s: u64 = expires_s.parse().with_context(|| format!("line {line}: expires_s"))?;
        invitations.insert(token.device().clone(), Invitation { token, expires_ms: expires_s.saturating_mul(1000) });
    }
    Ok(invitations)
}

/// Writes them, for the owner of the file only.
pub fn write<'a>(path: &Path, invitations: impl Iterator<Item = &'a Invitation>) -> Result<()> {
    files::write(path, &text(invitations)?, Mode::Secret)
}

fn text<'a>(invitations: impl Iterator<Item = &'a Invitation>) -> Result<Zeroizing<Vec<u8>>> {
    let mut writer = Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for Invitation { token, expires_ms } in invitations {
        let expires_s = (expires_ms / 1000).to_string();
        writer.write_record([token.device().as_str(), &token.to_text(), &expires_s])?;
    }
    Ok(Zeroizing::new(writer.into_inner()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(device: &str, root: u8) -> Result<Invitation> {
        let text = format!("{device}.{}.{}", "A".repeat(24), root_text(root));
        Ok(Invitation { token: text.parse()?, expires_ms: 1_800_000_000_000 })
    }

    fn root_text(root: u8) -> String {
        // 43 characters of base64url stand for 32 bytes.
        if root == 0 { "A".repeat(43) } else { format!("{}E", "B".repeat(42)) }
    }

    #[test]
    fn what_is_written_is_read_and_another_file_is_not() -> Result<()> {
        let [one, two] = [token("a.b", 0)?, token("1111", 0)?];
        let root = one.token.root();
        let written = text([&one, &two].into_iter())?;
        let read = parse(&written, root)?;
        assert_eq!(text(read.values())?, text([&two, &one].into_iter())?);
        let written = String::from_utf8(written.to_vec())?;
        for (text, part) in [
            (written.replace("device,", "name,"), "columns"),
            (written.replace("\n1111,", "\n1112,"), "the token is for 1111"),
            (written.replace("1800000000", "soon"), "expires_s"),
            (written.replace("\n1111,", "\n"), "line: 3"),
            (String::new(), "columns"),
        ] {
            let error = parse(text.as_bytes(), root).map_or_else(|error| format!("{error:#}"), |_| "taken".into());
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(parse(written.as_bytes(), token("x", 1)?.token.root()).is_err());
        Ok(())
    }
}
