//! The end of a connection that the agent closes: its reason, and the client's last bytes.

use sealcast_mqtt::{Proxy, reason};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::Instant,
};

use super::bounds::{BUFFER, CHUNK, DRAIN, TAKE_OVER};

/// A connection that the agent ends once what the client has sent has gone out.
pub(super) struct Ending {
    /// For DISCONNECT.
    pub(super) code: u8,
    /// For a person.
    pub(super) reason: &'static str,
    /// From then on nothing is waited for.
    pub(super) deadline: Instant,
}

impl Ending {
    pub(super) fn shutdown() -> Self {
        Self {
            code: reason::SERVER_SHUTTING_DOWN,
            reason: "the agent is shutting down",
            deadline: Instant::now() + DRAIN,
        }
    }

    pub(super) fn take_over() -> Self {
        let reason = "another connection of this client took over";
        Self { code: reason::SESSION_TAKEN_OVER, reason, deadline: Instant::now() + TAKE_OVER }
    }

    pub(super) fn is_shutdown(&self) -> bool {
        self.code == reason::SERVER_SHUTTING_DOWN
    }

    /// Takes in what the client has sent so far, and nothing after it.
    pub(super) async fn begin<R: AsyncRead + Unpin>(self, client: &mut R, proxy: &mut Proxy) -> Self {
        read_arrived(client, proxy).await;
        proxy.close_when_drained(self.code, self.reason);
        self
    }
}

/// Takes in what the client has sent and nobody has read, without waiting for more.
async fn read_arrived<R: AsyncRead + Unpin>(reader: &mut R, proxy: &mut Proxy) {
    let mut bytes = bytes::BytesMut::with_capacity(CHUNK);
    let mut taken = 0;
    while proxy.wants_client_bytes() && taken < BUFFER {
        let read = tokio::task::unconstrained(async {
            tokio::select! {
                biased;
                read = reader.read_buf(&mut bytes) => read.unwrap_or(0),
                () = std::future::ready(()) => 0,
            }
        });
        let count = read.await;
        if count == 0 {
            return;
        }
        taken += count;
        proxy.handle_client(&bytes.split());
        bytes.reserve(CHUNK);
    }
}
