//! EMQX.

use std::fmt::Write as _;

use sealcast_identity::CRL_PATH;

use super::{
    access::{Access, User},
    file::File,
};

pub fn files(access: &Access, hub: &str) -> Vec<File> {
    let settings = format!(
        "# No test of Sealcast has run on EMQX: try these lines out before you rely on them.\n\
         # Lines for emqx.conf. cacertfile is the hub's root.pem; certfile and keyfile are this broker's own.\n\
         mqtt.peer_cert_as_username = cn\n\
         listeners.ssl.default {{\n\
         \x20 bind = 8883\n\
         \x20 ssl_options {{\n\
         \x20   cacertfile = \"/etc/emqx/root.pem\"\n\
         \x20   certfile = \"/etc/emqx/broker.pem\"\n\
         \x20   keyfile = \"/etc/emqx/broker.key\"\n\
         \x20   verify = verify_peer\n\
         \x20   fail_if_no_peer_cert = true\n\
         \x20   # EMQX fetches the list of revoked certificates from the address in the certificates, if they have one; else\n\
         \x20   # ban a revoked device by its name (emqx ctl or the dashboard). The list is at {hub}{CRL_PATH}.\n\
         \x20 }}\n\
         }}\n\
         authorization {{\n\
         \x20 no_match = deny\n\
         \x20 sources = [{{ type = file, enable = true, path = \"/etc/emqx/sealcast-acl.conf\" }}]\n\
         }}\n"
    );
    vec![File { name: "emqx.conf", text: settings }, File { name: "sealcast-acl.conf", text: rules(access) }]
}

fn rules(access: &Access) -> String {
    let mut text = String::from("%% What each device may do: ${username} is the common name of its certificate.\n");
    lines(&access.of_device("${username}"), "all", &mut text);
    for user in &access.beside_pattern() {
        lines(user, &format!("{{username, \"{}\"}}", user.name), &mut text);
    }
    text + "{deny, all}.\n"
}

fn lines(user: &User, who: &str, text: &mut String) {
    for (action, filters) in [("publish", &user.publishes), ("subscribe", &user.subscribes)] {
        if !filters.is_empty() {
            let filters: Vec<String> = filters.iter().map(|filter| format!("\"{filter}\"")).collect();
            let _ = writeln!(text, "{{allow, {who}, {action}, [{}]}}.", filters.join(", "));
        }
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
            r#"{allow, all, publish, ["sealcast/v1/rpc/${username}/request", "#,
            r#"{allow, {username, "1111"}, publish, ["hsu0001/#", "room/+/set"]}."#,
            r#"{allow, {username, "a.b"}, publish, ["sealcast/v1/rpc/a=b/request", "#,
            "{deny, all}.\n",
        ] {
            assert!(rules.contains(line), "{line} in\n{rules}");
        }
    }
}
