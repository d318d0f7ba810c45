//! The network descriptor: what a device has to know after enrolment, signed by the issuing CA so that neither the hub's
//! web server nor whoever carries the file can point a device at another ledger.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealcast_topic::{PrefixError, Wire};
use serde::{Deserialize, Serialize};

use crate::{
    Authority, Certificate, CertificateError, KeyError, PublicKey, Signature, TrustAnchor, TrustError, VerifiedClient,
};

/// Where a hub serves its descriptor, below its URL.
pub const NETWORK_PATH: &str = "/sealcast/network";

/// Where a hub takes JSON-RPC calls of devices, below its URL.
pub const RPC_PATH: &str = "/sealcast/rpc";

/// Longest descriptor that is read, in bytes of JSON.
pub const MAX_DESCRIPTOR_BYTES: usize = 64 * 1024;

/// Longest broker address or hub URL, in bytes.
pub const MAX_ADDRESS_BYTES: usize = 512;

const FORMAT: &str = "sealcast-network-v4";

/// Why a network descriptor cannot be written or is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Not JSON of this format.
    #[error("not a network descriptor ({FORMAT}, JSON)")]
    Json(#[from] serde_json::Error),
    /// Longer than [`MAX_DESCRIPTOR_BYTES`].
    #[error("a network descriptor has at most {MAX_DESCRIPTOR_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// A later or foreign format.
    #[error("the network descriptor's format is {0:?}, this program reads {FORMAT}: is the program out of date?")]
    Format(String),
    /// A field whose text is not what it should be.
    #[error("the network descriptor's field {field} must be {expected}")]
    Field {
        /// Its name in the JSON.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// What Sealcast's own topics are to begin with.
    #[error("the network descriptor's prefix")]
    Prefix(#[from] PrefixError),
    /// A certificate in it cannot be read.
    #[error("the network descriptor's {field} certificate")]
    Certificate {
        /// Its name in the JSON.
        field: &'static str,
        /// What is wrong.
        source: CertificateError,
    },
    /// The issuing CA or the operator does not lead to the root.
    #[error("the network descriptor's {field} certificate is not accepted")]
    Trust {
        /// Its name in the JSON.
        field: &'static str,
        /// Why.
        source: TrustError,
    },
    /// The operator's certificate is somebody else's.
    #[error("the network descriptor's operator certificate is for {0:?}, not for the operator")]
    NotOperator(String),
    /// Not signed by the issuing CA in it.
    #[error("the network descriptor is not signed by its issuing CA: it was changed after it was written")]
    Signature,
    /// The crypto library failed.
    #[error("could not sign the network descriptor")]
    Key(#[from] KeyError),
}

/// What a device has to know of its network once it is enrolled. The ledger's genesis follows from it and from the root
/// that it is verified by: chain, address, and the first keys of the CA and of the operator. The ledger says what keys they
/// have had since.
///
/// Written by [`to_json`](Self::to_json) with the signature of the issuing CA, read by [`verify`](Self::verify), which is
/// the only way in: a descriptor that somebody else wrote never becomes a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The EVM chain's id.
    pub chain_id: u64,
    /// The address of the ledger's contract.
    pub ledger: [u8; 20],
    /// The key of the issuing CA that the ledger began with.
    pub first_ca: PublicKey,
    /// The operator's key that the ledger began with.
    pub first_operator: PublicKey,
    /// The certificate of the issuing CA.
    pub issuing: Certificate,
    /// The operator's certificate.
    pub operator: Certificate,
    /// The broker, `mqtts://host:port`, or `mqtt://host:port` without TLS, or the same in a WebSocket, `wss://host:port/path`
    /// or `ws://host:port/path`; IPv6 addresses in brackets. The hub's own, or somebody else's.
    pub broker: String,
    /// How Sealcast's own topics are written at the broker: all nodes have to write them alike.
    pub wire: Wire,
    /// The hub, `https://host[:port]`, without a path.
    pub hub: String,
    /// When it was written (Unix ms): of two, the later holds.
    pub written_ms: u64,
}

/// The JSON form. Unknown fields are refused, since the signature would not cover them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    chain_id: u64,
    ledger: String,
    broker: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    hub: String,
    written_ms: u64,
    first_ca: String,
    first_operator: String,
    issuing: String,
    operator: String,
    signature: String,
}

impl Network {
    /// The bytes that are signed: `"sealcast-network-v4" || chain_id u64be || ledger 20 || written_ms u64be`, the first keys
    /// of the CA and of the operator (`x || y`, 64 bytes each), then broker, prefix (empty at the hub's own broker), hub, issuing
    /// and operator certificate (DER), each with its length as u32be before it.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut out = FORMAT.as_bytes().to_vec();
        out.extend(self.chain_id.to_be_bytes());
        out.extend(self.ledger);
        out.extend(self.written_ms.to_be_bytes());
        out.extend(self.first_ca.xy());
        out.extend(self.first_operator.xy());
        let prefix = self.wire.prefix().unwrap_or_default();
        let texts = [&*self.broker, prefix, &*self.hub].map(str::as_bytes);
        for part in texts.into_iter().chain([self.issuing.der(), self.operator.der()]) {
            // Bounded far below 4 GiB wherever a value is read or written.
            out.extend((part.len() as u32).to_be_bytes());
            out.extend(part);
        }
        out
    }

    /// The descriptor as JSON, signed by `authority`, whose certificate must be [`issuing`](Self::issuing).
    pub fn to_json(&self, authority: &Authority) -> Result<String, NetworkError> {
        check_addresses(&self.broker, &self.hub)?;
        if authority.certificate() != &self.issuing {
            return Err(NetworkError::Field { field: "issuing", expected: "the certificate of the CA that signs" });
        }
        let document = Document {
            format: FORMAT.to_owned(),
            chain_id: self.chain_id,
            ledger: format!("0x{}", hex::encode(self.ledger)),
            broker: self.broker.clone(),
            prefix: self.wire.prefix().map(str::to_owned),
            hub: self.hub.clone(),
            written_ms: self.written_ms,
            first_ca: STANDARD.encode(self.first_ca.xy()),
            first_operator: STANDARD.encode(self.first_operator.xy()),
            issuing: STANDARD.encode(self.issuing.der()),
            operator: STANDARD.encode(self.operator.der()),
            signature: STANDARD.encode(authority.key().sign(&self.signed_bytes())?),
        };
        Ok(serde_json::to_string_pretty(&document)?)
    }

    /// Reads a descriptor and verifies it at `now_ms` (Unix ms): the issuing CA's certificate is the root's, the operator's
    /// is the issuing CA's, and the signature is the issuing CA's.
    pub fn verify(json: &[u8], anchor: &TrustAnchor, now_ms: u64) -> Result<Self, NetworkError> {
        if json.len() > MAX_DESCRIPTOR_BYTES {
            return Err(NetworkError::TooLong(json.len()));
        }
        let document: Document = serde_json::from_slice(json)?;
        if document.format != FORMAT {
            return Err(NetworkError::Format(document.format.chars().take(64).collect()));
        }
        check_addresses(&document.broker, &document.hub)?;
        let network = Self {
            chain_id: document.chain_id,
            ledger: ledger_address(&document.ledger)?,
            first_ca: public_key("first_ca", &document.first_ca)?,
            first_operator: public_key("first_operator", &document.first_operator)?,
            issuing: certificate("issuing", &document.issuing)?,
            operator: certificate("operator", &document.operator)?,
            broker: document.broker,
            wire: document.prefix.as_deref().map(Wire::new).transpose()?.unwrap_or_default(),
            hub: document.hub,
            written_ms: document.written_ms,
        };
        anchor
            .verify_authority(&network.issuing, now_ms)
            .map_err(|source| NetworkError::Trust { field: "issuing", source })?;
        let signature: Option<Signature> =
            STANDARD.decode(&document.signature).ok().and_then(|bytes| bytes.try_into().ok());
        let signature =
            signature.ok_or(NetworkError::Field { field: "signature", expected: "64 bytes (r || s) in base64" })?;
        if !network.issuing.public_key().verifies(&network.signed_bytes(), &signature) {
            return Err(NetworkError::Signature);
        }
        let chain = [network.operator.der(), network.issuing.der()];
        match anchor.verify_client(&chain, now_ms) {
            Ok(VerifiedClient::Operator(_)) => Ok(network),
            Ok(_) => Err(NetworkError::NotOperator(network.operator.common_name().to_owned())),
            Err(source) => Err(NetworkError::Trust { field: "operator", source }),
        }
    }
}

fn certificate(field: &'static str, text: &str) -> Result<Certificate, NetworkError> {
    let der =
        STANDARD.decode(text).map_err(|_| NetworkError::Field { field, expected: "a certificate's DER in base64" })?;
    Certificate::from_der(&der).map_err(|source| NetworkError::Certificate { field, source })
}

fn public_key(field: &'static str, text: &str) -> Result<PublicKey, NetworkError> {
    let xy = STANDARD.decode(text).ok().and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
    let expected = NetworkError::Field { field, expected: "a P-256 public key, x || y, in base64" };
    xy.and_then(|xy| PublicKey::from_xy(xy).ok()).ok_or(expected)
}

fn ledger_address(text: &str) -> Result<[u8; 20], NetworkError> {
    let mut address = [0; 20];
    text.strip_prefix("0x")
        .and_then(|digits| hex::decode_to_slice(digits, &mut address).ok())
        .ok_or(NetworkError::Field { field: "ledger", expected: "an address: 0x and 40 hex digits" })?;
    Ok(address)
}

fn check_addresses(broker: &str, hub: &str) -> Result<(), NetworkError> {
    let broker_expected = NetworkError::Field {
        field: "broker",
        expected: "mqtts://host:port, mqtt://host:port, or ws(s)://host:port/path",
    };
    let hub_expected = NetworkError::Field { field: "hub", expected: "https://host[:port] without a path" };
    let address = match broker.split_once("://") {
        Some(("mqtts" | "mqtt", address)) => Some(address),
        Some(("wss" | "ws", rest)) => Some(rest.split_once('/').map_or(rest, |(address, _)| address)),
        _ => None,
    };
    match address.filter(|_| broker.len() <= MAX_ADDRESS_BYTES).and_then(|address| address.rsplit_once(':')) {
        Some((host, port)) if is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0) => (),
        _ => return Err(broker_expected),
    }
    let Some(authority) = hub.strip_prefix("https://") else { return Err(hub_expected) };
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => match port.parse::<u16>() {
            Ok(1..) => host,
            _ => return Err(hub_expected),
        },
        _ => authority,
    };
    if is_host(host) { Ok(()) } else { Err(hub_expected) }
}

fn is_host(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    host.len() <= MAX_ADDRESS_BYTES
        && match inner {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.contains(':') && rustls_pki_types::ServerName::try_from(host).is_ok(),
        }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        SigningKey,
        testing::{self, DAY, DAY_MS, NOW_MS},
    };

    fn network(of: &testing::Network) -> Network {
        let key = SigningKey::generate().unwrap();
        Network {
            chain_id: u64::MAX,
            ledger: [0xab; 20],
            first_ca: *SigningKey::generate().unwrap().public(),
            first_operator: *SigningKey::generate().unwrap().public(),
            issuing: of.authority.certificate().clone(),
            operator: of.authority.issue_operator(key.public(), NOW_MS, 30 * DAY).unwrap().certificate,
            broker: "mqtts://broker.example:8883".to_owned(),
            wire: Wire::new("plant-7/sealcast").unwrap(),
            hub: "https://hub.example:8443".to_owned(),
            written_ms: NOW_MS,
        }
    }

    #[test]
    fn survives_the_way_to_a_device() {
        let ca = testing::Network::new();
        let network = network(&ca);
        let json = network.to_json(&ca.authority).unwrap();
        let read = Network::verify(json.as_bytes(), &ca.anchor, NOW_MS).unwrap();
        assert_eq!(read, network);
        let at_hub = Network { wire: Wire::default(), ..network };
        let json = at_hub.to_json(&ca.authority).unwrap();
        assert!(!json.contains("prefix"), "{json}");
        assert_eq!(Network::verify(json.as_bytes(), &ca.anchor, NOW_MS).unwrap(), at_hub);
    }

    #[test]
    fn refuses_every_change() {
        let ca = testing::Network::new();
        let network = network(&ca);
        let json = network.to_json(&ca.authority).unwrap();
        let verify = |json: &str| Network::verify(json.as_bytes(), &ca.anchor, NOW_MS);
        let other_operator = self::network(&ca).operator;
        let base64 = |certificate: &Certificate| STANDARD.encode(certificate.der());
        for (from, to) in [
            ("18446744073709551615".to_owned(), "1".to_owned()),
            ("0xabab".to_owned(), "0xabac".to_owned()),
            ("broker.example".to_owned(), "broker.example.org".to_owned()),
            ("plant-7".to_owned(), "plant-8".to_owned()),
            ("  \"prefix\": \"plant-7/sealcast\",\n".to_owned(), String::new()),
            ("hub.example".to_owned(), "hub.example.org".to_owned()),
            (NOW_MS.to_string(), (NOW_MS + 1).to_string()),
            (base64(&network.operator), base64(&other_operator)),
            (STANDARD.encode(network.first_ca.xy()), STANDARD.encode(network.first_operator.xy())),
        ] {
            let changed = json.replace(&from, &to);
            assert_ne!(changed, json);
            assert!(matches!(verify(&changed), Err(NetworkError::Signature)), "{to}: {:?}", verify(&changed));
        }
        assert!(matches!(verify(&json.replace("plant-7/", "plant-7/+/")), Err(NetworkError::Prefix(_))));
        assert!(matches!(verify(&json.replace(FORMAT, "sealcast-network-v9")), Err(NetworkError::Format(_))));
        assert!(matches!(verify(&json.replacen('{', "{\"more\": 1,", 1)), Err(NetworkError::Json(_))));
        assert!(matches!(verify(&" ".repeat(MAX_DESCRIPTOR_BYTES + 1)), Err(NetworkError::TooLong(_))));

        let other = testing::Network::new();
        let foreign = Network::verify(json.as_bytes(), &other.anchor, NOW_MS);
        assert!(matches!(foreign, Err(NetworkError::Trust { field: "issuing", .. })), "{foreign:?}");
        let late = Network::verify(json.as_bytes(), &ca.anchor, NOW_MS + 31 * DAY_MS);
        assert!(matches!(late, Err(NetworkError::Trust { field: "operator", .. })), "{late:?}");
    }

    #[test]
    fn refuses_an_operator_who_is_none() {
        let ca = testing::Network::new();
        let json = |operator| Network { operator, ..network(&ca) }.to_json(&ca.authority).unwrap();
        let device = json(ca.device("1111").1.certificate);
        let read = Network::verify(device.as_bytes(), &ca.anchor, NOW_MS);
        assert!(matches!(read, Err(NetworkError::NotOperator(name)) if name == "1111"));
        let foreign = json(network(&testing::Network::new()).operator);
        let read = Network::verify(foreign.as_bytes(), &ca.anchor, NOW_MS);
        assert!(matches!(read, Err(NetworkError::Trust { field: "operator", .. })));
        let other = testing::Network::new();
        assert!(network(&ca).to_json(&other.authority).is_err());
    }

    #[test]
    fn addresses_are_checked_at_both_ends() {
        for (broker, hub) in
            [("localhost:1", "https://localhost"), ("127.0.0.1:65535", "https://[::1]"), ("[::1]:1", "https://[::1]:1")]
        {
            assert!(check_addresses(&format!("mqtts://{broker}"), hub).is_ok(), "{broker} {hub}");
            assert!(check_addresses(&format!("mqtt://{broker}"), hub).is_ok(), "{broker} {hub}");
            assert!(check_addresses(&format!("wss://{broker}/mqtt"), hub).is_ok(), "{broker} {hub}");
        }
        for broker in ["", "localhost", "localhost:0", "localhost:65536", "::1:1", "a b:1", "mqtts://x:1", ":1"] {
            assert!(check_addresses(&format!("mqtts://{broker}"), "https://x").is_err(), "{broker}");
            assert!(check_addresses(broker.trim_start_matches("mqtts://"), "https://x").is_err(), "{broker}");
        }
        for hub in ["", "x", "http://x", "https://", "https://x/path", "https://x:0", "https://u@x", "https://x:"] {
            assert!(check_addresses("mqtts://x:1", hub).is_err(), "{hub}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,200}", broker in ".{0,20}", hub in ".{0,20}") {
            let ca = testing::Network::new();
            let _ = Network::verify(text.as_bytes(), &ca.anchor, NOW_MS);
            let _ = check_addresses(&broker, &format!("https://{hub}"));
        }
    }
}
