//! Whether a node reaches its broker, as the node itself does.

use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use sealcast_ledger_client::AnswerVerifier;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::DropGuard;

use crate::{Link, LinkEvent, Tasks, upstream::Upstream};

/// TCP, TLS, CONNECT in both versions of MQTT, and SUBSCRIBE.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is retained comes at once.
const RETAINED: Duration = Duration::from_secs(3);

/// A connection of its own, beside that of a role that runs, until it is dropped.
pub struct Probe {
    /// To call the hub over it.
    pub link: Link,
    events: mpsc::Receiver<LinkEvent>,
    _end: DropGuard,
}

impl Probe {
    /// Connects as `node` and subscribes to `filters`, once.
    ///
    /// # Errors
    /// What is in the way, as the broker says it.
    pub async fn open(
        upstream: &Upstream,
        node: &str,
        filters: &[String],
        answers: Option<AnswerVerifier>,
    ) -> Result<Self> {
        let tasks = Tasks::default();
        let (link, events) = Link::open(upstream, node, filters, answers, &tasks)?;
        let mut probe = Self { link, events, _end: tasks.stop().clone().drop_guard() };
        let told = async {
            loop {
                match probe.events.recv().await {
                    Some(LinkEvent::Up) => return Ok(()),
                    Some(LinkEvent::Down(reason)) => bail!("{reason}"),
                    Some(LinkEvent::Message { .. } | LinkEvent::Taken { .. } | LinkEvent::Refused { .. }) => {}
                    None => bail!("the connection was given up"),
                }
            }
        };
        match timeout(PATIENCE, told).await {
            Ok(told) => told.map(|()| probe),
            Err(_) => bail!("the broker at {upstream} did not answer within {} s", PATIENCE.as_secs()),
        }
    }

    /// What is retained on one of its topics, if anything is.
    pub async fn retained(&mut self) -> Option<Bytes> {
        let message = async {
            loop {
                match self.events.recv().await? {
                    LinkEvent::Message { payload, .. } => return Some(payload),
                    LinkEvent::Up | LinkEvent::Down(_) | LinkEvent::Taken { .. } | LinkEvent::Refused { .. } => {}
                }
            }
        };
        timeout(RETAINED, message).await.ok().flatten()
    }
}
