//! How far a long work is, for a person who waits: a line on standard error, if that is a terminal.
//!
//! What does the work knows nothing of it: it calls a closure with its count, and `sealcast-agent` links no bars.

use std::{
    io::IsTerminal as _,
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is done sooner shows nothing.
const DELAY: Duration = Duration::from_millis(500);
/// From one picture to the next.
const TICK: Duration = Duration::from_millis(100);
const STEPS: &str = "{spinner} {msg} [{bar:30}] {human_pos} of {human_len}, {eta} left";
const NO_STEPS: &str = "{spinner} {msg}, {elapsed}";

/// The line; gone when dropped.
pub struct Bar {
    bar: ProgressBar,
    /// Shows it after a while; ends when the sender is dropped.
    shows: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Bar {
    /// Of `total` steps.
    pub fn of(what: impl Into<String>, total: u64) -> Self {
        Self::new(what.into(), Some(total), STEPS)
    }

    /// Of something whose steps nobody counts.
    pub fn waiting(what: impl Into<String>) -> Self {
        Self::new(what.into(), None, NO_STEPS)
    }

    fn new(what: String, total: Option<u64>, template: &str) -> Self {
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar =
            ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden()).with_style(style).with_message(what);
        let shows = std::io::stderr().is_terminal().then(|| {
            let ((sender, ends), bar) = (channel(), bar.clone());
            let show = move || {
                if ends.recv_timeout(DELAY) == Err(RecvTimeoutError::Timeout) {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                    bar.enable_steady_tick(TICK);
                }
            };
            (sender, std::thread::spawn(show))
        });
        Self { bar, shows }
    }

    /// So many steps are done.
    pub fn set(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// Takes the line off while `print` prints.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some((sender, shows)) = self.shows.take() {
            drop(sender);
            // It does nothing that fails.
            let _ = shows.join();
        }
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_lines_are_what_the_library_takes() {
        for template in [STEPS, NO_STEPS] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
