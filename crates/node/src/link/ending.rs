//! Why connections end.

use sealcast_mqtt::{
    client::{CloseReason, Reason},
    reason,
};

use super::version::Greeting;
use crate::upstream::Upstream;

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
pub(super) fn describe(reason: &CloseReason, upstream: &Upstream) -> String {
    match reason {
        CloseReason::Refused(refused) if upstream.is_foreign() => describe_foreign(refused, upstream),
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

/// The same for a broker that is not the hub's, and knows users.
fn describe_foreign(refused: &Reason, upstream: &Upstream) -> String {
    let advice = match refused.code {
        reason::BAD_USER_NAME_OR_PASSWORD | reason::NOT_AUTHORIZED => {
            ": check `user`, `password_file` and, if it asks for one, the certificate, in [upstream] of agent.toml ([broker] of \
             hub.toml and operator.toml), and that the broker lets them in"
        }
        reason::CLIENT_IDENTIFIER_NOT_VALID => ": it has to take client identifiers that begin with sealcast-",
        _ => "",
    };
    format!("the broker at {upstream} refused the connection: {refused}{advice}")
}

#[cfg(test)]
mod tests {
    use sealcast_topic::Wire;

    use super::*;

    /// Enrolling again would not help there.
    #[test]
    fn a_broker_that_the_hub_too_is_a_client_of_wants_a_login() -> anyhow::Result<()> {
        let refused = CloseReason::Refused(Reason { code: reason::NOT_AUTHORIZED, text: None });
        let hubs = Upstream::new("localhost:1".parse()?, None);
        assert!(describe(&refused, &hubs).contains("enrol again"));
        let foreign = describe(&refused, &hubs.with_wire(Wire::foreign()));
        assert!(foreign.contains("check `user`, `password_file`") && !foreign.contains("enrol again"), "{foreign}");
        Ok(())
    }
}
