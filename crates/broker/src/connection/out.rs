//! The way from the driver to a connection.

use std::sync::atomic::{AtomicUsize, Ordering};

use sealcast_broker_core::Outgoing;
use sealcast_mqtt::Qos;
use tokio::sync::{Notify, mpsc, watch};

/// What the driver has for a connection.
pub(super) enum Out {
    Packet(Outgoing),
    Close,
}

/// The driver's end of a connection.
pub(crate) struct ConnOut {
    pub(super) queue: mpsc::UnboundedSender<Out>,
    /// Bytes that wait; keeps the queue bounded.
    pub(super) waiting: AtomicUsize,
    pub(super) kill: Notify,
    /// Whether packets are read from the client.
    pub(super) reads: watch::Sender<bool>,
}

impl ConnOut {
    /// Hands over a packet; false if the client reads so slowly that it must go.
    pub(crate) fn send(&self, packet: Outgoing, limit: usize) -> bool {
        let waiting = self.waiting.load(Ordering::Relaxed);
        let expendable = matches!(packet, Outgoing::Publish { qos: Qos::AtMostOnce, .. });
        if expendable && waiting > limit {
            return true;
        }
        if waiting > limit.saturating_mul(4) {
            return false;
        }
        self.waiting.fetch_add(packet.cost(), Ordering::Relaxed);
        // The connection may have ended; its Closed event is on the way.
        let _ = self.queue.send(Out::Packet(packet));
        true
    }

    pub(crate) fn close(&self) {
        let _ = self.queue.send(Out::Close);
    }

    /// Whether more is read from the client; what was read before is handled in any case.
    pub(crate) fn set_reading(&self, reads: bool) {
        self.reads.send_replace(reads);
    }

    /// Ends the connection at once, whatever still waits.
    pub(crate) fn kill(&self) {
        self.kill.notify_one();
    }
}
