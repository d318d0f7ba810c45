use super::*;
use crate::{
    csr,
    testing::{DAY, DAY_MS, NOW_MS, Network, P256_KEY, id, openssl, openssl_request},
};

#[test]
fn issues_what_the_design_names() {
    let network = Network::new();
    let key = SigningKey::generate().unwrap();
    let request = csr(&key, &id("1111")).unwrap();
    let issued = network.authority.decide_enrolment(&request, &id("1111"), NOW_MS, 30 * DAY).unwrap();
    let certificate = &issued.certificate;
    assert_eq!(certificate.device(), Ok(id("1111")));
    assert_eq!(certificate.public_key(), key.public());
    assert_eq!(certificate.not_before_s(), (NOW_MS - BACKDATE_MS) / 1000);
    assert_eq!(certificate.not_after_s(), (NOW_MS + 30 * DAY_MS) / 1000);
    assert_eq!(certificate.serial().len(), 16);
    assert!(certificate.is_for_clients() && !certificate.is_for_servers() && !certificate.is_ca());
    assert!(certificate.is_issued_by(network.authority.certificate()));
    assert!(!certificate.is_issued_by(network.root.certificate()));

    let again = network.authority.decide_enrolment(&request, &id("1111"), NOW_MS, 30 * DAY).unwrap();
    assert_ne!(again.certificate.serial(), certificate.serial());
    assert!(network.authority.certificate().is_ca());
    assert_ne!(network.authority.certificate().public_key(), network.root.certificate().public_key());
}

#[test]
fn openssl_reads_what_it_issues() {
    let network = Network::new();
    let (_, issued) = network.device("1111");
    let Some(text) = openssl(&["x509", "-noout", "-text"], issued.certificate.to_pem().as_bytes()) else { return };
    let text = String::from_utf8(text).unwrap();
    for part in [
        "CN = 1111",
        "TLS Web Client Authentication",
        "URI:urn:sealcast:device:1111",
        "CA:FALSE",
        "Subject Key Identifier",
        "Authority Key Identifier",
        "Digital Signature",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    let issuing = openssl(&["x509", "-noout", "-text"], issued.issuer.to_pem().as_bytes()).unwrap();
    assert!(String::from_utf8(issuing).unwrap().contains("CA:TRUE, pathlen:0"));
}

#[test]
fn a_certificate_ends_with_its_issuer() {
    let network = Network::new();
    let key = SigningKey::generate().unwrap();
    let later = NOW_MS + 360 * DAY_MS;
    let issued = network.authority.issue_operator(key.public(), later, 30 * DAY).unwrap();
    assert_eq!(issued.certificate.not_after_s(), network.authority.certificate().not_after_s());
    let too_late = network.authority.issue_operator(key.public(), NOW_MS + 366 * DAY_MS, 30 * DAY);
    assert!(matches!(too_late, Err(AuthorityError::NotValidNow { .. })), "{too_late:?}");
    for lifetime in [Duration::ZERO, Duration::from_millis(999), Duration::MAX, Duration::from_secs(1 << 40)] {
        let issued = network.authority.issue_operator(key.public(), NOW_MS, lifetime);
        assert!(matches!(issued, Err(AuthorityError::Lifetime)), "{issued:?}");
    }
    assert!(network.authority.issue_operator(key.public(), u64::MAX, DAY).is_err());
}

#[test]
fn survives_a_reload_and_notices_files_that_do_not_belong_together() {
    let network = Network::new();
    let (key, chain) = (network.authority.key(), network.authority.chain_pem());
    let again = Authority::new(key.clone(), &chain).unwrap();
    let device = SigningKey::generate().unwrap();
    let issued = again.issue_device(&id("1111"), device.public(), NOW_MS, DAY).unwrap();
    assert!(network.anchor.verify_device(&crate::testing::chain_der(&issued), NOW_MS).is_ok());
    let root = Root::new(network.root.key().clone(), &network.root.certificate().to_pem()).unwrap();
    assert!(root.create_authority("second", NOW_MS, DAY).unwrap().certificate().is_issued_by(root.certificate()));

    let other = Network::new();
    let mismatch = |key: &SigningKey, chain: &str| match Authority::new(key.clone(), chain) {
        Err(AuthorityError::Mismatch(_)) => (),
        other => panic!("{other:?}"),
    };
    mismatch(other.authority.key(), &chain);
    mismatch(key, &(again.certificate().to_pem() + &other.root.certificate().to_pem()));
    mismatch(key, &again.certificate().to_pem());
    mismatch(network.root.key(), &(again.root().to_pem() + &again.certificate().to_pem()));
    let key_pem = pem::key_to_pem(key, None).unwrap();
    assert!(matches!(Authority::new(key.clone(), &key_pem), Err(AuthorityError::CertificateFile(_))));
    assert!(Root::new(other.root.key().clone(), &root.certificate().to_pem()).is_err());
}

#[test]
fn refuses_names_that_cannot_stand_in_a_certificate() {
    for name in ["", "  ", "a\nb", "é", &"x".repeat(41)] {
        assert!(matches!(Root::create(name, NOW_MS, DAY), Err(AuthorityError::Name(_))), "{name:?}");
    }
    let network = Network::new();
    let key = SigningKey::generate().unwrap();
    for names in [vec![], vec![""], vec!["a b"], vec!["*"], vec!["http://x"], vec!["x"; 33]] {
        let issued = network.authority.issue_server(&names, key.public(), NOW_MS, DAY);
        assert!(matches!(issued, Err(AuthorityError::ServerNames(_))), "{names:?}: {issued:?}");
    }
}

#[test]
fn a_server_certificate_says_which_names_it_is_for() {
    let network = Network::new();
    let key = SigningKey::generate().unwrap();
    let issued =
        network.authority.issue_server(&["hub.example", "127.0.0.1", "::1"], key.public(), NOW_MS, DAY).unwrap();
    let read = Certificate::from_der(issued.certificate.der()).unwrap();
    assert!(read.is_for_names(&["::1", "hub.example", "127.0.0.1"]));
    assert!(read.is_for_names(&["0:0:0:0:0:0:0:1", "hub.example", "127.0.0.1"]));
    assert!(!read.is_for_names(&["hub.example", "127.0.0.1"]));
    assert!(!read.is_for_names(&["hub.example", "127.0.0.1", "::1", "more"]));
}

#[test]
fn nobody_below_the_issuing_ca_can_issue() {
    let network = Network::new();
    let victim = SigningKey::generate().unwrap();
    let refused = |chain: &[&Certificate]| {
        let chain: Vec<_> = chain.iter().map(|certificate| certificate.der()).collect();
        let answer = network.anchor.verify_device(&chain, NOW_MS);
        assert!(answer.is_err(), "{answer:?}");
    };
    let (device_key, device) = network.device("1111");
    let rogue = Authority { key: device_key, certificate: device.certificate.clone(), root: device.root.clone() };
    let forged = rogue.issue_device(&id("1112"), victim.public(), NOW_MS, DAY).unwrap();
    refused(&[&forged.certificate, &device.certificate, &device.issuer]);
    assert!(!forged.certificate.is_issued_by(&device.certificate));

    let key = network.authority.key.clone();
    let issuing = Root { key, certificate: network.authority.certificate.clone() };
    let below = issuing.create_authority("below", NOW_MS, DAY).unwrap();
    let forged = below.issue_device(&id("1112"), victim.public(), NOW_MS, DAY).unwrap();
    refused(&[&forged.certificate, &below.certificate, &issuing.certificate]);
}

#[test]
fn a_certificate_without_a_usage_is_not_for_clients() {
    let network = Network::new();
    let key = SigningKey::generate().unwrap();
    let mut params = end_params("1111", ExtendedKeyUsagePurpose::ClientAuth);
    params.extended_key_usages.clear();
    let issued = network.authority.issue(params, key.public(), NOW_MS, DAY).unwrap();
    let answer = network.anchor.verify_device(&crate::testing::chain_der(&issued), NOW_MS);
    assert!(matches!(answer, Err(crate::TrustError::NotForClients { .. })), "{answer:?}");
}

fn check(
    network: &Network,
    key_options: &[&str],
    options: &[&str],
    wanted: impl Fn(&Result<Issued, EnrolError>) -> bool,
) {
    let Some(request) = openssl_request(key_options, options) else { return };
    let answer = network.authority.decide_enrolment(&request, &id("1111"), NOW_MS, DAY);
    assert!(wanted(&answer), "{options:?}: {answer:?}");
}

#[test]
fn decides_on_requests_made_by_openssl() {
    let network = Network::new();
    let ok = |answer: &Result<Issued, EnrolError>| {
        answer.as_ref().is_ok_and(|issued| issued.certificate.device() == Ok(id("1111")))
    };
    check(&network, P256_KEY, &["-subj", "/CN=1111"], ok);
    check(&network, P256_KEY, &["-subj", "/"], ok);
    check(&network, P256_KEY, &["-subj", "/O=Works/CN=1111"], ok);
    for harmless in [
        "basicConstraints=critical,CA:FALSE",
        "keyUsage=digitalSignature,keyEncipherment",
        "extendedKeyUsage=clientAuth",
        "subjectAltName=URI:urn:sealcast:device:1111",
        "subjectKeyIdentifier=hash",
    ] {
        check(&network, P256_KEY, &["-subj", "/CN=1111", "-addext", harmless], ok);
    }

    type Answer = Result<Issued, EnrolError>;
    fn refused(wanted: fn(&RequestError) -> bool) -> impl Fn(&Answer) -> bool {
        move |answer| matches!(answer, Err(EnrolError::Request { source, .. }) if wanted(source))
    }
    check(&network, P256_KEY, &["-subj", "/CN=1112"], refused(|e| matches!(e, RequestError::OtherDevice { .. })));
    check(&network, P256_KEY, &["-subj", "/CN=1111/CN=1111"], refused(|e| *e == RequestError::CommonName));
    for authority in ["basicConstraints=CA:TRUE", "keyUsage=keyCertSign", "keyUsage=cRLSign"] {
        let options = ["-subj", "/CN=1111", "-addext", authority];
        check(&network, P256_KEY, &options, refused(|e| *e == RequestError::WantsAuthority));
    }
    let options = ["-subj", "/CN=1111", "-addext", "extendedKeyUsage=clientAuth,serverAuth"];
    check(&network, P256_KEY, &options, refused(|e| matches!(e, RequestError::WantsUsage(_))));
    for name in ["DNS:hub.example", "IP:127.0.0.1", "URI:urn:sealcast:device:1112", "email:a@example.org"] {
        let name = format!("subjectAltName={name}");
        let options = ["-subj", "/CN=1111", "-addext", &name];
        check(&network, P256_KEY, &options, refused(|e| matches!(e, RequestError::WantsName(_))));
    }
    let options = ["-subj", "/CN=1111", "-addext", "nameConstraints=permitted;DNS:example.org"];
    check(&network, P256_KEY, &options, refused(|e| matches!(e, RequestError::WantsExtension(_))));
    let options = ["-subj", "/CN=1111", "-sha384"];
    check(&network, P256_KEY, &options, refused(|e| matches!(e, RequestError::Algorithm(_))));
    let p384 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
    check(&network, &p384, &["-subj", "/CN=1111"], refused(|e| *e == RequestError::KeyKind));
    let rsa = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
    check(&network, &rsa, &["-subj", "/CN=1111"], refused(|e| *e == RequestError::KeyKind));
    check(&network, &["-algorithm", "ed25519"], &["-subj", "/CN=1111"], refused(|e| *e == RequestError::KeyKind));
}

#[test]
fn a_changed_request_proves_nothing() {
    let network = Network::new();
    let key = SigningKey::generate().unwrap();
    let request = csr(&key, &id("1111")).unwrap();
    let position = request.windows(4).position(|w| w == b"1111").unwrap();
    let mut changed = request.clone();
    changed[position] = b'2';
    let answer = network.authority.decide_enrolment(&changed, &id("2111"), NOW_MS, DAY);
    assert!(
        matches!(&answer, Err(e @ EnrolError::Request { source: RequestError::Possession, .. })
        if e.is_requesters_fault()),
        "{answer:?}"
    );

    let mut trailing = request;
    trailing.push(0);
    for bad in [trailing.as_slice(), b"", &[0x30; 40], &vec![0x30; 9000]] {
        let answer = network.authority.decide_enrolment(bad, &id("1111"), NOW_MS, DAY);
        assert!(matches!(answer, Err(EnrolError::Request { .. })), "{answer:?}");
    }
}
