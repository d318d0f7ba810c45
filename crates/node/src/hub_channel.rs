//! How calls reach the hub: over the broker, and over HTTPS when nobody answers there.
//!
//! Somebody else's broker may keep calls or answers from the hub, or drown them. The hub's HTTPS side takes the same calls
//! from whoever shows a device's certificate, or the operator's.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustls::ClientConfig;
use sealcast_identity::RPC_PATH;
use sealcast_ledger_client::{Channel, ChannelError};
use tokio::sync::watch;
use tracing::info;

use crate::{
    https::{Body, Https},
    link::{Link, MAX_MESSAGE_BYTES},
};

/// After a call was not answered over the broker, the next ones go over HTTPS for so long.
const ASIDE: Duration = Duration::from_secs(60);

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct HubChannel {
    link: Link,
    hub: Arc<str>,
    /// With the node's present certificate.
    tls: watch::Receiver<Arc<ClientConfig>>,
    /// Until then the broker is not tried.
    aside: Arc<Mutex<Option<Instant>>>,
    /// Whether the broker has to be connected.
    while_down: bool,
}

impl HubChannel {
    /// Over `link`, or to the hub at this URL.
    pub fn new(link: Link, hub: &str, tls: watch::Receiver<Arc<ClientConfig>>) -> Self {
        Self { link, hub: hub.into(), tls, aside: Arc::default(), while_down: false }
    }

    /// For a node that needs the broker for nothing but calls: they are made over HTTPS also while the broker is away.
    #[must_use]
    pub fn while_down(self) -> Self {
        Self { while_down: true, ..self }
    }

    async fn by_https(&self, request: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        let tls = self.tls.borrow().clone();
        let body = Body { authorization: None, content_type: "application/json", bytes: request };
        Https::new(&self.hub, tls)?.with_max_answer(MAX_MESSAGE_BYTES).request(RPC_PATH, Some(body)).await
    }

    fn is_aside(&self) -> bool {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| Instant::now() < until)
    }

    fn set_aside(&self, aside: bool) {
        let until = aside.then(|| Instant::now() + ASIDE);
        let before = std::mem::replace(&mut *self.aside.lock().unwrap_or_else(PoisonError::into_inner), until);
        if before.is_some() != aside {
            match aside {
                true => {
                    info!(hub = %self.hub, "no answer of the hub comes over the broker, but the hub answers over HTTPS")
                }
                false => info!("the hub answers over the broker again"),
            }
        }
    }
}

impl Channel for HubChannel {
    async fn call(&self, request: Vec<u8>) -> Result<Vec<u8>, ChannelError> {
        let unanswered = match self.is_aside() {
            false => match Channel::call(&self.link, request.clone()).await {
                Err(error @ (ChannelError::Timeout { .. } | ChannelError::TooLarge { .. })) => Some(error),
                Err(error @ ChannelError::Down(_)) if self.while_down => Some(error),
                outcome => {
                    if outcome.is_ok() {
                        self.set_aside(false);
                    }
                    return outcome;
                }
            },
            true => None,
        };
        match (self.by_https(request).await, unanswered) {
            (Ok(answer), _) => {
                self.set_aside(true);
                Ok(answer)
            }
            (Err(error), unanswered) => {
                *self.aside.lock().unwrap_or_else(PoisonError::into_inner) = None;
                let first = unanswered.map(|first| format!("{first}; and over HTTPS: ")).unwrap_or_default();
                Err(ChannelError::Unanswered(format!("{first}{error:#}")))
            }
        }
    }
}
