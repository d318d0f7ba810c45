//! Why connections end.

use sealcast_mqtt::{
    client::{CloseReason, Reason},
    reason,
};

use super::version::Greeting;

/// How a broker took a CONNECT, if the connection ended for this reason.
pub(super) fn greeting_of(before: Greeting, reason: &CloseReason) -> Greeting {
    match reason {
        _ if before == Greeting::Answered => before,
        CloseReason::Refused(Reason { code: reason::UNSUPPORTED_VERSION, .. }) => Greeting::RefusedVersion,
        CloseReason::Refused(_) => Greeting::Answered,
        _ => Greeting::Closed,
    }
}

/// In words, with what to do.
pub(super) fn describe(reason: &CloseReason) -> String {
    match reason {
        CloseReason::Refused(Reason { code: reason::QUOTA_EXCEEDED, .. }) => {
            "the broker refused the connection: quota exceeded, this device has as many sessions there as it may, online \
             and offline (limits.max_device_sessions in hub.toml)"
                .into()
        }
        CloseReason::Refused(Reason { code: reason::BANNED, .. }) => {
            "the broker refused the connection: this device is revoked; to let it in again, the operator runs `sealcast \
             device add` for it, it enrols with the new token, and its groups are granted again"
                .into()
        }
        CloseReason::Refused(Reason { code: reason::NOT_AUTHORIZED, .. }) => {
            "the broker refused the connection: not authorized, the hub does not know this certificate, or the device has a \
             newer one: use the folder that was enrolled last, or enrol again"
                .into()
        }
        other => other.to_string(),
    }
}
