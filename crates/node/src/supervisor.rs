//! What a supervisor is told of a service: systemd's notifications (sd_notify(3)), over a Unix datagram.
//!
//! A service is *ready* for its supervisor when it takes clients, whether or not its hub is there: otherwise nothing that
//! needs it could start while the hub is away. What it waits for stands in its status. It is *alive* while its tasks live
//! and answer, which the watchdog asks.

use std::{
    env,
    ffi::OsString,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{Tasks, monitor::Monitored};

/// The status is looked at so often.
const LOOK: Duration = Duration::from_secs(2);
/// A status is one line.
const MAX_STATUS_BYTES: usize = 512;

/// See the module. Without a supervisor that listens, it does nothing. Cheap to clone.
#[derive(Clone, Default)]
pub struct Supervisor {
    socket: Option<Arc<UnixDatagram>>,
    /// Within which it wants to hear that the service is alive.
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The one that the environment names.
    pub fn from_environment() -> Self {
        let found = env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty());
        let (microseconds, pid) = (env::var("WATCHDOG_USEC").ok(), env::var("WATCHDOG_PID").ok());
        found.map_or_else(Self::default, |path| {
            Self::new(path, watchdog(microseconds.as_deref(), pid.as_deref())).unwrap_or_else(|error| {
                warn!("the supervisor cannot be told how this process is: {error:#}");
                Self::default()
            })
        })
    }

    fn new(path: OsString, watchdog: Option<Duration>) -> Result<Self> {
        let bytes = path.as_bytes();
        ensure!(matches!(bytes.first(), Some(b'/' | b'@')), "NOTIFY_SOCKET is {}", path.display());
        let address = match bytes.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address).with_context(|| format!("NOTIFY_SOCKET, {}", path.display()))?;
        // A supervisor that does not read must not hold up its service.
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Some(Arc::new(socket)), watchdog })
    }

    /// The service takes clients.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The service is about to end.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping");
    }

    /// Tells how `role` is until `tasks` end: its status when that changes, and that it is alive.
    pub async fn watch<R: Monitored>(self, role: Arc<R>, tasks: Tasks) {
        if self.socket.is_none() {
            return tasks.stop().cancelled().await;
        }
        let stop: CancellationToken = tasks.stop().clone();
        stop.run_until_cancelled(self.look(&*role, &tasks)).await;
    }

    async fn look<R: Monitored>(&self, role: &R, tasks: &Tasks) {
        let pause = self.watchdog.map_or(LOOK, |watchdog| LOOK.min(watchdog / 3));
        let mut told = None;
        loop {
            // Whoever holds what the messages need for so long holds up the messages, too.
            let patience = self.watchdog.unwrap_or(Duration::MAX);
            let Ok(missing) = timeout(patience, role.missing()).await else { continue };
            let status = status(&missing);
            if told.as_ref() != Some(&status) {
                self.tell(&format!("STATUS={status}"));
                told = Some(status);
            }
            if self.watchdog.is_some() && tasks.failure().is_none() {
                self.tell("WATCHDOG=1");
            }
            sleep(pause).await;
        }
    }

    fn tell(&self, what: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(what.as_bytes()) {
            debug!(%error, what, "the supervisor was not told");
        }
    }
}

/// How often the service has to say that it is alive, if the process with this one's id has to at all.
fn watchdog(microseconds: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let own = std::process::id().to_string();
    let microseconds = microseconds?.parse().ok().filter(|microseconds| *microseconds > 0)?;
    pid.is_none_or(|pid| pid == own).then(|| Duration::from_micros(microseconds))
}

fn status(missing: &[String]) -> String {
    let mut status = match missing {
        [] => "ready".to_owned(),
        missing => format!("waiting: {}", missing.join("; ")),
    };
    status = status.replace('\n', " ");
    status.truncate(status.floor_char_boundary(MAX_STATUS_BYTES));
    status
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::monitor::Figure;

    #[derive(Default)]
    struct Role(Mutex<Vec<String>>);

    impl Monitored for Role {
        async fn figures(&self) -> Vec<Figure> {
            Vec::new()
        }

        async fn missing(&self) -> Vec<String> {
            self.0.lock().unwrap().clone()
        }
    }

    /// A supervisor, and what it hears.
    fn supervisor(watchdog: Option<Duration>) -> (tempfile::TempDir, tokio::net::UnixDatagram, Supervisor) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let hears = tokio::net::UnixDatagram::bind(&path).unwrap();
        (dir, hears, Supervisor::new(path.into(), watchdog).unwrap())
    }

    async fn heard(socket: &tokio::net::UnixDatagram) -> String {
        let mut bytes = [0; 4096];
        let received = timeout(Duration::from_secs(240), socket.recv(&mut bytes)).await.unwrap().unwrap();
        String::from_utf8(bytes[..received].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn the_status_is_told_when_it_changes_and_life_again_and_again() {
        let (_dir, socket, supervisor) = supervisor(Some(Duration::from_millis(30)));
        let (role, tasks) = (Arc::new(Role(Mutex::new(vec!["no hub\nyet".into()]))), Tasks::default());
        supervisor.ready();
        assert_eq!(heard(&socket).await, "READY=1");
        tasks.spawn(supervisor.clone().watch(role.clone(), tasks.clone()));
        assert_eq!(heard(&socket).await, "STATUS=waiting: no hub yet");
        for _ in 0..3 {
            assert_eq!(heard(&socket).await, "WATCHDOG=1");
        }
        role.0.lock().unwrap().clear();
        while heard(&socket).await != "STATUS=ready" {}
        // A role that has failed is not alive, whatever it can still answer.
        tasks.keep("the control task", std::future::ready(()));
        tasks.failed().await;
        role.0.lock().unwrap().push("dead".into());
        while heard(&socket).await != "STATUS=waiting: dead" {}
        supervisor.stopping();
        assert_eq!(heard(&socket).await, "STOPPING=1\nSTATUS=stopping");
        assert!(tasks.end(Duration::from_secs(240)).await.is_err());
    }

    #[tokio::test]
    async fn a_role_that_does_not_answer_is_not_alive() {
        #[derive(Default)]
        struct Stuck(tokio::sync::Notify);
        impl Monitored for Stuck {
            async fn figures(&self) -> Vec<Figure> {
                Vec::new()
            }

            async fn missing(&self) -> Vec<String> {
                self.0.notify_one();
                std::future::pending().await
            }
        }
        let (_dir, socket, supervisor) = supervisor(Some(Duration::from_millis(30)));
        let tasks = Tasks::default();
        let role = Arc::new(Stuck::default());
        tasks.spawn(supervisor.clone().watch(role.clone(), tasks.clone()));
        for _ in 0..3 {
            role.0.notified().await;
        }
        supervisor.ready();
        assert_eq!(heard(&socket).await, "READY=1", "nothing was said before");
        tasks.end(Duration::from_secs(240)).await.unwrap();
    }

    #[test]
    fn abstract_sockets_and_foreign_watchdogs() {
        let name = format!("sealcast-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let hears = UnixDatagram::bind_addr(&address).unwrap();
        Supervisor::new(format!("@{name}").into(), None).unwrap().ready();
        let mut bytes = [0; 16];
        let received = hears.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..received], b"READY=1");
        assert!(Supervisor::new("relative".into(), None).is_err());

        let own = std::process::id().to_string();
        assert_eq!(watchdog(Some("30000000"), Some(&own)), Some(Duration::from_secs(30)));
        assert_eq!(watchdog(Some("30000000"), None), Some(Duration::from_secs(30)));
        assert_eq!(watchdog(Some("30000000"), Some("1")), None);
        assert_eq!((watchdog(Some("0"), None), watchdog(None, None)), (None, None));
    }
}
