//! RabbitMQ with its MQTT plugin: a topic is a routing key there, and a rule is a regular expression over it.

use std::fmt::Write as _;

use sealcast_identity::CRL_PATH;

use super::{
    access::{Access, User},
    file::File,
};

pub fn files(access: &Access, hub: &str) -> Vec<File> {
    let settings = format!(
        "# Lines for rabbitmq.conf. cacertfile is the hub's root.pem; certfile and keyfile are this broker's own.\n\
         # Subscriptions of clients that are away outlive a node only as quorum queues, on three nodes or more.\n\
         mqtt.durable_queue_type = quorum\n\
         mqtt.allow_anonymous = false\n\
         mqtt.listeners.tcp = none\n\
         mqtt.listeners.ssl.default = 8883\n\
         mqtt.ssl_cert_login = true\n\
         ssl_cert_login_from = common_name\n\
         ssl_options.cacertfile = /etc/rabbitmq/root.pem\n\
         ssl_options.certfile = /etc/rabbitmq/broker.pem\n\
         ssl_options.keyfile = /etc/rabbitmq/broker.key\n\
         ssl_options.verify = verify_peer\n\
         ssl_options.fail_if_no_peer_cert = true\n\
         # A revoked device is taken away by `rabbitmqctl delete_user`, which ends its connections, too. Erlang reads a list of\n\
         # revoked certificates from its folder if it is told to in advanced.config (crl_check, crl_cache of `ssl`);\n\
         # the list is at {hub}{CRL_PATH}.\n"
    );
    vec![File { name: "rabbitmq.conf", text: settings }, File { name: "sealcast-rabbitmq.sh", text: rules(access) }]
}

fn rules(access: &Access) -> String {
    let mut text = String::from("# Run on one node of the cluster, again after each grant and revocation.\nset -e\n");
    for user in access.users() {
        let User { name, publishes, subscribes } = user;
        let _ = writeln!(
            text,
            "rabbitmqctl -q list_users | cut -f1 | grep -qx {name} || \
             {{ rabbitmqctl add_user {name} \"$(head -c 24 /dev/urandom | base64)\"; rabbitmqctl clear_password {name}; }}\n\
             rabbitmqctl set_permissions {name} '^mqtt-subscription-.*' '^(mqtt-subscription-.*|amq\\.topic)$' \
             '^(mqtt-subscription-.*|amq\\.topic)$'\n\
             rabbitmqctl set_topic_permissions {name} amq.topic '{}' '{}'",
            expression(&publishes),
            expression(&subscribes),
        );
    }
    text
}

/// What matches the routing keys of all topics that one of the filters matches, and those filters themselves; for a shell,
/// between single quotes.
fn expression(filters: &[String]) -> String {
    let one = |filter: &String| {
        let levels = filter.split('/').map(|level| match level {
            "+" => "[^.]+".to_owned(),
            "#" => ".*".to_owned(),
            level => level.chars().map(literal).collect(),
        });
        let levels: Vec<String> = levels.collect();
        // `a/#` is `a`, too.
        levels.join("\\.").replace("\\..*", "(\\..*)?")
    };
    let all: Vec<String> = filters.iter().map(one).collect();
    format!("^({})$", all.join("|"))
}

fn literal(c: char) -> String {
    match c {
        '\'' => "'\\''".to_owned(),
        c if c.is_alphanumeric() || c == '_' || c == '-' => c.to_string(),
        c => format!("\\{c}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::access::example;

    #[test]
    fn filters_become_expressions_over_routing_keys() {
        let filters = ["hsu0001/#", "room/+/set", "it's/a.b$"].map(str::to_owned);
        assert_eq!(expression(&filters), "^(hsu0001(\\..*)?|room\\.[^.]+\\.set|it'\\''s\\.a\\.b\\$)$");
        let rules = rules(&example());
        assert!(
            rules.contains("set_topic_permissions 1111 amq.topic '^(sealcast\\.v1\\.rpc\\.1111\\.request|"),
            "{rules}"
        );
    }
}
