//! What the checks found, in words that may leave the agent.

use sealcast_quality::{Action, Reason, Verdict};

/// The findings that block the message.
pub(super) fn blocked_by(verdict: &Verdict) -> String {
    format!("blocked by {}", found_by(verdict, Action::Block))
}

/// The findings that led to `action`, with the numbers that were compared. Where a finding may quote a text of the payload,
/// its check is named.
pub(super) fn found_by(verdict: &Verdict, action: Action) -> String {
    let found = verdict.findings().iter().filter(|finding| finding.action == action);
    let words = found.map(|finding| match &finding.reason {
        Reason::Schema { .. } | Reason::NotNumber { .. } => finding.check.as_str().to_owned(),
        _ => finding.to_string(),
    });
    words.collect::<Vec<_>>().join("; ")
}
