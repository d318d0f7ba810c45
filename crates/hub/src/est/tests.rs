//! What becomes of an enrolment and its token when a write fails.

use std::{
    path::{Path, PathBuf},
    sync::RwLock,
};

use anyhow::{Context as _, Result};
use sealcast_faults::Fault;
use sealcast_identity::{Authority, EnrolmentToken, Network, Root, SigningKey, csr};
use tempfile::TempDir;

use super::*;
use crate::{
    apart::Folders,
    folder, ledger,
    tokens::tests::{heal, strike},
};

struct Bench {
    est: Arc<Est>,
    token: EnrolmentToken,
    key: SigningKey,
    hub: PathBuf,
    _dir: TempDir,
}

/// A hub's CA, with a token for the device 1111. `other`: a CA that the ledger does not know in its place.
async fn bench(other: Option<Authority>) -> Result<Bench> {
    let dir = tempfile::tempdir()?;
    let config = config::HubFile::default().validate()?;
    let folders = Folders::beside(&dir.path().join("hub"))?;
    std::fs::create_dir(&folders.hub)?;
    let keys = folder::keys(&folders, &config, now_ms())?;
    let (ledger, _) = ledger::open(&folders.hub, &config, &keys).await?;
    let token = EnrolmentToken::generate("1111".parse()?, keys.authority.root())?;
    let tokens = Tokens::open(&folders.hub)?;
    tokens.put(&token.to_stored(now_ms() + 60_000))?;
    let (replica, _) = ledger::read(&ledger).await?;
    let network = Network {
        chain_id: config.chain_id,
        ledger: ledger.id().address,
        first_ca: replica.genesis().ca,
        first_operator: replica.genesis().operator,
        issuing: keys.authority.certificate().clone(),
        operator: keys.operator,
        broker: "localhost:1".to_owned(),
        hub: "https://localhost:1".to_owned(),
        written_ms: now_ms(),
    };
    let descriptor = Descriptor::new(folders.clone(), network, Arc::new(RwLock::new(replica)), &keys.authority)?;
    let registrar = Registrar::new(other.unwrap_or(keys.authority), ledger);
    let est = Arc::new(Est { registrar, tokens, config, descriptor });
    Ok(Bench { est, token, key: SigningKey::generate()?, hub: folders.hub, _dir: dir })
}

impl Bench {
    fn dir(&self) -> &Path {
        &self.hub
    }

    /// The status that the device gets.
    async fn enroll(&self) -> Result<StatusCode> {
        let body = est::simple_enroll_body(&csr(&self.key, self.token.device())?);
        let headers = HeaderMap::from_iter([
            (header::AUTHORIZATION, self.token.authorization().parse()?),
            (header::CONTENT_TYPE, est::REQUEST_TYPE.parse()?),
        ]);
        let answer = simple_enroll(State(self.est.clone()), headers, body.into()).await;
        Ok(answer.map_or_else(|refused| refused.status, |response| response.status()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_good_for_one_certificate_whatever_fails() -> Result<()> {
    for fault in Fault::ALL {
        let bench = bench(None).await?;
        strike(&bench.est.tokens, fault)?;
        for _ in 0..2 {
            assert_eq!(bench.enroll().await?, StatusCode::INTERNAL_SERVER_ERROR, "{fault:?}");
            assert!(Tokens::open(bench.dir())?.of(bench.token.device())?.is_some(), "{fault:?}: the token is lost");
        }
        heal(&bench.est.tokens)?;
        assert_eq!(bench.enroll().await?, StatusCode::OK, "{fault:?}");
        assert_eq!(bench.enroll().await?, StatusCode::UNAUTHORIZED, "{fault:?}");
        assert_eq!(Tokens::open(bench.dir())?.of(bench.token.device())?, None, "{fault:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_good_for_one_of_two_at_once() -> Result<()> {
    let bench = bench(None).await?;
    let (first, second) = tokio::join!(bench.enroll(), bench.enroll());
    assert_eq!((first?, second?), (StatusCode::OK, StatusCode::UNAUTHORIZED));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_outlives_an_enrolment_that_does_not_end() -> Result<()> {
    let bench = bench(None).await?;
    // The device hangs up while the ledger is being asked: its request is dropped where it waits.
    {
        let mut request = std::pin::pin!(bench.enroll());
        std::future::poll_fn(|context| {
            assert!(request.as_mut().poll(context).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        let token = bench.est.tokens.of(bench.token.device())?.context("it is used up")?;
        assert!(bench.est.tokens.claim(token)?.is_none(), "the enrolment has it");
    }
    assert!(Tokens::open(bench.dir())?.of(bench.token.device())?.is_some());
    assert_eq!(bench.enroll().await?, StatusCode::OK);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_outlives_a_registration_that_the_ledger_does_not_take() -> Result<()> {
    let other = Root::create("other", now_ms(), std::time::Duration::from_secs(86_400))?;
    let other = other.create_authority("other", now_ms(), std::time::Duration::from_secs(86_400))?;
    let bench = bench(Some(other)).await?;
    assert_eq!(bench.enroll().await?, StatusCode::SERVICE_UNAVAILABLE);
    let kept = Tokens::open(bench.dir())?.of(bench.token.device())?;
    assert_eq!(kept.map(|token| token.secret_sha256), Some(bench.token.to_stored(0).secret_sha256));
    Ok(())
}
