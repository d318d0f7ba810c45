//! What becomes of an enrolment and its token when a write fails.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    sync::RwLock,
    task::Poll,
    time::Duration,
};

use anyhow::{Context as _, Result};
use sealcast_chain::Ledger;
use sealcast_faults::Fault;
use sealcast_identity::{Authority, EnrolmentToken, Network, Root, SigningKey, csr};
use sealcast_ledger::{Device, DeviceRevoked, Hash, Replica};
use sealcast_topic::Wire;
use tempfile::TempDir;
use tokio::sync::watch;

use super::*;
use crate::{
    apart::Folders,
    folder,
    follower::Known,
    ledger,
    tokens::tests::{heal, strike},
};

const LIFETIME: Duration = Duration::from_secs(3_600);
/// Half of it is over at once.
const SHORT: Duration = Duration::from_secs(1);

struct Bench {
    est: Arc<Est>,
    token: EnrolmentToken,
    key: SigningKey,
    hub: PathBuf,
    ledger: Ledger,
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
    let replica = ledger::read(&ledger).await?;
    let network = Network {
        chain_id: config.chain_id,
        ledger: ledger.id().address,
        first_ca: replica.genesis().ca,
        first_operator: replica.genesis().operator,
        issuing: keys.authority.certificate().clone(),
        operator: keys.operator,
        broker: "mqtts://localhost:1".to_owned(),
        wire: Wire::default(),
        hub: "https://localhost:1".to_owned(),
        written_ms: now_ms(),
    };
    let replica = Arc::new(RwLock::new(replica));
    let descriptor = Descriptor::new(folders.clone(), network, replica.clone(), &keys.authority)?;
    // The replica follows when the tests say so.
    let known = Known::new(watch::Sender::new(u64::MAX).subscribe());
    let registrar = Registrar::new(other.unwrap_or(keys.authority), ledger.clone(), known);
    let est = Arc::new(Est::new(registrar, tokens, config, descriptor, replica, Tasks::default()));
    Ok(Bench { est, token, key: SigningKey::generate()?, hub: folders.hub, ledger, _dir: dir })
}

impl Bench {
    fn dir(&self) -> &Path {
        &self.hub
    }

    /// The certificates that the ledger has of the device 1111.
    async fn registered(&self) -> Result<Vec<Hash>> {
        self.follow().await?;
        let device = self.replica(|replica| replica.device_by_id(self.token.device()).cloned());
        let registrations = device.iter().flat_map(|device| device.registrations());
        Ok(registrations.map(|registration| registration.certificate).collect())
    }

    /// Begins `request` so many times. Its peer hangs up as soon as the ledger has an entry of it, before the hub has the ledger's
    /// answer.
    async fn hang_up<T>(&self, times: u32, request: impl AsyncFn(&Self) -> Result<T>) -> Result<()> {
        for _ in 0..times {
            let before = self.ledger.height().await?;
            let mut request = Box::pin(request(self));
            let mut is_answered = false;
            while !is_answered && self.ledger.height().await? == before {
                let polled = std::future::poll_fn(|context| Poll::Ready(request.as_mut().poll(context))).await;
                is_answered = polled.is_ready();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            drop(request);
            self.follow().await?;
        }
        Ok(())
    }

    /// The status that the device gets.
    async fn enroll(&self) -> Result<StatusCode> {
        self.enroll_with(&self.token, &self.key).await
    }

    async fn enroll_with(&self, token: &EnrolmentToken, key: &SigningKey) -> Result<StatusCode> {
        let body = est::simple_enroll_body(&csr(key, token.device())?);
        let headers = HeaderMap::from_iter([
            (header::AUTHORIZATION, token.authorization().parse()?),
            (header::CONTENT_TYPE, est::REQUEST_TYPE.parse()?),
        ]);
        let answer = simple_enroll(State(self.est.clone()), headers, body.into()).await;
        Ok(answer.map_or_else(|refused| refused.status, |response| response.status()))
    }

    /// Brings the hub's replica to the ledger's head.
    async fn follow(&self) -> Result<()> {
        let height = self.replica(Replica::height);
        for record in self.ledger.records(height, 100).await? {
            self.est.replica.write().unwrap_or_else(PoisonError::into_inner).apply(&record)?;
        }
        Ok(())
    }

    fn replica<T>(&self, read: impl FnOnce(&Replica) -> T) -> T {
        read(&self.est.replica.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a certificate of the device's key onto the ledger, which is valid for so long.
    async fn certify(&self, device: &str, lifetime: Duration) -> Result<Certificate> {
        let (authority, device) = (&self.est.registrar.authority, device.parse()?);
        let issued = authority.issue_device(&device, self.key.public(), now_ms(), lifetime)?;
        register(&self.est.registrar, &device, &issued.certificate)
            .await
            .map_err(|refused| anyhow::anyhow!(refused.reason))?;
        self.follow().await?;
        Ok(issued.certificate)
    }

    /// What a device gets that shows a certificate, and asks for one for this key.
    async fn renew(&self, shown: Option<&Certificate>, key: &SigningKey) -> Result<Result<Certificate, StatusCode>> {
        let body = est::simple_enroll_body(&csr(key, self.token.device())?);
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, est::REQUEST_TYPE.parse()?)]);
        let peer = Peer(shown.map(|shown| shown.der().to_vec().into()));
        match simple_reenroll(State(self.est.clone()), Extension(peer), headers, body.into()).await {
            Err(refused) => Ok(Err(refused.status)),
            Ok(answer) => {
                let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await?;
                Ok(Ok(est::parse_issued(&body, key.public())?.into_iter().next().context("no certificate")?))
            }
        }
    }

    /// An enrolment that is given up while it waits for the ledger: its device hangs up, or its time is over.
    async fn give_up(&self) {
        let _turn = self.est.registrar.hold_up().await;
        begin(std::pin::pin!(self.enroll())).await;
    }

    /// What the operator does while the hub runs: another process.
    fn make_token(&self) -> Result<EnrolmentToken> {
        let token = EnrolmentToken::generate(self.token.device().clone(), self.est.registrar.authority.root())?;
        Tokens::open(self.dir())?.put(&token.to_stored(now_ms() + 60_000))?;
        Ok(token)
    }
}

/// Runs it until it waits for the ledger.
async fn begin(mut request: Pin<&mut impl Future<Output = Result<StatusCode>>>) {
    std::future::poll_fn(|context| {
        assert!(request.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_good_for_one_certificate_whatever_fails() -> Result<()> {
    for (fault, is_presented) in Fault::ALL.into_iter().flat_map(|fault| [(fault, false), (fault, true)]) {
        let bench = bench(None).await?;
        if is_presented {
            // Then the first write that fails is the one which uses the token up.
            bench.give_up().await;
        }
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
    bench.give_up().await;
    assert!(Tokens::open(bench.dir())?.of(bench.token.device())?.is_some());
    assert_eq!(bench.enroll().await?, StatusCode::OK);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_outlives_a_registration_that_the_ledger_does_not_take() -> Result<()> {
    let other = Root::create("other", now_ms(), Duration::from_secs(86_400))?;
    let other = other.create_authority("other", now_ms(), Duration::from_secs(86_400))?;
    let bench = bench(Some(other)).await?;
    assert_eq!(bench.enroll().await?, StatusCode::SERVICE_UNAVAILABLE);
    let kept = Tokens::open(bench.dir())?.of(bench.token.device())?;
    assert_eq!(kept.map(|token| token.secret_sha256), Some(bench.token.to_stored(0).secret_sha256));
    Ok(())
}

/// The registration that was given up may come onto the ledger at any time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_whose_enrolment_was_given_up_brings_no_second_key_onto_the_ledger() -> Result<()> {
    let bench = bench(None).await?;
    bench.give_up().await;
    let thief = SigningKey::generate()?;
    assert_eq!(bench.enroll_with(&bench.token, &thief).await?, StatusCode::UNAUTHORIZED);
    assert_eq!(bench.enroll().await?, StatusCode::OK);
    assert_eq!(bench.enroll_with(&bench.token, &thief).await?, StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_made_while_an_enrolment_fails_is_the_one_that_counts() -> Result<()> {
    let other = Root::create("other", now_ms(), Duration::from_secs(86_400))?;
    let other = other.create_authority("other", now_ms(), Duration::from_secs(86_400))?;
    for other in [None, Some(other)] {
        let fails = other.is_some();
        let bench = bench(other).await?;
        let newer = {
            let mut request = std::pin::pin!(bench.enroll());
            let turn = bench.est.registrar.hold_up().await;
            begin(request.as_mut()).await;
            let newer = bench.make_token()?;
            drop(turn);
            if fails {
                assert_eq!(request.await?, StatusCode::SERVICE_UNAVAILABLE);
            }
            newer
        };
        assert_eq!(bench.enroll().await?, StatusCode::UNAUTHORIZED, "the old one is no token any more");
        let kept = bench.est.tokens.of(newer.device())?;
        assert_eq!(kept.map(|token| token.secret_sha256), Some(newer.to_stored(0).secret_sha256));
        if !fails {
            assert_eq!(bench.enroll_with(&newer, &SigningKey::generate()?).await?, StatusCode::OK);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_on_the_ledger_before_its_device_has_it() -> Result<()> {
    let bench = bench(None).await?;
    let old = bench.certify("1111", SHORT).await?;
    let new = bench.renew(Some(&old), &bench.key).await?.map_err(|status| anyhow::anyhow!("{status}"))?;
    assert!(new.not_after_s() > old.not_after_s());
    assert_eq!((new.common_name(), new.public_key()), (old.common_name(), old.public_key()));
    bench.follow().await?;
    let device = bench.replica(|replica| replica.device_by_id(bench.token.device()).cloned());
    assert_eq!(device.map(|device| device.certificate), Some(Hash::from(new.fingerprint().0)));
    Ok(())
}

/// A renewal is an entry on the ledger, and may be had once in half a lifetime.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_did_not_get_the_answer_gets_the_same_one_again() -> Result<()> {
    let bench = bench(None).await?;
    let old = bench.certify("1111", SHORT).await?;
    let first = bench.renew(Some(&old), &bench.key).await?;
    let height = bench.ledger.records(0, 100).await?.len();
    // Before the hub's replica has it, and after.
    assert_eq!(bench.renew(Some(&old), &bench.key).await?, first);
    bench.follow().await?;
    assert_eq!(bench.renew(Some(&old), &bench.key).await?, first);
    let new = first.map_err(|status| anyhow::anyhow!("{status}"))?;
    assert_eq!(bench.renew(Some(&new), &bench.key).await?, Err(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(bench.ledger.records(0, 100).await?.len(), height);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_takes_a_good_certificate_and_its_key() -> Result<()> {
    let bench = bench(None).await?;
    let old = bench.certify("1111", SHORT).await?;
    let renew = async |shown: Option<&Certificate>, key: &SigningKey| -> Result<_> {
        Ok(bench.renew(shown, key).await?.map(|_| StatusCode::OK))
    };
    let other = SigningKey::generate()?;
    assert_eq!(renew(None, &bench.key).await?, Err(StatusCode::FORBIDDEN));
    assert_eq!(renew(Some(&old), &other).await?, Err(StatusCode::BAD_REQUEST), "another key takes a token");
    let authority = &bench.est.registrar.authority;
    let unknown = authority.issue_device(bench.token.device(), bench.key.public(), now_ms(), LIFETIME)?.certificate;
    assert_eq!(renew(Some(&unknown), &bench.key).await?, Err(StatusCode::FORBIDDEN), "not on the ledger");
    let another = bench.certify("1112", SHORT).await?;
    assert_eq!(renew(Some(&another), &bench.key).await?, Err(StatusCode::BAD_REQUEST), "another device's");
    let operator = authority.issue_operator(bench.key.public(), now_ms(), LIFETIME)?.certificate;
    assert_eq!(renew(Some(&operator), &bench.key).await?, Err(StatusCode::FORBIDDEN));
    let id = bench.ledger.id();
    let revoked = DeviceRevoked { device: id.number_of(bench.token.device()), reason: "lost".parse()? };
    bench.est.registrar.submit(Body::DeviceRevoked(revoked)).await?;
    bench.follow().await?;
    assert_eq!(renew(Some(&old), &bench.key).await?, Err(StatusCode::FORBIDDEN), "revoked");
    bench.certify("1111", LIFETIME).await?;
    assert_eq!(renew(Some(&old), &bench.key).await?, Err(StatusCode::FORBIDDEN), "revoked before it enrolled again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_gives_up_each_renewal_writes_no_more_than_one_to_the_ledger() -> Result<()> {
    let bench = bench(None).await?;
    let old = bench.certify("1111", SHORT).await?;
    tokio::time::sleep(SHORT).await;
    bench.hang_up(10, async |bench| bench.renew(Some(&old), &bench.key).await).await?;
    let registered = bench.registered().await?.len();
    assert!(registered <= 2, "{registered} registrations");
    Ok(())
}

/// Neither by its token alone, nor by its token and its certificate in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_gives_up_each_enrolment_writes_no_more_than_one_to_the_ledger() -> Result<()> {
    let bench = bench(None).await?;
    let old = bench.certify("1111", SHORT).await?;
    bench.hang_up(1, Bench::enroll).await?;
    let renewed = bench.renew(Some(&old), &bench.key).await?.map_err(|status| anyhow::anyhow!("{status}"))?;
    bench.hang_up(9, Bench::enroll).await?;
    assert_eq!(bench.registered().await?, [&old, &renewed].map(|certificate| Hash::from(certificate.fingerprint().0)));
    assert_eq!(bench.est.tokens.of(bench.token.device())?, None, "the token is used up by the second try");
    Ok(())
}

/// What the ledger has of a device that was revoked since is of no use to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enrolment_that_was_given_up_and_revoked_gets_another_certificate() -> Result<()> {
    let bench = bench(None).await?;
    bench.hang_up(1, Bench::enroll).await?;
    let id = bench.ledger.id();
    let revoked = DeviceRevoked { device: id.number_of(bench.token.device()), reason: "lost".parse()? };
    bench.est.registrar.submit(Body::DeviceRevoked(revoked)).await?;
    bench.follow().await?;
    assert_eq!(bench.enroll().await?, StatusCode::OK);
    assert_eq!(bench.registered().await?.len(), 2);
    assert_eq!(bench.replica(|replica| replica.device_by_id(bench.token.device()).map(Device::is_active)), Some(true));
    Ok(())
}

/// The hub's replica learns of its new key after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_has_just_enrolled_another_key_renews_no_certificate_of_the_old_one() -> Result<()> {
    let bench = bench(None).await?;
    let old = bench.certify("1111", SHORT).await?;
    assert_eq!(bench.enroll_with(&bench.token, &SigningKey::generate()?).await?, StatusCode::OK);
    assert_eq!(bench.renew(Some(&old), &bench.key).await?, Err(StatusCode::FORBIDDEN));
    assert_eq!(bench.registered().await?.len(), 2);
    Ok(())
}
