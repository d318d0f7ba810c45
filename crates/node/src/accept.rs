//! Connections as they come to a listener.

use std::{io, time::Duration};

use tracing::warn;

/// How long nothing is accepted after a failure: usually the process is out of file descriptors, and stays so for a while.
const PAUSE: Duration = Duration::from_millis(100);

/// The next connection that `accept` gives. A failure is logged as one of `who`, and does not end the listener. Nothing is
/// lost if this is given up and called again.
pub async fn accepted<T, F: Future<Output = io::Result<T>>>(who: &str, mut accept: impl FnMut() -> F) -> T {
    loop {
        match accept().await {
            Ok(connection) => return connection,
            Err(error) => {
                warn!(%error, "{who} cannot accept a connection, and tries again (are there file descriptors left?)");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_is_waited_out() {
        let mut outcomes = [Err(io::Error::other("no descriptors")), Ok(7)].into_iter();
        let next = accepted("a listener", || std::future::ready(outcomes.next().unwrap_or(Ok(0))));
        assert_eq!(next.await, 7);
    }
}
