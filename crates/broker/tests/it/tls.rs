//! Mutual TLS with rcgen's certificates: root -> issuing CA -> device, as in the field.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::{ClientConnection, StreamOwned};
use sealcast_broker::{Broker, BrokerConfig, Cause, Limits, ListenerConfig, Running, TlsIdentity};

use crate::client::{Client, Connect};
use crate::{PATIENCE, TestPolicy, any_port};

struct Pki {
    root_pem: String,
    issuing_pem: String,
    issuing: Issuer<'static, KeyPair>,
}

struct Identity {
    chain_pem: String,
    key_pem: String,
}

impl Pki {
    fn new() -> Self {
        let ca = |name: &str| {
            let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            (params, KeyPair::generate().unwrap())
        };
        let (root_params, root_key) = ca("root");
        let root = root_params.self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(root_params, root_key);
        let (params, key) = ca("issuing");
        let issuing = params.signed_by(&key, &root_issuer).unwrap();
        Self { root_pem: root.pem(), issuing_pem: issuing.pem(), issuing: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> Identity {
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuing).unwrap();
        Identity { chain_pem: certificate.pem() + &self.issuing_pem, key_pem: key.serialize_pem() }
    }

    async fn broker(&self) -> (Running, SocketAddr) {
        let server = self.issue("hub", ExtendedKeyUsagePurpose::ServerAuth);
        let identity =
            TlsIdentity::from_pem(server.chain_pem.as_bytes(), server.key_pem.as_bytes(), self.root_pem.as_bytes())
                .unwrap();
        let config = BrokerConfig {
            listeners: vec![
                ListenerConfig::Tls { addr: any_port(), identity },
                ListenerConfig::Tcp { addr: any_port() },
            ],
            data_dir: None,
            limits: Limits::default(),
        };
        let broker = Broker::start(config, Arc::new(TestPolicy), None).await.unwrap();
        let addr = broker.addrs()[0];
        (broker, addr)
    }
}

fn client_config(pki: &Pki, identity: Option<&Identity>) -> rustls::ClientConfig {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki.root_pem.as_bytes()).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain =
                CertificateDer::pem_slice_iter(identity.chain_pem.as_bytes()).collect::<Result<_, _>>().unwrap();
            builder
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap())
                .unwrap()
        }
    }
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A client (MQTT 3.1.1) over mutual TLS and its return code, or the error.
fn connect(pki: &Pki, identity: Option<&Identity>, addr: SocketAddr) -> io::Result<(Client<Tls>, u8)> {
    let name = "localhost".try_into().unwrap();
    let tls = ClientConnection::new(Arc::new(client_config(pki, identity)), name).unwrap();
    let socket = TcpStream::connect(addr)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let options = Connect { id: "client", clean: true, ..Connect::default() };
    let (client, _, code) = Client::over(StreamOwned::new(tls, socket), false).greet(&options)?;
    Ok((client, code))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_names_the_device() {
    let pki = Pki::new();
    let (broker, addr) = pki.broker().await;
    let mut heard = broker.handle().subscribe("keys/#", 8).await.unwrap();
    let device = pki.issue("1111", ExtendedKeyUsagePurpose::ClientAuth);
    tokio::task::block_in_place(|| {
        let (mut client, code) = connect(&pki, Some(&device), addr).unwrap();
        assert_eq!(code, 0);
        client.publish_acked("keys/1111", b"mine", 0, 1);
        // Another device's topic: MQTT 3.1.1 cannot refuse the message, so the connection ends.
        client.publish("keys/1112", b"not mine", 2, 2).unwrap();
        assert_eq!(client.closed(), None);
    });
    let received = heard.recv().await.unwrap();
    assert_eq!((&received.payload[..], received.sender), (&b"mine"[..], Some("1111".into())));
    assert!(heard.try_recv().is_err());
    assert!(broker.shutdown(PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_get_in() {
    let pki = Pki::new();
    let (broker, addr) = pki.broker().await;
    tokio::task::block_in_place(|| {
        assert!(connect(&pki, None, addr).is_err(), "without a certificate");
        let other = Pki::new().issue("1111", ExtendedKeyUsagePurpose::ClientAuth);
        assert!(connect(&pki, Some(&other), addr).is_err(), "of another root");
        let server = pki.issue("1111", ExtendedKeyUsagePurpose::ServerAuth);
        assert!(connect(&pki, Some(&server), addr).is_err(), "not a client certificate");
        let revoked = pki.issue("revoked", ExtendedKeyUsagePurpose::ClientAuth);
        let (_, code) = connect(&pki, Some(&revoked), addr).unwrap();
        assert_eq!(code, 5, "not authorized");
    });
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let causes = broker.handle().stats().await.unwrap().causes;
        if (causes.of(Cause::Handshake), causes.of(Cause::NotAuthorized)) == (3, 1) {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{causes:?}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// A session that is resumed does not show its client's certificate again, which may have ended meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn every_connection_shows_its_certificate() {
    let pki = Pki::new();
    let (_broker, addr) = pki.broker().await;
    let device = pki.issue("1111", ExtendedKeyUsagePurpose::ClientAuth);
    let config = Arc::new(client_config(&pki, Some(&device)));
    tokio::task::block_in_place(|| {
        for _ in 0..2 {
            let tls = ClientConnection::new(config.clone(), "localhost".try_into().unwrap()).unwrap();
            let socket = TcpStream::connect(addr).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut stream = StreamOwned::new(tls, socket);
            stream.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01c").unwrap();
            let mut connack = [0; 4];
            stream.read_exact(&mut connack).unwrap();
            assert_eq!(connack, [0x20, 2, 0, 0]);
            assert_eq!(stream.conn.handshake_kind(), Some(rustls::HandshakeKind::Full));
        }
    });
}

/// Both mosquitto clients, both versions, all QoS, over mutual TLS.
#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_clients_work() {
    if Command::new("mosquitto_sub").arg("--help").output().is_err() {
        eprintln!("mosquitto_sub is not installed: skipped");
        return;
    }
    let pki = Pki::new();
    let (broker, addr) = pki.broker().await;
    let device = pki.issue("1111", ExtendedKeyUsagePurpose::ClientAuth);
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("ca"), &pki.root_pem).unwrap();
    std::fs::write(path("crt"), &device.chain_pem).unwrap();
    std::fs::write(path("key"), &device.key_pem).unwrap();
    for version in ["mqttv311", "mqttv5"] {
        for qos in ["0", "1", "2"] {
            let common = |program: &str| {
                let mut command = tokio::process::Command::new(program);
                command
                    .args(["-h", "localhost", "-p", &addr.port().to_string(), "--cafile", &path("ca")])
                    .args(["--cert", &path("crt"), "--key", &path("key"), "-V", version, "-q", qos])
                    .kill_on_drop(true);
                command
            };
            let message = format!("{version} {qos}");
            let publish = common("mosquitto_pub").args(["-t", "m/x", "-r", "-m", &message]).output();
            let publish = tokio::time::timeout(PATIENCE, publish).await.unwrap().unwrap();
            assert!(publish.status.success(), "{message}: {publish:?}");
            // With QoS 0 the publisher does not wait until the broker has it.
            let mut arrived = false;
            for _ in 0..100 {
                let subscribe = common("mosquitto_sub").args(["-t", "m/#", "-C", "1", "-W", "120"]).output();
                let output = tokio::time::timeout(PATIENCE, subscribe).await.unwrap().unwrap();
                arrived = String::from_utf8_lossy(&output.stdout).trim() == message;
                if arrived {
                    break;
                }
            }
            assert!(arrived, "{message}");
        }
    }
    assert!(broker.shutdown(PATIENCE).await);
}
