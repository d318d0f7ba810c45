//! `[relay]` of `hub.toml`: what devices may put on the ledger.

use anyhow::{Result, ensure};
use sealcast_chain::{Quota, RelayLimits};
use sealcast_ledger::MAX_BODY_BYTES;
use serde::Deserialize;

/// The table as it stands in the file: for each quota what it allows at once, and how much an hour after that.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelayFile {
    /// Entries of one device. Default 64.
    device_entries: u64,
    /// Default 7,200: two a second.
    device_entries_per_hour: u64,
    /// Bytes of them. Default 2,097,152.
    device_bytes: u64,
    /// Default 2,097,152.
    device_bytes_per_hour: u64,
    /// Commits of one group, of which one device may use half. Default 256.
    group_commits: u64,
    /// Default 3,600: one a second.
    group_commits_per_hour: u64,
    /// Bytes of them. Default 8,388,608.
    group_bytes: u64,
    /// Default 4,194,304.
    group_bytes_per_hour: u64,
}

impl Default for RelayFile {
    fn default() -> Self {
        let RelayLimits { device_entries, device_bytes, group_commits, group_bytes } = RelayLimits::default();
        Self {
            device_entries: device_entries.burst,
            device_entries_per_hour: device_entries.per_hour,
            device_bytes: device_bytes.burst,
            device_bytes_per_hour: device_bytes.per_hour,
            group_commits: group_commits.burst,
            group_commits_per_hour: group_commits.per_hour,
            group_bytes: group_bytes.burst,
            group_bytes_per_hour: group_bytes.per_hour,
        }
    }
}

/// More than the longest entry has.
const LONGEST: u64 = MAX_BODY_BYTES as u64 + 1_024;
const MOST: u64 = 1 << 40;

impl RelayFile {
    /// Checks every value. The longest entry fits into every quota, and into half of a group's.
    pub fn validate(self) -> Result<RelayLimits> {
        let quota = |key: &str, (burst, per_hour): (u64, u64), least: u64| {
            ensure!((least..=MOST).contains(&burst), "relay.{key}: must be from {least} to {MOST}");
            ensure!((1..=MOST).contains(&per_hour), "relay.{key}_per_hour: must be from 1 to {MOST}");
            Ok(Quota { burst, per_hour })
        };
        Ok(RelayLimits {
            device_entries: quota("device_entries", (self.device_entries, self.device_entries_per_hour), 1)?,
            device_bytes: quota("device_bytes", (self.device_bytes, self.device_bytes_per_hour), LONGEST)?,
            group_commits: quota("group_commits", (self.group_commits, self.group_commits_per_hour), 2)?,
            group_bytes: quota("group_bytes", (self.group_bytes, self.group_bytes_per_hour), 2 * LONGEST)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HubFile;

    #[test]
    fn each_key_sets_its_own_quota() -> Result<()> {
        let text = "[relay]\ndevice_entries = 1\ndevice_entries_per_hour = 2\ndevice_bytes = 300000\n\
                    device_bytes_per_hour = 4\ngroup_commits = 5\ngroup_commits_per_hour = 6\ngroup_bytes = 700000\n\
                    group_bytes_per_hour = 8";
        let RelayLimits { device_entries, device_bytes, group_commits, group_bytes } =
            toml::from_str::<HubFile>(text)?.validate()?.relay;
        let quotas = [device_entries, device_bytes, group_commits, group_bytes];
        let expected = [(1, 2), (300_000, 4), (5, 6), (700_000, 8)].map(|(burst, per_hour)| Quota { burst, per_hour });
        assert_eq!(quotas, expected);
        assert_eq!(HubFile::default().validate()?.relay, RelayLimits::default());
        Ok(())
    }

    #[test]
    fn a_quota_that_would_keep_an_entry_out_for_good_is_refused() {
        for (text, part) in [
            ("device_entries = 0", "relay.device_entries: must be from 1 to"),
            ("device_bytes = 1000", "relay.device_bytes: must be from 99328 to"),
            ("device_bytes_per_hour = 0", "relay.device_bytes_per_hour: must be from 1 to"),
            ("group_commits = 1", "relay.group_commits: must be from 2 to"),
            ("group_bytes = 100000", "relay.group_bytes: must be from 198656 to"),
            ("group_byte = 1", "group_byte"),
        ] {
            let read = || toml::from_str::<HubFile>(&format!("[relay]\n{text}"))?.validate();
            let error = read().map_or_else(|error| format!("{error:#}"), |_| "accepted".into());
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
