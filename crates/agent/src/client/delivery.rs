//! What the broker delivers to a client: opened, judged, handed on, or withheld with the reason.

use bytes::Bytes;
use sealcast_agent_core::{
    Arrival, Denied, Received, Route,
    values::{Arrived, Incoming},
};
use sealcast_mqtt::{Delivery, DeliveryId, Version};
use sealcast_node::now_ms;
use tokio::time::Instant;
use tracing::warn;

use super::{Client, Dirty, SAVE_DELAY, Until, Waiting, inject};
use crate::{events::Event, sessions::FrameId};

impl Client {
    pub(super) fn attend_delivery(&mut self, delivery: Delivery, until: &mut Until) -> Option<Waiting> {
        let topic = delivery.topic.as_str();
        let group = match self.shared.data.route(topic) {
            // It says that a retained message is gone, and anybody can: nothing to hand on, and nothing to report.
            Route::Group(_) if delivery.payload.is_empty() => {
                self.answered(|proxy| proxy.swallow(delivery.id));
                return None;
            }
            Route::Group(group) => group,
            Route::Clear => {
                self.answered(|proxy| proxy.pass(delivery.id));
                return None;
            }
            Route::Brokers => {
                let what = "not handed on: topics that begin with $ are the broker's own";
                self.shared.events.note(self.who(), topic, what);
                self.answered(|proxy| proxy.swallow(delivery.id));
                return None;
            }
            // A client that subscribes to `#` gets the agents' own messages too: not for it, and nothing to report.
            Route::Control => {
                self.answered(|proxy| proxy.swallow(delivery.id));
                return None;
            }
            Route::Behind(reason) => return self.delivery_denied(delivery, &Denied::Behind(reason), until),
            Route::Refused(reason) => return self.delivery_denied(delivery, &Denied::Refused(reason), until),
        };
        let session = self.session.as_ref()?;
        let mut session = session.state();
        let arrival = Arrival {
            qos: match delivery.qos {
                sealcast_mqtt::Qos::AtMostOnce => sealcast_seal::Qos::AtMostOnce,
                _ => sealcast_seal::Qos::Acknowledged { dup: delivery.dup },
            },
            retain: delivery.retain,
            away: self.away,
        };
        let frame = FrameId::of(&delivery.payload);
        let opened = self.shared.data.open(&mut session.opener, group, topic, &delivery.payload, arrival, now_ms());
        match opened {
            // The broker says of its own accord that it sends something again: once on a connection it may.
            Ok(Received::Message(_)) if session.is_unacknowledged(frame) && !self.repeated.insert(frame) => {
                drop(session);
                self.withhold(&delivery, "replayed: the broker sends it again and again".to_owned());
            }
            Ok(Received::Message(message)) => {
                let sender = message.sender().to_string();
                let arrived = Arrived {
                    topic: &delivery.topic,
                    sender: message.sender(),
                    tolerance_ms: self.shared.config.freshness.clock_tolerance_ms,
                    frame: &delivery.payload,
                    payload: Bytes::copy_from_slice(message.payload()),
                    props: Bytes::copy_from_slice(message.props()),
                    sealed_ms: message.sealed_ms(),
                    age_ms: message.age_ms(),
                    retained: delivery.retain,
                    stale: self.shared.data.freshness().is_stale(topic, delivery.retain, message.age_ms()),
                };
                let sees_flags = self.sees_flags && self.version == Version::V5;
                let mut incoming = match self.shared.values.arrive(&arrived, sees_flags, now_ms()) {
                    Incoming::Deliver(deliver) => deliver,
                    refused => {
                        drop(session);
                        if let Some(restored) = &mut self.restored
                            && !matches!(refused, Incoming::Nothing)
                        {
                            restored.withheld(&delivery.topic);
                        }
                        match refused {
                            Incoming::Withhold(reason) => self.withhold(&delivery, format!("{sender}: {reason}")),
                            _ => self.answered(|proxy| proxy.swallow(delivery.id)),
                        }
                        return None;
                    }
                };
                incoming.extra.push(("sealcast-sender", sender.clone()));
                let rules = self.shared.values.rules();
                if let Some(restored) = &mut self.restored {
                    for message in restored.before(rules, &delivery.topic, &incoming) {
                        inject(&mut self.proxy, &message);
                    }
                }
                let extra: Vec<_> = incoming.extra.iter().map(|(name, value)| (*name, value.as_str())).collect();
                match self.proxy.deliver(delivery.id, incoming.payload.clone(), incoming.props.clone(), &extra) {
                    Ok(()) => {
                        if let Some(restored) = &mut self.restored {
                            restored.handed_on(rules, &delivery.topic, &incoming, now_ms());
                        }
                        let receipt = message.receipt();
                        session.opener.mark_delivered(&receipt);
                        match arrival.qos {
                            sealcast_seal::Qos::AtMostOnce if self.dirty == Dirty::No => {
                                self.dirty = Dirty::By(Instant::now() + SAVE_DELAY);
                            }
                            sealcast_seal::Qos::AtMostOnce => {}
                            sealcast_seal::Qos::Acknowledged { .. } => {
                                session.receipts.insert(delivery.id, (receipt, frame));
                            }
                        }
                    }
                    Err(error) => {
                        drop(session);
                        self.withhold(&delivery, format!("{sender}: {error}"));
                    }
                }
            }
            Ok(Received::Repeated) => {
                drop(session);
                self.answered(|proxy| proxy.swallow(delivery.id));
            }
            Err(denied) => {
                drop(session);
                return self.delivery_denied(delivery, &denied, until);
            }
        }
        None
    }

    fn delivery_denied(&mut self, delivery: Delivery, denied: &Denied, until: &mut Until) -> Option<Waiting> {
        if self.may_wait(denied, until) {
            return Some(Waiting::Delivery(delivery));
        }
        let heard = until.news.is_none_or(|sync| self.shared.data.is_caught_up_after(sync));
        if matches!(denied, Denied::Behind(_)) && !heard && delivery.qos != sealcast_mqtt::Qos::AtMostOnce {
            // Nobody can say whether it is for this client. Not acknowledged, it stays at the broker.
            warn!(client = self.label, topic = %delivery.topic, "connection closed: {denied}");
            self.give_up = Some("the ledger is out of reach".to_owned());
            return None;
        }
        self.withhold(&delivery, denied.to_string());
        None
    }

    /// Fails closed: the client never sees it, the broker has it acknowledged.
    fn withhold(&mut self, delivery: &Delivery, reason: String) {
        self.shared.events.put(
            &self.name,
            Event::DeliveryRefused {
                client: self.label.clone(),
                topic: delivery.topic.as_str().to_owned(),
                bytes: delivery.payload.len(),
                reason,
            },
        );
        self.answered(|proxy| proxy.swallow(delivery.id));
    }

    pub(super) fn handle_acked(&mut self, id: DeliveryId) {
        let Some(session) = &self.session else { return };
        let mut session = session.state();
        if let Some((receipt, _)) = session.receipts.remove(&id) {
            session.opener.mark_acknowledged(&receipt);
            self.dirty = Dirty::Now;
        }
    }
}
