//! Real brokers on port 0, real clients: our own byte-level one, and mosquitto's where installed.
#![allow(clippy::unwrap_used, missing_docs)]

mod client;
mod durability;
mod hub;
mod pressure;
mod protocol;
mod room;
mod tls;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sealcast_broker::{
    Attempt, Broker, BrokerConfig, Interceptor, Limits, ListenerConfig, Peer, Policy, PolicyRefusal, Running,
};

/// How long anything may take that has to happen. It is long because a build may run beside the tests; a wait ends as soon
/// as it happens.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Device = CN, else user name, else `anonymous`. `revoked` may not connect; nobody may touch `forbidden/#`; only
/// device X publishes `keys/X`; `members/#` is for a group, which `stranger` is not in.
pub struct TestPolicy;

impl Policy for TestPolicy {
    fn connect(&self, attempt: &Attempt<'_>) -> Result<Peer, PolicyRefusal> {
        let name = attempt.certificate.and_then(|c| c.common_name()).or(attempt.username).unwrap_or("anonymous");
        if name == "revoked" { Err(PolicyRefusal::NotAuthorized("it is revoked")) } else { Ok(name.into()) }
    }

    fn may_publish(&self, peer: &Peer, topic: &str) -> bool {
        match topic.strip_prefix("keys/") {
            Some(owner) => owner == &*peer.device,
            None => !topic.starts_with("forbidden/"),
        }
    }

    fn may_subscribe(&self, _device: &str, filter: &str) -> bool {
        !filter.starts_with("forbidden/")
    }

    fn group(&self, topic: &str) -> Option<u64> {
        topic.starts_with("members/").then_some(1)
    }

    fn is_member(&self, device: &str, _group: u64) -> bool {
        device != "stranger"
    }

    fn is_control(&self, device: &str, client_id: &str) -> bool {
        client_id.starts_with(&format!("sealcast-{device}-"))
    }
}

pub async fn tcp_broker(dir: Option<&Path>, addr: SocketAddr, limits: Limits) -> Running {
    intercepted(dir, addr, limits, None).await
}

pub async fn intercepted(
    dir: Option<&Path>,
    addr: SocketAddr,
    limits: Limits,
    interceptor: Option<Arc<dyn Interceptor>>,
) -> Running {
    let config = BrokerConfig { listeners: vec![ListenerConfig::Tcp { addr }], data_dir: dir.map(Into::into), limits };
    Broker::start(config, Arc::new(TestPolicy), interceptor).await.unwrap()
}

pub fn any_port() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}
