//! What a role that runs says that it waits for, where it serves its metrics.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::Report;

const PATIENCE: Duration = Duration::from_secs(5);
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Asks the role that runs, at the address of its `metrics.listen`.
pub async fn check_ready(report: &mut Report, address: SocketAddr) {
    let asked = timeout(PATIENCE, ask(address)).await.map_err(|_| anyhow!("no answer from {address}")).flatten();
    let advice = "see its log; start it again if metrics.listen was changed since its start";
    let Some((status, said)) = report.attempt("ready", asked, advice) else { return };
    match status {
        StatusCode::OK => report.ok("ready", "it can do all of its work"),
        _ => report.warn(
            "ready",
            format!("it waits: {}", said.trim().replace('\n', "; ")),
            "docs/reasons.md explains the code before a colon; its log says more",
        ),
    }
}

async fn ask(address: SocketAddr) -> Result<(StatusCode, String)> {
    let tcp = TcpStream::connect(address).await.with_context(|| format!("cannot reach {address}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await?;
    tokio::spawn(connection);
    let request = Request::get("/readyz").header(header::HOST, address.to_string()).body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(|error| anyhow!(error))?;
    Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use super::*;
    use crate::{
        Tasks,
        doctor::{Check, CheckVerdict},
        monitor::{self, Figure, Monitored},
    };

    struct Role(Vec<String>);

    impl Monitored for Role {
        async fn figures(&self) -> Vec<Figure> {
            Vec::new()
        }

        async fn missing(&self) -> Vec<String> {
            self.0.clone()
        }
    }

    async fn check(missing: &[&str]) -> Check {
        let tasks = Tasks::default();
        let role = Arc::new(Role(missing.iter().map(|text| (*text).to_owned()).collect()));
        let address = monitor::open("127.0.0.1:0".parse().unwrap(), role, &tasks).await.unwrap();
        let mut report = Report::new("agent", Path::new("."));
        check_ready(&mut report, address).await;
        tasks.stop().cancel();
        report.checks()[0].clone()
    }

    #[tokio::test]
    async fn a_role_says_what_it_waits_for() {
        assert_eq!(check(&[]).await.verdict, CheckVerdict::Ok);
        let waiting = check(&["no-keys: plant", "no hub"]).await;
        assert_eq!((waiting.verdict, &*waiting.found), (CheckVerdict::Warning, "it waits: no-keys: plant; no hub"));
        // Nobody listens there.
        let mut report = Report::new("agent", Path::new("."));
        check_ready(&mut report, "127.0.0.1:1".parse().unwrap()).await;
        assert_eq!(report.checks()[0].verdict, CheckVerdict::Failure);
    }
}
