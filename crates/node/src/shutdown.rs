//! The wish to end: Ctrl-C, or SIGTERM from a supervisor.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};

/// Resolves when the process is asked to end, or the role has `failed`: then with the reason.
pub async fn requested_or(failed: impl Future<Output = String>) -> Option<String> {
    tokio::select! {
        () = requested() => {
            tracing::info!("asked to end: connections are closed, and the process ends");
            None
        }
        reason = failed => Some(reason),
    }
}

/// Resolves when the process is asked to end.
pub async fn requested() {
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be handled: stop this process with SIGINT (Ctrl-C)");
            return std::future::pending().await;
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
