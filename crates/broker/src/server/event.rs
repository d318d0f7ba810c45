//! What the listeners, the connections and the hub have for the core.

use std::sync::Arc;

use sealcast_mqtt::Connect;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::connection::ConnOut;
use crate::core::{ConnId, HubMessage, Stats};
use crate::message::Received;
use crate::packets::Incoming;
use crate::tls::PeerCertificate;

/// What reaches the core's loop.
pub(crate) enum Event {
    Connect { conn: ConnId, certificate: Option<Box<PeerCertificate>>, connect: Box<Connect>, out: Arc<ConnOut> },
    Packet { conn: ConnId, packet: Incoming, _permit: Option<OwnedSemaphorePermit> },
    Failed { conn: ConnId, code: u8 },
    Closed { conn: ConnId },
    Publish { message: Box<HubMessage>, done: oneshot::Sender<()> },
    Subscribe { filter: String, sender: mpsc::Sender<Received>, done: oneshot::Sender<()> },
    DisconnectDevice { device: String, done: oneshot::Sender<usize> },
    Stats { done: oneshot::Sender<Stats> },
}
