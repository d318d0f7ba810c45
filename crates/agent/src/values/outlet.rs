//! How the agent's own messages leave: sealed, with what has to be on disk before, over the agent's own connection.

use std::{fmt::Display, sync::Arc};

use sealcast_agent_core::{
    Cause, Frame, Why, own_message,
    session::{ClientEvent, Refused},
    values::{Own, Unsent},
};
use sealcast_node::{Answer, Link, now_ms};

use super::{AGENT, Values};
use crate::{config, data::DataPlane, events::Events, readings::Readings};

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
    /// What was not sent.
    pub events: Arc<Events>,
}

impl Outlet {
    /// A message of the agent's own was not sent.
    pub(super) fn note_unsent(&self, topic: &str, unsent: &Unsent) {
        let (Unsent::NotYet(why) | Unsent::NoKeyYet(why) | Unsent::Refused(why)) = unsent;
        let (client, topic) = (AGENT.to_owned(), topic.to_owned());
        self.events.note(&ClientEvent { what: Refused::Publish, client, topic, why: why.clone() });
    }
}

fn away(error: &dyn Display) -> Unsent {
    Unsent::NotYet(Why::new(Cause::BrokerAway, error.to_string()))
}

impl Values {
    /// Seals a message and publishes it over the agent's own connection.
    pub(super) fn send(&self, out: &Outlet, topic: &str, message: &mut Own) -> Result<(), Unsent> {
        for Frame { retain, payload } in self.prepare(out, topic, message)? {
            out.link.publish(topic, retain, payload).map_err(|error| away(&error))?;
        }
        Ok(())
    }

    /// The same; gives what the broker will say of the last frame.
    pub(super) fn send_told(&self, out: &Outlet, topic: &str, message: &mut Own) -> Result<Answer, Unsent> {
        let mut told = Err(Unsent::NotYet(Why::new(Cause::SealFailed, "nothing was sealed")));
        for Frame { retain, payload } in self.prepare(out, topic, message)? {
            let answer = out.link.publish_told(topic, retain, payload);
            told = Ok(answer.map_err(|error| away(&error))?);
        }
        told
    }

    /// Seals a message, once what has to be on disk before it leaves is there.
    fn prepare(&self, out: &Outlet, topic: &str, message: &mut Own) -> Result<Vec<Frame>, Unsent> {
        let frames = out.data.seal(
            |keyring| {
                let retained = &mut self.store.retained_topics();
                own_message(keyring, retained, &out.config.record, topic, message, now_ms())
            },
            |writes| out.readings.commit(writes),
        )?;
        // Once, if it has to be tried again.
        message.recorded = None;
        Ok(frames)
    }
}
