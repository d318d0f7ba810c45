//! NATS server: a topic is a subject there, with `.` in the place of `/`.

use std::fmt::Write as _;

use super::{
    access::{Access, User},
    file::File,
};

pub fn files(access: &Access) -> Vec<File> {
    let settings =
        "# Lines for nats-server.conf. ca_file is the hub's root.pem; cert_file and key_file are this server's own.\n\
         # Each node of a cluster has its own server_name, listen, cluster and store_dir.\n\
         jetstream { store_dir: \"/var/lib/nats\" }\n\
         mqtt {\n\
         \x20 port: 8883\n\
         \x20 ack_wait: \"3s\"\n\
         \x20 stream_replicas: 3\n\
         \x20 tls {\n\
         \x20   ca_file: \"/etc/nats/root.pem\"\n\
         \x20   cert_file: \"/etc/nats/broker.pem\"\n\
         \x20   key_file: \"/etc/nats/broker.key\"\n\
         \x20   verify_and_map: true\n\
         \x20 }\n\
         }\n\
         # NATS reads no list of revoked certificates: take a revoked device's user away, and reload\n\
         # (nats-server --signal reload), which ends its connections.\n\
         include \"sealcast-users.conf\"\n"
            .to_owned();
    vec![File { name: "nats-server.conf", text: settings }, File { name: "sealcast-users.conf", text: rules(access) }]
}

fn rules(access: &Access) -> String {
    let mut text = String::from("authorization {\n  users = [\n");
    for User { name, publishes, subscribes } in access.users() {
        let _ = writeln!(
            text,
            "    {{ user: \"CN={name}\", permissions: {{ publish: [{}], subscribe: [{}] }} }}",
            subjects(&publishes, &["$MQTT.>"]),
            subjects(&subscribes, &["$MQTT.sub.>", "$MQTT.deliver.>"]),
        );
    }
    text + "  ]\n}\n"
}

/// `own` are what NATS itself uses for a session of QoS 1 or 2.
fn subjects(filters: &[String], own: &[&str]) -> String {
    let of_filters = filters.iter().flat_map(|filter| {
        let levels = filter.split('/').map(|level| match level {
            "+" => "*".to_owned(),
            "#" => ">".to_owned(),
            "" => "/".to_owned(),
            level => level.replace('.', "//"),
        });
        let subject = levels.collect::<Vec<_>>().join(".");
        // `a/#` is `a`, too.
        let above = subject.strip_suffix(".>").map(str::to_owned);
        std::iter::once(subject).chain(above)
    });
    let all = of_filters.chain(own.iter().map(|subject| (*subject).to_owned()));
    all.map(|subject| format!("\"{subject}\"")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_become_subjects() {
        let filters = ["hsu0001/#", "room/+/set", "#", "/a//b.c"].map(str::to_owned);
        assert_eq!(subjects(&filters, &[]), r#""hsu0001.>", "hsu0001", "room.*.set", ">", "/.a./.b//c""#);
    }
}
