//! A client that publishes all the time, whatever is killed meanwhile.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::process::PATIENCE;

/// Publishes 0, 1, 2 … one after the other with QoS 1 and remembers which were acknowledged. Ends with the test.
pub struct Publisher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    acknowledged: BTreeSet<u32>,
    stopped: bool,
    paused: bool,
    /// A message is under way.
    busy: bool,
}

impl Publisher {
    pub fn start(port: &str, topic: &'static str) -> Self {
        let shared = Arc::new(Shared::default());
        let (own, port) = (shared.clone(), port.to_owned());
        let thread = std::thread::spawn(move || {
            for number in 0.. {
                {
                    let mut state = own.wait(|state| state.stopped || !state.paused);
                    if state.stopped {
                        return;
                    }
                    state.busy = true;
                }
                let acknowledged = publish(&port, topic, number);
                let mut state = own.state();
                state.busy = false;
                if acknowledged {
                    state.acknowledged.insert(number);
                }
                drop(state);
                own.changed.notify_all();
                if !acknowledged {
                    // The agent is away: not as fast as processes can be started.
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// Waits until so many more are acknowledged.
    pub fn until_more(&self, more: usize) {
        let goal = self.shared.state().acknowledged.len() + more;
        drop(self.shared.wait(|state| state.acknowledged.len() >= goal));
    }

    /// Publishes nothing from now on until [`Self::go_on`]; nothing is under way any more. What was acknowledged.
    pub fn pause(&self) -> BTreeSet<u32> {
        self.shared.state().paused = true;
        self.shared.wait(|state| !state.busy).acknowledged.clone()
    }

    pub fn go_on(&self) {
        self.shared.state().paused = false;
        self.shared.changed.notify_all();
    }

    /// Ends it. What was acknowledged.
    pub fn finish(mut self) -> BTreeSet<u32> {
        self.stop();
        std::mem::take(&mut self.shared.state().acknowledged)
    }

    fn stop(&mut self) {
        self.shared.state().stopped = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, reached: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state();
        while !reached(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the publisher: {} acknowledged after {PATIENCE:?}", state.acknowledged.len());
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }
}

/// With QoS 1 mosquitto_pub succeeds only once it has its PUBACK. It is ended when it waits for a broker that was killed
/// for longer than a machine that is only slow needs.
fn publish(port: &str, topic: &str, number: u32) -> bool {
    let mut command = Command::new("timeout");
    command.args(["10", "mosquitto_pub", "-h", "127.0.0.1", "-p", port, "-t", topic, "-q", "1"]);
    command.args(["-m", &number.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
