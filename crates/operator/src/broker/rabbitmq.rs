//! RabbitMQ with its MQTT plugin: a topic is a routing key there, and a rule is a regular expression over it.

use sealcast_identity::CRL_PATH;
use serde_json::{Value, json};

use super::{
    access::{Access, User},
    file::File,
};

/// The tag of the users that are Sealcast's, by which the script knows whom to take away.
const TAG: &str = "sealcast";
/// A session's queue has a name of the plugin's own. All topics are routing keys of one exchange.
const QUEUES: &str = "^mqtt-subscription-.*$";
const QUEUES_AND_EXCHANGE: &str = "^(mqtt-subscription-.*|amq\\.topic)$";

pub fn files(access: &Access, hub: &str) -> Vec<File> {
    let users = access.users();
    vec![
        File { name: "rabbitmq.conf", text: SETTINGS.to_owned() },
        File { name: "advanced.config", text: tls(hub) },
        File { name: "sealcast-definitions.json", text: format!("{:#}\n", definitions(&users)) },
        File { name: "sealcast-rabbitmq.sh", text: script(&users) },
    ]
}

const SETTINGS: &str = "\
# Lines for rabbitmq.conf.
# Subscriptions of clients that are away outlive a node only as quorum queues, on three nodes or more.
mqtt.durable_queue_type = quorum
mqtt.allow_anonymous = false
mqtt.listeners.tcp = none
mqtt.listeners.ssl.default = 8883
# A client that shows a certificate and no password is the user of the certificate's common name. A password goes
# before it: take RabbitMQ's first user away, whose password everybody knows (rabbitmqctl delete_user guest).
mqtt.ssl_cert_login = true
ssl_cert_login_from = common_name
";

fn tls(hub: &str) -> String {
    format!(
        "%% For advanced.config: all ssl_options stand here, since those in rabbitmq.conf have no effect beside these.\n\
         %% cacertfile is the hub's root.pem; certfile and keyfile are this broker's own.\n\
         %% Revoked certificates: fetch the list at first before the start, again each hour, and at each revocation. It is\n\
         %% read at each handshake, under a name that OpenSSL makes. Without a list that is valid nobody is let in.\n\
         %%   curl --cacert root.pem {hub}{CRL_PATH} | openssl crl -inform DER -out sealcast.crl &&\n\
         %%   mv sealcast.crl /etc/rabbitmq/crl/$(openssl crl -in sealcast.crl -noout -hash).r0\n\
         [{{rabbit, [{{ssl_options, [\n\
         \x20 {{cacertfile, \"/etc/rabbitmq/root.pem\"}},\n\
         \x20 {{certfile, \"/etc/rabbitmq/broker.pem\"}},\n\
         \x20 {{keyfile, \"/etc/rabbitmq/broker.key\"}},\n\
         \x20 {{verify, verify_peer}},\n\
         \x20 {{fail_if_no_peer_cert, true}},\n\
         \x20 {{crl_check, peer}},\n\
         \x20 {{crl_cache, {{ssl_crl_hash_dir, {{internal, [{{dir, \"/etc/rabbitmq/crl\"}}]}}}}}}\n\
         ]}}]}}].\n"
    )
}

/// What RabbitMQ imports. It adds to the users that are there, and replaces what these may do.
fn definitions(users: &[User]) -> Value {
    let list = |what: &dyn Fn(&User) -> Value| users.iter().map(what).collect::<Vec<_>>();
    json!({
        // An empty hash is the one of no password.
        "users": list(&|user| json!({
            "name": user.name,
            "password_hash": "",
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": [TAG],
        })),
        "permissions": list(&|user| json!({
            "user": user.name,
            "vhost": "/",
            "configure": QUEUES,
            "write": QUEUES_AND_EXCHANGE,
            "read": QUEUES_AND_EXCHANGE,
        })),
        "topic_permissions": list(&|user| json!({
            "user": user.name,
            "vhost": "/",
            "exchange": "amq.topic",
            "write": expression(&user.publishes),
            "read": expression(&user.subscribes),
        })),
    })
}

fn script(users: &[User]) -> String {
    let names: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
    format!(
        "# Run on one node of the cluster, again after each grant and revocation.\n\
         # RabbitMQ asks for a subscription's permission when it is made: one that a client has when its device is taken\n\
         # out of a group brings sealed bytes until its session ends.\n\
         set -e\n\
         rabbitmqctl -q import_definitions \"$(dirname \"$0\")/sealcast-definitions.json\"\n\
         # Whose device was revoked altogether: this ends its connections, too.\n\
         rabbitmqctl -q list_users | sed -n 's/\\t\\[{TAG}\\]$//p' | while read -r user; do\n\
         \x20   case \" {} \" in\n\
         \x20   *\" $user \"*) ;;\n\
         \x20   *) rabbitmqctl -q delete_user \"$user\" </dev/null ;;\n\
         \x20   esac\n\
         done\n",
        names.join(" ")
    )
}

/// What matches the routing keys of all topics that one of the filters matches, and those filters themselves.
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
    if c.is_alphanumeric() || c == '_' || c == '-' { c.to_string() } else { format!("\\{c}") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::broker::access::example;

    #[test]
    fn filters_become_expressions_over_routing_keys() {
        let filters = ["hsu0001/#", "room/+/set", "it's/a.b$"].map(str::to_owned);
        assert_eq!(expression(&filters), "^(hsu0001(\\..*)?|room\\.[^.]+\\.set|it\\'s\\.a\\.b\\$)$");
    }

    #[test]
    fn each_user_has_its_own_topics() {
        let definitions = definitions(&example().users());
        let of = |list: &str| {
            let mut all = definitions[list].as_array().unwrap().iter();
            all.find(|entry| entry["user"] == "1111" || entry["name"] == "1111").unwrap().clone()
        };
        assert_eq!((of("users")["tags"][0].clone(), of("users")["password_hash"].clone()), (TAG.into(), "".into()));
        assert_eq!(of("permissions")["configure"], QUEUES);
        let writes = of("topic_permissions")["write"].as_str().unwrap().to_owned();
        assert!(writes.starts_with("^(sealcast\\.v1\\.rpc\\.1111\\.request|"), "{writes}");
        assert!(script(&example().users()).contains("case \" hub operator 1111 a.b \" in"));
    }
}
