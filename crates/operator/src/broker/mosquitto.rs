//! Eclipse mosquitto.

use std::fmt::Write as _;

use sealcast_identity::CRL_PATH;

use super::{
    access::{Access, User},
    file::File,
};

/// With a listener at `port`.
pub fn files(access: &Access, hub: &str, port: u16) -> Vec<File> {
    let settings = format!(
        "# Lines for mosquitto.conf. cafile is the hub's root.pem; certfile and keyfile are this broker's own.\n\
         per_listener_settings true\n\
         persistence true\n\
         set_tcp_nodelay true\n\
         listener {port}\n\
         cafile /etc/mosquitto/certs/root.pem\n\
         certfile /etc/mosquitto/certs/broker.pem\n\
         keyfile /etc/mosquitto/certs/broker.key\n\
         require_certificate true\n\
         use_identity_as_username true\n\
         acl_file /etc/mosquitto/sealcast.acl\n\
         # Revoked certificates. Fetch the list again each hour, and at each revocation:\n\
         #   curl --cacert root.pem {hub}{CRL_PATH} | openssl crl -inform DER -out sealcast.crl && pkill -HUP mosquitto\n\
         # A session that is up stays up: mosquitto judges a certificate when a client connects.\n\
         crlfile /etc/mosquitto/certs/sealcast.crl\n\
         #\n\
         # With passwords in the place of certificates: leave out require_certificate, use_identity_as_username and crlfile,\n\
         # and put in their place\n\
         #   allow_anonymous false\n\
         #   password_file /etc/mosquitto/sealcast.passwords\n\
         # The rules are by user name, so the users have to be hub, operator, and each device by its own name:\n\
         #   mosquitto_passwd -c /etc/mosquitto/sealcast.passwords hub       # -c makes the file, so only the first time\n\
         # Each of them gets its login by `user` and `password_file`: [broker] of hub.toml, [broker] of operator.toml, and\n\
         # [upstream] of a device's agent.toml. A revoked device is shut out when its user is taken away\n\
         # (mosquitto_passwd -D /etc/mosquitto/sealcast.passwords NAME) and mosquitto reads the file again (SIGHUP).\n"
    );
    vec![File { name: "mosquitto.conf", text: settings }, File { name: "sealcast.acl", text: rules(access) }]
}

fn rules(access: &Access) -> String {
    let mut text = String::from("# What each device may do: %u is the common name of its certificate.\n");
    lines(&access.of_device("%u"), "pattern", &mut text);
    for user in &access.beside_pattern() {
        if !user.publishes.is_empty() || !user.subscribes.is_empty() {
            let _ = write!(text, "\nuser {}\n", user.name);
            lines(user, "topic", &mut text);
        }
    }
    text
}

fn lines(user: &User, kind: &str, text: &mut String) {
    for filter in &user.publishes {
        let access = if user.subscribes.contains(filter) { "readwrite" } else { "write" };
        let _ = writeln!(text, "{kind} {access} {filter}");
    }
    for filter in user.subscribes.iter().filter(|filter| !user.publishes.contains(filter)) {
        let _ = writeln!(text, "{kind} read {filter}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::access::example;

    #[test]
    fn a_device_gets_its_groups_and_its_own_topics() {
        let rules = rules(&example());
        for line in [
            "pattern write sealcast/v1/rpc/%u/request",
            "pattern read sealcast/v1/rpc/%u/response",
            "pattern readwrite sealcast/v1/inbox/%u/+/+",
            "pattern write sealcast/v1/inbox/+/+/%u",
            "user 1111\ntopic readwrite hsu0001/#\ntopic readwrite room/+/set",
            "user a.b\ntopic write sealcast/v1/rpc/a=b/request",
            "user hub\ntopic write sealcast/v1/ledger",
        ] {
            assert!(rules.contains(line), "{line} in\n{rules}");
        }
    }
}
