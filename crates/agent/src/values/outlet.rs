//! How the agent's own messages leave: sealed, with what has to be on disk before, over the agent's own connection.

use std::sync::Arc;

use sealcast_agent_core::{
    Denied, Retained, Route,
    session::Write,
    values::{Own, Unsent},
};
use sealcast_mqtt::{TopicName, check_carried};
use sealcast_node::{Answer, Link, now_ms};
use sealcast_seal::{Content, Purpose, QosClass};
use zeroize::Zeroizing;

use super::Values;
use crate::{config, data::DataPlane, readings::Readings};

/// Where what the agent itself publishes goes.
#[derive(Clone)]
pub struct Outlet {
    /// Keys and topics.
    pub data: Arc<DataPlane>,
    /// To the broker.
    pub link: Link,
    /// What of it goes to the ledger.
    pub config: Arc<config::Agent>,
    /// To the ledger.
    pub readings: Arc<Readings>,
}

impl Values {
    /// Seals a message and publishes it over the agent's own connection.
    pub(super) fn send(&self, out: &Outlet, topic: &str, message: &mut Own) -> Result<(), Unsent> {
        let frame = self.prepare(out, topic, message)?;
        out.link.publish(topic, message.retain, frame).map_err(|error| Unsent::NotYet(error.to_string()))
    }

    /// The same; gives what the broker will say of it.
    pub(super) fn send_told(&self, out: &Outlet, topic: &str, message: &mut Own) -> Result<Answer, Unsent> {
        let frame = self.prepare(out, topic, message)?;
        out.link.publish_told(topic, message.retain, frame).map_err(|error| Unsent::NotYet(error.to_string()))
    }

    /// Seals a message, and stores what has to be on disk before it leaves.
    fn prepare(&self, out: &Outlet, topic: &str, message: &mut Own) -> Result<Vec<u8>, Unsent> {
        let Own { retain, props, payload, recorded } = message;
        let retain = *retain;
        // A prefix may have made it too long, and the connection would cut it off to the name of another one.
        TopicName::new(topic).map_err(|error| Unsent::Refused(error.to_string()))?;
        check_carried(topic).map_err(|error| Unsent::Refused(error.to_string()))?;
        let route = out.data.keyring().route(topic);
        let group = match route {
            Route::Group(group) => group,
            Route::Behind(reason) => return Err(Unsent::NoKeyYet(reason)),
            _ => {
                let reason = format!("no group covers {topic}: create a group with a filter that matches it");
                return Err(Unsent::Refused(reason));
            }
        };
        let now = now_ms();
        let frame = if payload.is_empty() {
            Vec::new()
        } else {
            let class = QosClass::Acknowledged;
            let content = Content { purpose: Purpose::Message, class, retain, props, payload };
            out.data.seal(group, topic, &content, now).map_err(|denied| match denied {
                Denied::Refused(reason) => Unsent::Refused(reason),
                denied => Unsent::NoKeyYet(denied.to_string()),
            })?
        };
        let mut writes = Vec::new();
        if retain {
            let payload = Zeroizing::new(payload.to_vec());
            let kept = Retained { topic: topic.to_owned(), time_ms: now, props: props.to_vec(), payload };
            self.store.retained_topics().keep(&kept).map_err(|error| Unsent::Refused(error.to_string()))?;
            writes.push(Write::Retained(kept));
        }
        if let Some((original, at_ms)) = recorded {
            let last = out.data.keyring().last_sequence(group, topic).unwrap_or(0);
            writes.extend(Write::readings(&out.config.record, topic, original, last, *at_ms));
        }
        if !writes.is_empty() {
            out.readings.commit(&writes).map_err(|error| Unsent::NotYet(format!("{error:#}")))?;
        }
        // Once, if it has to be tried again.
        *recorded = None;
        Ok(frame)
    }
}
