//! The API over a ledger in memory, called as a browser calls it.

use std::{
    net::SocketAddr,
    sync::{Mutex, RwLock},
    time::Duration,
};

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{Request, Response, StatusCode},
};
use http_body_util::BodyExt as _;
use sealcast_group::PublicGroups;
use sealcast_identity::Certificate;
use sealcast_ledger::{
    Authenticity, Body as Entry, Granted, GroupCreated, GroupNumber, Hash, LedgerId, Moved, Policy,
    testing::{Cast, MemoryLedger},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use super::*;
use crate::{
    access::Token,
    actions::{Act, Action, Call},
    console::{Setup, new_token},
    log::Log,
    model::{Demo, Place},
};

mod certificates;

struct Bench {
    console: Arc<Console>,
    router: Router,
    token: Token,
    cast: Cast,
    ledger: MemoryLedger,
    _dir: tempfile::TempDir,
}

/// So many devices, all granted one group.
fn bench(devices: usize) -> Bench {
    bench_of(cast(devices), &[], &[])
}

fn cast(devices: usize) -> Cast {
    Cast::new(LedgerId { chain_id: 1, address: [1; 20] }, devices).unwrap()
}

/// The same of this cast, with these certificates of the first devices; then the ledger has moved to these contracts.
fn bench_of(cast: Cast, certificates: &[Hash], moves: &[LedgerId]) -> Bench {
    let devices = cast.devices.len();
    let mut ledger = MemoryLedger::new(cast.genesis);
    let id = cast.genesis.id;
    let hash = |at: usize| certificates.get(at).copied().unwrap_or_else(|| Hash::of(&at.to_be_bytes()));
    let mut bodies: Vec<_> = (0..devices).map(|at| (id.ca(), cast.registration(at, hash(at)))).collect();
    let policy = Policy {
        epoch_max_age_s: None,
        epoch_max_messages: None,
        retention: 4,
        authenticity: Authenticity::Signature,
        ledger_max_age_s: None,
    };
    let filters = vec!["hsu0001/#".parse().unwrap()];
    bodies
        .push((id.operator(), Entry::GroupCreated(GroupCreated { name: "hsu0001".parse().unwrap(), filters, policy })));
    let group = GroupNumber::new(1).unwrap();
    let grants = (0..devices).map(|at| (id.operator(), Entry::Granted(Granted { group, device: cast.number(at) })));
    bodies.extend(grants);
    bodies.extend(moves.iter().map(|to| (id.operator(), Entry::Moved(Moved { to: *to }))));
    for (originator, body) in bodies {
        let entry = cast.sign(ledger.replica(), originator, &body).unwrap();
        ledger.submit(&entry, 1_700_000_000).unwrap();
    }
    let (mut replica, mut groups, mut log) =
        (sealcast_ledger::Replica::new(cast.genesis), PublicGroups::default(), Log::default());
    for record in ledger.records() {
        let event = replica.apply_without_signature_check(record).unwrap();
        groups.handle_record(&replica, record);
        log.observe(&replica, &groups, record, event);
    }
    let dir = tempfile::tempdir().unwrap();
    let token = new_token(dir.path()).unwrap();
    let records = ledger.records().to_vec();
    let console = Console::new(Setup {
        dir: dir.path().to_owned(),
        names: vec!["localhost".into()],
        broker: "mqtts://localhost:8883".into(),
        own_broker: true,
        place: Place::Embedded,
        lifetime: Duration::from_secs(1),
        tls: false,
        port: 8088,
        url: "http://127.0.0.1:8088".into(),
        replica: Arc::new(RwLock::new(replica)),
        groups: Arc::new(Mutex::new(groups)),
        certificates: ["1111".parse().unwrap()].into(),
        records: Box::new(move |from, most| {
            let page = records.iter().skip(from as usize).take(most).cloned().collect();
            Box::pin(async move { Ok(page) })
        }),
        stop: CancellationToken::new(),
    });
    *crate::console::lock(&console.log) = log;
    Bench { router: router(console.clone()), console, token, cast, ledger, _dir: dir }
}

/// Whoever is signed in.
struct Visitor {
    cookie: String,
    csrf: String,
}

impl Bench {
    async fn send(&self, request: Request<Body>) -> Response<Body> {
        let mut router = self.router.clone();
        Service::<Request<Body>>::call(&mut router, request).await.unwrap()
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Value) -> (StatusCode, Value) {
        self.ask_as(None, method, path, headers, body).await
    }

    async fn ask_as(
        &self,
        shown: Option<&Certificate>,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost:8088");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let peer = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 5)));
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = request.extension(peer).extension(crate::Shown(shown.cloned()));
        let response = self.send(request.body(body).unwrap()).await;
        let (status, bytes) = (response.status(), response.into_body().collect().await.unwrap().to_bytes());
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn sign_in(&self, token: &Token) -> Visitor {
        let proof = json!({ "proof": hex::encode(token.sign_in()) });
        let request = Request::post("/api/session").header("host", "localhost:8088");
        let peer = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 5)));
        let response = self.send(request.extension(peer).body(Body::from(proof.to_string())).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        let cookie = response.headers()["set-cookie"].to_str().unwrap().to_owned();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        let body: Value = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
        let csrf = body["csrf"].as_str().unwrap().to_owned();
        Visitor { cookie: cookie.split(';').next().unwrap().to_owned(), csrf }
    }

    async fn see(&self, visitor: &Visitor, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, &[("cookie", &visitor.cookie)], Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    async fn change(&self, visitor: &Visitor, path: &str, body: Value) -> (u16, String) {
        let headers = [("cookie", &*visitor.cookie), ("x-sealcast-csrf", &*visitor.csrf)];
        let (status, body) = self.ask("POST", path, &headers, body).await;
        (status.as_u16(), body["error"]["code"].as_str().unwrap_or_default().to_owned())
    }
}

const LOOKING: [&str; 6] =
    ["/api/state", "/api/nodes/1111", "/api/groups/hsu0001", "/api/entries", "/api/entries/0", "/api/wire"];

#[tokio::test]
async fn nothing_is_shown_without_a_session() {
    let bench = bench(1);
    for path in LOOKING.into_iter().chain(["/api/feed", "/api/values", "/api/session"]) {
        for cookie in ["", "sealcast-console-8088=0"] {
            let (status, body) = bench.ask("GET", path, &[("cookie", cookie)], Value::Null).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
            assert_eq!(body["error"]["code"], "not-signed-in", "{path}");
        }
    }
    for path in ["/api/verify", "/api/actions"] {
        assert_eq!(bench.ask("POST", path, &[], Value::Null).await.0, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(bench.ask("DELETE", "/api/session", &[], Value::Null).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(bench.ask("GET", "/api/no", &[], Value::Null).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_after_some_the_address() {
    let bench = bench(0);
    let operator = Token::generate().unwrap();
    let call = Call { verifier: operator.verifier().to_hex(), outcomes: vec![], wait_ms: 0 };
    bench.console.call(call).await.unwrap();
    let wrong = || json!({ "proof": hex::encode(Token::generate().unwrap().sign_in()) });
    for _ in 0..10 {
        assert_eq!(bench.ask("POST", "/api/session", &[], wrong()).await.0, StatusCode::UNAUTHORIZED);
    }
    let right = json!({ "proof": hex::encode(bench.token.sign_in()) });
    assert_eq!(bench.ask("POST", "/api/session", &[], right).await.0, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(bench.ask("POST", "/api/session", &[], json!({})).await.0, StatusCode::BAD_REQUEST);
}

/// A hub that has just started knows no operator's token: whoever has one tries again, and is not locked out by that.
#[tokio::test]
async fn a_token_is_not_called_wrong_before_the_operators_process_has_called() {
    let bench = bench(0);
    let token = Token::generate().unwrap();
    let proof = json!({ "proof": hex::encode(token.sign_in()) });
    for _ in 0..20 {
        let (status, body) = bench.ask("POST", "/api/session", &[], proof.clone()).await;
        assert_eq!((status, &body["error"]["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"no-operator".into()));
    }
    bench.console.set_demo(Demo::default());
    let (_, body) = bench.ask("POST", "/api/session", &[], proof).await;
    assert!(
        body["error"]["message"].as_str().unwrap().contains("`sealcast demo --serve`"),
        "a visitor has no operator's folder"
    );
    bench.sign_in(&bench.token).await;
    let call = Call { verifier: token.verifier().to_hex(), outcomes: vec![], wait_ms: 0 };
    bench.console.call(call).await.unwrap();
    bench.sign_in(&token).await;
}

#[tokio::test]
async fn a_reader_sees_everything_and_changes_nothing() {
    let bench = bench(2);
    let reader = bench.sign_in(&bench.token).await;
    let state = bench.see(&reader, "/api/state").await;
    assert_eq!(state["nodes"][0]["id"], "1111");
    assert_eq!(state["nodes"][0]["pending"], json!(["hsu0001"]), "granted, and no member yet");
    assert_eq!(state["groups"][0]["members"], json!(["1111", "1112"]));
    assert_eq!((&state["ledger"]["height"], &state["hub"]["operator"]), (&json!(5), &json!(false)));
    let node = bench.see(&reader, "/api/nodes/1112").await;
    assert_eq!(node["contract_record"]["state"], "active");
    assert_eq!(node["entries"][0]["text"], "operator granted hsu0001 to 1112");
    assert_eq!(bench.see(&reader, "/api/groups/hsu0001").await["policy"]["retention"], 4);
    let page = bench.see(&reader, "/api/entries?limit=1&kind=granted&node=1111").await;
    assert_eq!((&page["entries"][0]["index"], &page["more"]), (&json!(3), &json!(false)));
    let entry = bench.see(&reader, "/api/entries/3").await;
    assert_eq!((&entry["signature"]["good"], &entry["fields"]["device"]), (&json!(true), &json!("1111")));
    assert_eq!(entry["head_before"], bench.see(&reader, "/api/entries/2").await["head"]);
    for (path, status) in
        [("/api/nodes/9", 404), ("/api/groups/x", 404), ("/api/entries/5", 404), ("/api/wire?x=1", 400)]
    {
        let found = bench.ask("GET", path, &[("cookie", &reader.cookie)], Value::Null).await.0;
        assert_eq!(found.as_u16(), status, "{path}");
    }
    assert_eq!(bench.change(&reader, "/api/actions", json!({})).await, (403, "role".into()));
}

#[tokio::test]
async fn an_operators_action_waits_for_a_process_and_is_handed_on_as_it_is() {
    let bench = bench(1);
    let token = Token::generate().unwrap();
    let call = |outcomes| Call { verifier: token.verifier().to_hex(), outcomes, wait_ms: 0 };
    assert!(bench.console.call(call(vec![])).await.unwrap().actions.is_empty());
    let operator = bench.sign_in(&token).await;
    let (node, group, reason) = ("1111".into(), "hsu0001".into(), String::new());
    let id = "00112233445566ff".to_owned();
    let action = Action { action: Act::Grant, node, group, reason, at: 1, id, proof: String::new() }.proven(&token);
    let body = serde_json::to_value(&action).unwrap();
    assert_eq!(
        bench.change(&Visitor { csrf: String::new(), ..operator }, "/api/actions", body.clone()).await.1,
        "csrf"
    );
    let operator = bench.sign_in(&token).await;
    let two_lines =
        json!({ "action": "grant", "node": "1111\nx", "group": "g", "at": 1, "id": action.id, "proof": action.proof });
    assert_eq!(bench.change(&operator, "/api/actions", two_lines).await, (400, "bad-request".into()));
    assert_eq!(bench.change(&operator, "/api/actions", body).await.0, 202);
    assert_eq!(bench.console.call(call(vec![])).await.unwrap().actions, [action]);
}

#[tokio::test]
async fn a_new_token_ends_the_sessions_of_the_former_one() {
    let bench = bench(0);
    let reader = bench.sign_in(&bench.token).await;
    bench.console.tick(Duration::from_secs(1));
    bench.see(&reader, "/api/state").await;
    new_token(&bench.console.setup.dir).unwrap();
    bench.console.tick(Duration::from_secs(1));
    let (status, _) = bench.ask("GET", "/api/state", &[("cookie", &reader.cookie)], Value::Null).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn each_answer_forbids_what_the_page_does_not_need() {
    let bench = bench(0);
    let peer = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 5)));
    for (path, host) in [("/", "localhost:8088"), ("/api/state", "localhost:8088"), ("/", "evil.example")] {
        let request = Request::get(path).header("host", host).extension(peer).body(Body::empty()).unwrap();
        let response = bench.send(request).await;
        let says = |name: &str| response.headers().get(name).map(|it| it.to_str().unwrap()).unwrap_or_default();
        assert!(says("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
        assert!(!says("content-security-policy").contains("unsafe"), "{path}");
        assert_eq!((says("x-content-type-options"), says("referrer-policy")), ("nosniff", "no-referrer"), "{path}");
        assert_eq!(says("cache-control") == "no-store", path.starts_with("/api/"), "{path}");
        assert_eq!(response.status() == StatusCode::FORBIDDEN, host == "evil.example");
    }
}

#[test]
fn each_route_is_described() {
    let description: Value = serde_json::from_str(&openapi().unwrap()).unwrap();
    let source = include_str!("../api.rs");
    let routes = source.split(".route(\"").skip(1).filter_map(|rest| rest.split_once('"')?.0.into());
    let routes: Vec<&str> = routes.filter(|route: &&str| !route.contains('*')).collect();
    assert_eq!(routes.len(), 12);
    for route in routes {
        assert!(description["paths"][route].is_object(), "{route}");
    }
    for method in ["get", "post", "delete"] {
        assert!(description["paths"]["/api/session"][method].is_object(), "{method}");
    }
}

#[tokio::test]
async fn a_thousand_nodes_are_shown() {
    let bench = bench(1000);
    let reader = bench.sign_in(&bench.token).await;
    let state = bench.see(&reader, "/api/state").await;
    assert_eq!(state["nodes"].as_array().unwrap().len(), 1000);
}

#[tokio::test]
async fn an_entry_is_well_signed_whichever_contract_it_was_for() {
    let contracts = [2, 3, 4].map(|at| LedgerId { chain_id: 5, address: [at; 20] });
    let bench = bench_of(cast(1), &[], &contracts);
    let visitor = bench.sign_in(&bench.token).await;
    let height = bench.console.replica().height();
    for index in 0..height {
        let entry = bench.see(&visitor, &format!("/api/entries/{index}")).await;
        assert_eq!(entry["signature"]["good"], true, "{entry}");
    }
}
