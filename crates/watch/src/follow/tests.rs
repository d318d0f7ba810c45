use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, Mutex, RwLock},
};

use sealcast_console::{Call, Console, Demo, Place, Setup, Token, new_token};
use sealcast_group::PublicGroups;
use sealcast_ledger::{LedgerId, Replica, testing::Cast};
use sealcast_node::tls;
use tokio::{
    runtime::Runtime,
    sync::mpsc::{self, Receiver},
};

use super::*;
use crate::client::Credential;

/// A console's process: it ends with its connections.
struct Hub {
    console: Arc<Console>,
    runtime: Option<Runtime>,
}

impl Hub {
    fn start(dir: &Path, listener: &TcpListener) -> Self {
        let genesis = Cast::new(LedgerId { chain_id: 1, address: [1; 20] }, 0).unwrap().genesis;
        let console = Console::new(Setup {
            dir: dir.to_owned(),
            names: vec!["localhost".into()],
            broker: "mqtts://localhost:8883".into(),
            own_broker: true,
            place: Place::Embedded,
            lifetime: Duration::from_secs(1),
            tls: false,
            port: 1,
            url: String::new(),
            replica: Arc::new(RwLock::new(Replica::new(genesis))),
            groups: Arc::new(Mutex::new(PublicGroups::default())),
            certificates: Default::default(),
            records: Box::new(|_, _| Box::pin(async { Ok(Vec::new()) })),
            stop: CancellationToken::new(),
        });
        let runtime = Runtime::new().unwrap();
        let listener = listener.try_clone().unwrap();
        listener.set_nonblocking(true).unwrap();
        let router = sealcast_console::router(console.clone());
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await.unwrap();
        });
        Self { console, runtime: Some(runtime) }
    }

    /// The operator's process calls the hub, which knows from then on who is an operator.
    async fn operator_calls(&self, token: &Token) {
        let call = Call { verifier: token.verifier().to_hex(), outcomes: vec![], wait_ms: 0 };
        self.console.call(call).await.expect("no other operator");
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

fn client(listener: &TcpListener, token: Token) -> Client {
    tls::install_provider();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let tls = tls::client_with(Arc::new(rustls::RootCertStore::empty()), None, &[]).unwrap();
    Client::new(url, &tls, Credential::Token(token))
}

/// The next updates for which `pick` gives something.
async fn wait<T>(updates: &mut Receiver<Update>, pick: impl Fn(&Update) -> Option<T>) -> T {
    let found = async {
        loop {
            let next = updates.recv().await.expect("it is followed");
            if let Some(found) = pick(&next) {
                return found;
            }
        }
    };
    timeout(Duration::from_secs(60), found).await.expect("updates in time")
}

fn is_loaded(update: &Update) -> Option<String> {
    let Update::Loaded(loaded) = update else { return None };
    Some(loaded.state.hub.name.clone())
}

#[test]
fn it_goes_on_when_the_hub_has_started_again_and_ends_when_the_token_is_void() {
    let dir = tempfile::tempdir().unwrap();
    let token = new_token(dir.path()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hub = Hub::start(dir.path(), &listener);
    let runtime = Runtime::new().unwrap();
    let (sender, mut updates) = mpsc::channel(8);
    let follower = runtime.spawn(run(client(&listener, token), sender, CancellationToken::new()));
    runtime.block_on(async {
        assert_eq!(wait(&mut updates, is_loaded).await, "localhost");
        hub.console.set_demo(Demo { total: 7, ..Demo::default() });
        wait(&mut updates, |update| {
            matches!(update, Update::Event(event) if event.data.contains("\"total\":7")).then_some(())
        })
        .await;

        drop(hub);
        wait(&mut updates, |update| matches!(update, Update::Lost(_)).then_some(())).await;
        let hub = Hub::start(dir.path(), &listener);
        // The session went with the former process: it has signed in anew.
        wait(&mut updates, is_loaded).await;
        wait(&mut updates, |update| matches!(update, Update::Back).then_some(())).await;
        hub.console.set_demo(Demo { total: 8, ..Demo::default() });
        wait(&mut updates, |update| {
            matches!(update, Update::Event(event) if event.data.contains("\"total\":8")).then_some(())
        })
        .await;

        new_token(dir.path()).unwrap();
        drop(hub);
        let hub = Hub::start(dir.path(), &listener);
        hub.operator_calls(&Token::generate().unwrap()).await;
        let outcome = timeout(Duration::from_secs(60), follower).await.unwrap().unwrap();
        let said = format!("{:#}", outcome.unwrap_err());
        assert!(said.contains("the session has ended") && said.contains("no such token"), "{said}");
    });
}

#[test]
fn with_an_operators_token_it_waits_until_the_operators_process_has_called_again() {
    let dir = tempfile::tempdir().unwrap();
    let token = Token::generate().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hub = Hub::start(dir.path(), &listener);
    let runtime = Runtime::new().unwrap();
    let (sender, mut updates) = mpsc::channel(8);
    let again = Token::parse(token.reveal()).unwrap();
    runtime.block_on(async {
        hub.operator_calls(&token).await;
        let follower = tokio::spawn(run(client(&listener, again), sender, CancellationToken::new()));
        wait(&mut updates, is_loaded).await;

        drop(hub);
        let hub = Hub::start(dir.path(), &listener);
        let is_no_operator =
            |update: &Update| matches!(update, Update::Lost(reason) if reason.contains("sealcast operator"));
        wait(&mut updates, |update| is_no_operator(update).then_some(())).await;
        hub.operator_calls(&token).await;
        wait(&mut updates, is_loaded).await;
        wait(&mut updates, |update| matches!(update, Update::Back).then_some(())).await;

        drop(hub);
        let hub = Hub::start(dir.path(), &listener);
        hub.operator_calls(&Token::generate().unwrap()).await;
        let said = format!("{:#}", timeout(Duration::from_secs(60), follower).await.unwrap().unwrap().unwrap_err());
        assert!(said.contains("no such token"), "{said}");
    });
}

#[test]
fn a_wrong_token_and_a_hub_that_is_not_there_are_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    new_token(dir.path()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hub = Hub::start(dir.path(), &listener);
    let runtime = Runtime::new().unwrap();
    let attempt = || {
        let (sender, _news) = mpsc::channel(8);
        let outcome = run(client(&listener, Token::generate().unwrap()), sender, CancellationToken::new());
        format!("{:#}", runtime.block_on(outcome).unwrap_err())
    };
    let said = attempt();
    assert!(said.contains("no reader's token") && said.contains("sealcast operator"), "{said}");
    runtime.block_on(hub.operator_calls(&Token::generate().unwrap()));
    let said = attempt();
    assert!(said.contains("no such token"), "{said}");
    drop(hub);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = client(&closed, Token::generate().unwrap());
    drop(closed);
    let (sender, _news) = mpsc::channel(8);
    let said = format!("{:#}", runtime.block_on(run(gone, sender, CancellationToken::new())).unwrap_err());
    assert!(said.contains("cannot be reached"), "{said}");
}

#[test]
fn it_signs_out_when_it_is_told_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    let token = new_token(dir.path()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hub = Hub::start(dir.path(), &listener);
    let runtime = Runtime::new().unwrap();
    let (sender, mut updates) = mpsc::channel(8);
    let stop = CancellationToken::new();
    let follower = runtime.spawn(run(client(&listener, token), sender, stop.clone()));
    runtime.block_on(async {
        wait(&mut updates, is_loaded).await;
        assert!(hub.console.is_watched());
        stop.cancel();
        timeout(Duration::from_secs(60), follower).await.unwrap().unwrap().unwrap();
        assert!(!hub.console.is_watched());
    });
}
