//! Sign-in by a client certificate.

use sealcast_identity::{Authority, DeviceId, Root};
use sealcast_ledger::{Body, DeviceRevoked, Number};
use sealcast_node::now_ms;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

/// Two devices with certificates of `1111` and `1112`, of which hub.toml names the first, and the operator's certificate.
struct Badges {
    bench: Bench,
    devices: [Certificate; 2],
    operator: Certificate,
    authority: Authority,
}

fn badges(begin_ms: u64) -> Badges {
    let cast = Cast::new(LedgerId { chain_id: 1, address: [1; 20] }, 2).unwrap();
    let authority =
        Root::create("test", begin_ms, 99 * DAY).unwrap().create_authority("test", begin_ms, 99 * DAY).unwrap();
    let devices = [0, 1].map(|at| {
        let key = cast.keys[&cast.number(at)].public();
        authority.issue_device(&cast.devices[at], key, begin_ms, DAY).unwrap().certificate
    });
    let key = cast.keys[&cast.genesis.id.operator()].public();
    let operator = authority.issue_operator(key, begin_ms, DAY).unwrap().certificate;
    let hashes = devices.each_ref().map(|certificate| Hash::from(certificate.fingerprint().0));
    Badges { bench: bench_of(cast, &hashes, &[]), devices, operator, authority }
}

impl Bench {
    async fn code(&self, shown: &Certificate, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let (status, body) = self.ask_as(Some(shown), method, path, headers, Value::Null).await;
        (status.as_u16(), body["error"]["code"].as_str().unwrap_or_default().to_owned())
    }

    /// What is said to somebody who cannot sign in.
    async fn refusal(&self, shown: &Certificate) -> String {
        let (status, body) = self.ask_as(Some(shown), "GET", "/api/state", &[], Value::Null).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        body["error"]["message"].as_str().unwrap().to_owned()
    }

    fn submit(&mut self, originator: Number, body: &Body) {
        let entry = self.cast.sign(self.ledger.replica(), originator, body).unwrap();
        let record = self.ledger.submit(&entry, 1_700_000_000).unwrap();
        self.console.setup.replica.write().unwrap().apply_without_signature_check(&record).unwrap();
    }
}

#[tokio::test]
async fn a_named_device_reads_without_a_cookie_and_nobody_else_does() {
    let Badges { bench, devices, authority, .. } = badges(now_ms());
    let who = || async { bench.ask_as(Some(&devices[0]), "GET", "/api/session", &[], Value::Null).await.1 };
    assert_eq!(who().await["role"], "reader");
    for path in LOOKING {
        assert_eq!(bench.code(&devices[0], "GET", path, &[]).await.0, 200, "{path}");
    }
    let refusal = bench.refusal(&devices[1]).await;
    assert!(refusal.contains("1112") && refusal.contains("hub.toml does not name it"), "{refusal}");
    // The same name in a certificate that is not on the ledger.
    let key = bench.cast.keys[&bench.cast.number(0)].public();
    let other = authority.issue_device(&"1111".parse().unwrap(), key, now_ms(), DAY).unwrap().certificate;
    assert!(bench.refusal(&other).await.contains("does not know the certificate"));
    let unknown: DeviceId = "9".parse().unwrap();
    let unknown = authority.issue_device(&unknown, key, now_ms(), DAY).unwrap().certificate;
    assert!(bench.refusal(&unknown).await.contains("does not know the device"));
    // It is one session, whichever connection shows the certificate.
    assert_eq!(who().await["csrf"], who().await["csrf"]);
    assert!(bench.console.is_watched());
}

#[tokio::test]
async fn a_certificate_proves_no_wish() {
    let Badges { bench, devices, operator, .. } = badges(now_ms());
    let (_, body) = bench.ask_as(Some(&devices[0]), "GET", "/api/session", &[], Value::Null).await;
    let csrf = ("x-sealcast-csrf", body["csrf"].as_str().unwrap());
    // A page of another site, in a browser that shows the certificate by itself.
    assert_eq!(bench.code(&devices[0], "POST", "/api/verify", &[]).await, (403, "csrf".into()));
    for (method, header) in [("GET", ("sec-fetch-site", "cross-site")), ("POST", ("origin", "http://evil.example"))] {
        let path = if method == "GET" { "/api/state" } else { "/api/verify" };
        assert_eq!(bench.code(&devices[0], method, path, &[header, csrf]).await, (403, "origin".into()));
    }
    assert_eq!(bench.code(&devices[0], "POST", "/api/verify", &[csrf]).await.0, 202);
    assert_eq!(bench.code(&devices[0], "POST", "/api/actions", &[csrf]).await, (403, "role".into()));
    // The CSRF text of one session is not another's.
    assert_eq!(bench.code(&operator, "POST", "/api/verify", &[csrf]).await, (403, "csrf".into()));
    let (_, body) = bench.ask_as(Some(&operator), "GET", "/api/session", &[], Value::Null).await;
    assert_eq!(body["role"], "operator");
    let csrf = ("x-sealcast-csrf", body["csrf"].as_str().unwrap());
    assert_eq!(bench.code(&operator, "POST", "/api/actions", &[csrf]).await, (400, "bad-request".into()));
}

#[tokio::test]
async fn a_revoked_or_ended_certificate_ends_its_session() {
    let Badges { mut bench, devices, .. } = badges(now_ms());
    assert_eq!(bench.code(&devices[0], "GET", "/api/state", &[]).await.0, 200);
    bench.console.tick(Duration::from_secs(1));
    assert!(bench.console.is_watched());
    let device = bench.cast.number(0);
    let operator = bench.cast.genesis.id.operator();
    bench.submit(operator, &Body::DeviceRevoked(DeviceRevoked { device, reason: "lost".parse().unwrap() }));
    bench.console.tick(Duration::from_secs(1));
    assert!(!bench.console.is_watched(), "the session has ended, and with it the feed");
    assert!(bench.refusal(&devices[0]).await.contains("revoked"));

    let Badges { bench, devices, operator, .. } = badges(now_ms() - 2 * 86_400_000);
    assert!(bench.refusal(&devices[0]).await.contains("has ended"));
    assert!(bench.refusal(&operator).await.contains("has ended"));
}

#[tokio::test]
async fn a_token_comes_before_a_certificate() {
    let Badges { bench, devices, .. } = badges(now_ms());
    let reader = bench.sign_in(&bench.token).await;
    let cookie = ("cookie", &*reader.cookie);
    let (_, body) = bench.ask_as(Some(&devices[0]), "GET", "/api/session", &[cookie], Value::Null).await;
    assert_eq!(body["csrf"], reader.csrf);
    // A wrong token is a wrong token, whoever shows a certificate.
    let wrong = json!({ "proof": "00" });
    let (_, body) = bench.ask_as(Some(&devices[1]), "POST", "/api/session", &[], wrong).await;
    assert!(body["error"]["message"].as_str().unwrap().contains("no reader's token"), "{body}");
}
