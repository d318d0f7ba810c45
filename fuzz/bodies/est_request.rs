//! What an EST server and an enrolling device read: requests, answers, certificates, credentials, tokens, the network
//! descriptor. The certificates in `fuzz/fixtures` are of a CA whose keys are gone, so nothing new can be signed by it.

use std::sync::OnceLock;

use sealcast_identity::{
    BasicCredentials, Certificate, DeviceId, EnrolmentToken, MAX_CERTIFICATES, MAX_REQUEST_BYTES, Network, Request,
    TrustAnchor, certificates_from_pem, certificates_to_pem, est, key_from_pem, key_to_pem,
};

/// When the fixtures were made, Unix ms; they are valid for ten years from then.
pub const NOW_MS: u64 = 1_795_366_800_000;

const ROOT: &[u8] = include_bytes!("../fixtures/root.der");
const ISSUING: &[u8] = include_bytes!("../fixtures/issuing.der");
const DEVICE: &[u8] = include_bytes!("../fixtures/device.der");
const OPERATOR: &[u8] = include_bytes!("../fixtures/operator.der");
const NETWORK: &[u8] = include_bytes!("../fixtures/network.json");

struct World {
    anchor: TrustAnchor,
    root: Certificate,
    issuing: Certificate,
    device: Certificate,
    network: Network,
    name: DeviceId,
}

pub fn run(data: &[u8]) {
    match data {
        [0, body @ ..] => enroll(est::REQUEST_TYPE, body),
        [1, body @ ..] => {
            let end = body.iter().position(|byte| *byte == b'\n').unwrap_or(body.len());
            let (content_type, body) = body.split_at(end);
            enroll(&String::from_utf8_lossy(content_type), body.get(1..).unwrap_or_default());
        }
        [2, der @ ..] => request(der),
        [3, body @ ..] => answer(body),
        [4, der @ ..] => certificate(der),
        [5, header @ ..] => credentials(&String::from_utf8_lossy(header)),
        [6, text @ ..] => token(&String::from_utf8_lossy(text)),
        [7, json @ ..] => network(json),
        [8, text @ ..] => pem(&String::from_utf8_lossy(text)),
        [9, which, chain @ ..] => verify(*which, chain),
        _ => {}
    }
}

fn enroll(content_type: &str, body: &[u8]) {
    match est::parse_simple_enroll(content_type, body) {
        Ok(der) => {
            assert!((1..=MAX_REQUEST_BYTES).contains(&der.len()));
            request(&der);
            let again = est::simple_enroll_body(&der);
            assert_eq!(est::parse_simple_enroll(est::REQUEST_TYPE, again.as_bytes()).ok(), Some(der));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn request(der: &[u8]) {
    match Request::from_der(der) {
        Ok(request) => {
            let world = world();
            if request.check_for_device(&world.name).is_ok() {
                assert!(request.common_name().is_none_or(|name| name == world.name.as_str()));
            }
            if let Some(Ok(name)) = request.common_name().map(str::parse::<DeviceId>) {
                let _ = request.check_for_device(&name);
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn answer(body: &[u8]) {
    let world = world();
    match est::parse_certs_only(body) {
        Ok(certificates) => {
            assert!((1..=MAX_CERTIFICATES).contains(&certificates.len()));
            if let Ok(chain) = est::parse_issued(body, world.device.public_key()) {
                assert!(chain.first().is_some_and(|leaf| leaf.public_key() == world.device.public_key()));
                let chain: Vec<_> = chain.iter().map(Certificate::der).collect();
                verified(world, &chain);
            }
            // A set has one order, and holds nothing twice.
            if let Ok(again) = est::certs_only(&certificates) {
                let back = est::parse_certs_only(&again).expect("our own");
                assert!(back.iter().all(|certificate| certificates.contains(certificate)));
                assert!(certificates.iter().all(|certificate| back.contains(certificate)));
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn certificate(der: &[u8]) {
    match Certificate::from_der(der) {
        Ok(certificate) => {
            let world = world();
            assert_eq!(certificate.der(), der);
            assert!(!certificate.is_issued_by(&world.issuing) || [DEVICE, OPERATOR].iter().any(|own| same(own, der)));
            let _ =
                (certificate.device().is_ok(), certificate.is_valid_at(NOW_MS), certificate.is_issued_by(&certificate));
            assert!(!format!("{certificate:?}").is_empty());
            assert_eq!(certificates_from_pem(&certificate.to_pem()).ok(), Some(vec![certificate.clone()]));
            if let Ok(anchor) = TrustAnchor::new(certificate.clone()) {
                assert!(certificate.is_ca());
                let _ = anchor.verify_client(&[DEVICE, ISSUING], NOW_MS);
                let _ = anchor.verify_authority(&world.issuing, NOW_MS);
            }
            verified(world, &[der, ISSUING]);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Whether a certificate is the genuine one, but perhaps with its signature `(r, s)` written as `(r, n - s)`, which is
/// as good.
fn same(genuine: &[u8], der: &[u8]) -> bool {
    const SIGNATURE_BYTES: usize = 80;
    let signed = genuine.len().saturating_sub(SIGNATURE_BYTES);
    genuine.get(4..signed) == der.get(4..signed)
}

fn verified(world: &World, chain: &[&[u8]]) {
    match world.anchor.verify_device(chain, NOW_MS) {
        Ok(device) => {
            assert!(
                chain.first().is_some_and(|leaf| same(DEVICE, leaf)),
                "a device that the CA never issued: {device:?}"
            );
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn credentials(header: &str) {
    match BasicCredentials::from_header(header) {
        Ok(credentials) => {
            let debug = format!("{credentials:?}");
            assert!(debug.contains(credentials.user.as_str()));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn token(text: &str) {
    match text.parse::<EnrolmentToken>() {
        Ok(token) => {
            let written = token.to_text();
            assert_eq!(written.as_str(), text.trim(), "a token has one form");
            let again: EnrolmentToken = written.parse().expect("our own");
            assert_eq!((again.device(), again.secret(), again.root()), (token.device(), token.secret(), token.root()));
            let stored = token.to_stored(NOW_MS);
            let credentials = BasicCredentials::from_header(&token.authorization()).expect("our own");
            assert_eq!(stored.check(&credentials, NOW_MS - 1), Ok(()));
            assert!(stored.check(&credentials, NOW_MS).is_err());
            let _ = token.trust_anchor(&[world().root.clone()]).is_ok();
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn network(json: &[u8]) {
    let world = world();
    match Network::verify(json, &world.anchor, NOW_MS) {
        Ok(network) => {
            assert!(network == world.network, "a descriptor that the CA never signed: {network:?}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn pem(text: &str) {
    if let Ok(certificates) = certificates_from_pem(text) {
        assert!((1..=MAX_CERTIFICATES).contains(&certificates.len()));
        assert_eq!(certificates_from_pem(&certificates_to_pem(&certificates)).ok(), Some(certificates));
    }
    if let Ok(key) = key_from_pem(text, None) {
        let pem = key_to_pem(&key, None).expect("a key as PEM");
        let again = key_from_pem(&pem, None).expect("our own");
        assert_eq!(again.public(), key.public());
    }
    let _ = text.parse::<DeviceId>().is_ok();
}

/// A chain of genuine and other certificates: each bit of `which` says whether the next is genuine.
fn verify(which: u8, other: &[u8]) {
    let world = world();
    let leaf = if which & 1 == 0 { DEVICE } else { other };
    let second = if which & 2 == 0 { ISSUING } else { other };
    let mut chain = vec![leaf, second];
    if which & 4 != 0 {
        chain.push(other);
    }
    if which & 8 != 0 {
        chain.remove(1);
    }
    if which & 16 != 0 {
        chain[0] = OPERATOR;
    } else {
        verified(world, &chain);
    }
    let _ = world.anchor.verify_client(&chain, NOW_MS).is_ok();
    let _ = world.anchor.verify_client(&chain, u64::MAX).is_ok();
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let read = |der| Certificate::from_der(der).expect("a fixture");
        let anchor = TrustAnchor::from_der(ROOT).expect("a fixture");
        let network = Network::verify(NETWORK, &anchor, NOW_MS).expect("a fixture");
        let device = read(DEVICE);
        let name = device.device().expect("a device");
        World { anchor, root: read(ROOT), issuing: read(ISSUING), device, network, name }
    })
}
