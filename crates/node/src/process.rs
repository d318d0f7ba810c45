//! What every binary does once: its log, the crypto provider, the runtime, and the error with which it ends.

use std::{future::Future, process::ExitCode, time::Duration};

use anyhow::Result;
use tracing_subscriber::EnvFilter;

use crate::{output, tls};

/// What still runs when a role has ended may take so long.
const FAREWELL: Duration = Duration::from_secs(2);

/// The options of the log.
#[derive(clap::Args)]
pub struct LogOptions {
    /// Log level on standard error: `error`, `warn`, `info`, `debug`, `trace`, or a tracing filter.
    #[arg(long, global = true, env = "SEALCAST_LOG", value_name = "FILTER")]
    log: Option<String>,
}

/// Whether a role goes on until it is told to stop: then its log says what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasts {
    /// A service.
    UntilStopped,
    /// A command.
    UntilDone,
}

/// Runs a role to its end, which is the process's.
pub fn run(log: &LogOptions, lasts: Lasts, role: impl Future<Output = Result<ExitCode>>) -> ExitCode {
    let filter = match log.log.as_deref().map(EnvFilter::try_new) {
        None => EnvFilter::new(match lasts {
            Lasts::UntilStopped => "info",
            Lasts::UntilDone => "error",
        }),
        Some(Ok(filter)) => filter,
        Some(Err(error)) => {
            output::complain(&format!("error: --log: {error}"));
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| output::Complaints)
        // They would go to standard error by a macro that panics if it cannot be written, which is why they arise.
        .log_internal_errors(false)
        .with_ansi(output::colour(&std::io::stderr()))
        .with_target(false)
        .init();
    match block_on(role) {
        Ok(code) => code,
        Err(error) => {
            output::complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn block_on(role: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    tls::install_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(role);
    runtime.shutdown_timeout(FAREWELL);
    outcome
}
