//! A server of the benchmark, in a process of its own, and what it uses of the machine.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    time::timeout,
};

/// How long a server may take to say that it is ready.
const START: Duration = Duration::from_secs(30);

/// See the module. It ends when this is dropped.
pub struct Process {
    /// What it does.
    pub role: &'static str,
    child: Child,
}

impl Process {
    /// Starts it. What it says on standard error goes to `log`.
    pub fn start(role: &'static str, command: &mut Command, log: &Path) -> Result<Self> {
        let log = fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} cannot be started", command.get_program().to_string_lossy()))?;
        Ok(Self { role, child })
    }

    /// Starts a role of this program, and reads the line of JSON with which it says that it is ready.
    pub async fn sealcast<T: DeserializeOwned>(role: &'static str, args: &[&str], log: &Path) -> Result<(Self, T)> {
        let program = std::env::current_exe().context("this program's own file")?;
        let mut process = Self::start(role, Command::new(program).args(args).stdout(Stdio::piped()), log)?;
        let stdout = process.child.stdout.take().context("a pipe")?;
        let stdout = tokio::process::ChildStdout::from_std(stdout)?;
        let line = timeout(START, BufReader::new(stdout).lines().next_line()).await;
        let said = || fs::read_to_string(log).unwrap_or_default();
        match line {
            Ok(Ok(Some(line))) => {
                let ready = serde_json::from_str(&line).with_context(|| format!("the {role} said {line:?}"))?;
                Ok((process, ready))
            }
            Ok(_) => bail!("the {role} has ended: {}", said()),
            Err(_) => bail!("the {role} is not ready after {} s: {}", START.as_secs(), said()),
        }
    }

    /// What it has used of the processors since its start. Threads that have ended do not count.
    pub fn cpu(&self) -> Result<Duration> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).context("the process has ended")?;
        let mut ns = 0;
        for thread in threads {
            // A thread may end meanwhile.
            let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            ns += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or_default();
        }
        Ok(Duration::from_nanos(ns))
    }

    /// What it has in memory, in bytes.
    pub fn rss_bytes(&self) -> Result<u64> {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).context("the process has ended")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS")?;
        Ok(kib << 10)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
