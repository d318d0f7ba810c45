//! A device that runs no agent: what it puts on the ledger, and what it publishes on Sealcast's own topics, is the test's.

use std::path::Path;

use sealcast_agent::Folder;
use sealcast_identity::SigningKey;
use sealcast_ledger::{Body, Hash, KeysPublished, LedgerId, Number, SignedEntry};
use sealcast_ledger_client::{AnswerVerifier, RemoteLedger, SubmitError};
use sealcast_node::{
    KeyFiles, Link, LinkEvent, Tasks,
    tls::{self, Identity},
    upstream::{Upstream, UpstreamFile},
};
use tokio::runtime::Runtime;

/// See the module. Connected to the hub's broker until it is dropped.
pub struct Intruder {
    runtime: Runtime,
    link: Link,
    relay: RemoteLedger<Link>,
    ledger: LedgerId,
    key: SigningKey,
    certificate: Hash,
    pub number: Number,
    nonce: u64,
}

impl Intruder {
    /// Whoever has this folder, which `sealcast enroll` made.
    pub fn start(dir: &Path) -> Self {
        tls::install_provider();
        let folder = Folder::open(dir).unwrap();
        let key = folder.key(&KeyFiles::default()).unwrap();
        let (ledger, device) = (folder.genesis().id, folder.device.as_str());
        let config = UpstreamFile::default().validate("upstream").unwrap();
        let identity = Identity { chain: &folder.chain_der(), key: &key };
        let upstream = Upstream::open(&config, &folder.network.broker, folder.anchor.root().der(), &identity).unwrap();
        let runtime = Runtime::new().unwrap();
        let answers = AnswerVerifier::new(ledger, device, folder.anchor.clone());
        let (link, mut events) = {
            let _inside = runtime.enter();
            Link::open(&upstream, device, &[], Some(answers), &Tasks::default()).unwrap()
        };
        runtime.block_on(async { while !matches!(events.recv().await.unwrap(), LinkEvent::Up) {} });
        runtime.spawn(async move { while events.recv().await.is_some() {} });
        let relay = RemoteLedger::new(link.clone(), ledger);
        let number = ledger.number_of(&folder.device);
        let nonce = runtime.block_on(relay.nonce_of(number)).unwrap();
        let certificate = Hash::of(folder.chain[0].der());
        Self { runtime, link, relay, ledger, key, certificate, number, nonce }
    }

    /// `body` as this device's next entry.
    pub fn sign(&self, body: Body) -> SignedEntry {
        body.sign(&self.key, self.number, self.nonce, &self.ledger).unwrap()
    }

    /// Has the relay submit the device's next entry.
    pub fn submit(&mut self, entry: &SignedEntry) -> Result<(), SubmitError> {
        let outcome = self.runtime.block_on(self.relay.submit(entry)).map(drop);
        self.nonce = match outcome {
            Ok(()) => self.nonce + 1,
            // It may be on the ledger although the call failed.
            Err(_) => self.runtime.block_on(self.relay.nonce_of(self.number)).unwrap(),
        };
        outcome
    }

    /// The hash of a key package that does not exist.
    pub fn junk_keys(&self, junk: u32) -> Body {
        let key_package = Hash::of(&junk.to_be_bytes());
        Body::KeysPublished(KeysPublished { key_package, certificate: self.certificate, rejoin: false })
    }

    /// Publishes a retained message. What the broker says to it.
    pub fn publish(&self, topic: &str, payload: &[u8]) -> Result<(), String> {
        self.runtime.block_on(self.link.publish_told(topic, true, payload.to_vec()).unwrap()).unwrap()
    }
}
