//! What the listeners, the connections and the hub have for the core.

use std::sync::Arc;

use sealcast_broker_core::{Cause, ConnId, Credential, HubMessage, Incoming, PeerCertificate, Received, Stats};
use sealcast_mqtt::Connect;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::connection::ConnOut;
use crate::sighting::Sighting;

/// What reaches the core's loop.
pub(crate) enum ServerEvent {
    Connect {
        conn: ConnId,
        certificate: Option<Box<PeerCertificate>>,
        connect: Box<Connect>,
        out: Arc<ConnOut>,
    },
    Packet {
        conn: ConnId,
        packet: Incoming,
        _permit: Option<OwnedSemaphorePermit>,
    },
    /// Before it had said who it is.
    Refused {
        cause: Cause,
    },
    Failed {
        conn: ConnId,
        code: u8,
    },
    Closed {
        conn: ConnId,
    },
    Publish {
        message: Box<HubMessage>,
        done: oneshot::Sender<()>,
    },
    Subscribe {
        filter: String,
        sender: mpsc::Sender<Received>,
        done: oneshot::Sender<()>,
    },
    Tap {
        sender: mpsc::Sender<Sighting>,
        done: oneshot::Sender<()>,
    },
    Connected {
        done: oneshot::Sender<Vec<String>>,
    },
    DisconnectDevice {
        device: String,
        done: oneshot::Sender<usize>,
    },
    NewCredential {
        device: String,
        credential: Credential,
        done: oneshot::Sender<usize>,
    },
    Stats {
        done: oneshot::Sender<Stats>,
    },
}
