//! The tasks of a role that runs on, under one supervisor.
//!
//! A role needs each of its long-lived tasks: without its control task an agent would seal under keys that are over, without
//! its broker a hub would be a process that answers nobody. So when one of them panics, fails or ends too early, the role
//! ends, says which it was, and the process has the exit code 1: whoever supervises it starts it again.

use std::{
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Result, bail};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, warn};

/// See the module. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    failed: CancellationToken,
    reason: Arc<OnceLock<String>>,
}

/// How a task ended.
pub trait Outcome {
    /// Why it failed, if it did.
    fn failure(self) -> Option<String>;
}

impl Outcome for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl Outcome for Result<()> {
    fn failure(self) -> Option<String> {
        self.err().map(|error| format!("{error:#}"))
    }
}

impl Tasks {
    /// Cancelled when the role is to end.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Runs a task that lasts until [`Self::stop`]. If it ends before, or panics or fails at any time, the role has failed.
    pub fn keep<T: Outcome>(&self, name: &'static str, task: impl Future<Output = T> + Send + 'static) {
        let watched = Watched { tasks: self.clone(), name };
        self.tracker.spawn(async move {
            let failure = task.await.failure();
            match failure {
                Some(failure) => watched.tasks.fail(failure),
                None if !watched.tasks.stop.is_cancelled() => watched.tasks.fail(format!("{name} has ended")),
                None => {}
            }
        });
    }

    /// Runs what a task of the role waits for. It may end at any time, and is dropped at [`Self::stop`]; if it panics, the
    /// role has failed.
    pub fn beside(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let watched = Watched { tasks: self.clone(), name };
        self.tracker.spawn(async move {
            tokio::select! {
                () = watched.tasks.stop.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Runs what is one peer's alone, such as a connection: however it ends, the role goes on.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Resolves when the role has failed, with the reason.
    pub async fn failed(&self) -> String {
        self.failed.cancelled().await;
        self.reason.get().cloned().unwrap_or_default()
    }

    /// Why the role has failed, if it has.
    pub fn failure(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    /// Ends all tasks. Fails if the role has failed, now or before.
    pub async fn end(&self, patience: Duration) -> Result<()> {
        self.stop.cancel();
        self.tracker.close();
        if tokio::time::timeout(patience, self.tracker.wait()).await.is_err() {
            warn!("some connections did not end in time");
        }
        match self.reason.get() {
            Some(reason) => bail!("{reason}"),
            None => Ok(()),
        }
    }

    fn fail(&self, reason: String) {
        // The first reason is the cause of the others.
        let first = self.reason.set(reason).is_ok();
        self.failed.cancel();
        if first {
            error!("this process cannot go on and ends: {}", self.failure().unwrap_or_default());
        }
    }
}

/// Sees a panic, which drops what the task holds.
struct Watched {
    tasks: Tasks,
    name: &'static str,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tasks.fail(format!("{} panicked, which is a fault of Sealcast: please report it", self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(240);

    async fn reason(tasks: &Tasks) -> Result<String> {
        let reason = tokio::time::timeout(PATIENCE, tasks.failed()).await?;
        assert_eq!(tasks.end(PATIENCE).await.map_err(|error| error.to_string()), Err(reason.clone()));
        Ok(reason)
    }

    #[tokio::test]
    async fn a_role_fails_with_the_first_task_that_panics_or_fails_or_ends() -> Result<()> {
        let tasks = Tasks::default();
        tasks.keep("the control task", async {
            tokio::task::yield_now().await;
            if true {
                panic!("in a test");
            }
        });
        assert!(reason(&tasks).await?.starts_with("the control task panicked"));

        let tasks = Tasks::default();
        tasks.keep("the control task", std::future::ready(Err(anyhow::anyhow!("no").context("the disk"))));
        assert_eq!(reason(&tasks).await?, "the disk: no");

        let tasks = Tasks::default();
        tasks.keep("the control task", std::future::ready(()));
        assert_eq!(reason(&tasks).await?, "the control task has ended");

        let tasks = Tasks::default();
        tasks.beside("a call", async { panic!("in a test") });
        assert!(reason(&tasks).await?.starts_with("a call panicked"));
        Ok(())
    }

    #[tokio::test]
    async fn what_ends_with_the_role_or_belongs_to_a_peer_is_no_failure() -> Result<()> {
        let tasks = Tasks::default();
        let stop = tasks.stop().clone();
        tasks.keep("the control task", async move { stop.cancelled().await });
        tasks.beside("a call", std::future::pending());
        tasks.beside("a call", std::future::ready(()));
        tasks.spawn(async { panic!("in a test") });
        tokio::task::yield_now().await;
        tasks.end(PATIENCE).await?;
        // Too late to be in order.
        let stop = tasks.stop().clone();
        tasks.keep("the control task", async move {
            stop.cancelled().await;
            Err(anyhow::anyhow!("the disk"))
        });
        assert_eq!(reason(&tasks).await?, "the disk");
        Ok(())
    }
}
