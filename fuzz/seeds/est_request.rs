//! A CA that is forgotten as soon as it has made the fixtures, and seeds made of them.

use std::{fs, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealcast_identity::{
    Certificate, EnrolmentToken, Network, Root, SigningKey, certificates_to_pem, csr, est, key_to_pem,
};
use sealcast_topic::Wire;

use crate::{body::NOW_MS, write::fuzz_path};

type Failure = Box<dyn std::error::Error>;

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// Writes the certificates and the descriptor. All is made anew, so the corpus has to be made anew after it.
pub fn write_fixtures() -> Result<(), Failure> {
    let root = Root::create("fuzz", NOW_MS, 10 * YEAR)?;
    let authority = root.create_authority("fuzz", NOW_MS, 10 * YEAR)?;
    let (device, operator) = (SigningKey::generate()?, SigningKey::generate()?);
    let device = authority.issue_device(&"1111".parse()?, device.public(), NOW_MS, 10 * YEAR)?;
    let operator = authority.issue_operator(operator.public(), NOW_MS, 10 * YEAR)?;
    let network = Network {
        chain_id: 5318,
        ledger: [7; 20],
        first_ca: *authority.key().public(),
        first_operator: *operator.certificate.public_key(),
        issuing: authority.certificate().clone(),
        operator: operator.certificate.clone(),
        broker: "mqtts://hub.example:8883".to_owned(),
        wire: Wire::new("plant-7/sealcast")?,
        hub: "https://hub.example:8443".to_owned(),
        written_ms: NOW_MS,
    };
    fs::write(fuzz_path("fixtures/root.der"), root.certificate().der())?;
    fs::write(fuzz_path("fixtures/issuing.der"), authority.certificate().der())?;
    fs::write(fuzz_path("fixtures/device.der"), device.certificate.der())?;
    fs::write(fuzz_path("fixtures/operator.der"), operator.certificate.der())?;
    fs::write(fuzz_path("fixtures/network.json"), network.to_json(&authority)?)?;
    Ok(())
}

pub fn seeds() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut seeds = Vec::new();
    let mut seed = |which: u8, name: &str, bytes: &[u8]| {
        seeds.push((format!("seed-{which}-{name}"), [&[which], bytes].concat()));
    };
    let read = |name: &str| fs::read(fuzz_path("fixtures").join(name));

    let key = SigningKey::generate()?;
    let request = csr(&key, &"1111".parse()?)?;
    let lines = est::simple_enroll_body(&request);
    let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{lines}-----END CERTIFICATE REQUEST-----\n");
    seed(0, "base64", lines.as_bytes());
    seed(0, "pem", pem.as_bytes());
    seed(0, "pem-new", pem.replace("CERTIFICATE REQ", "NEW CERTIFICATE REQ").as_bytes());
    seed(0, "der", &request);
    seed(1, "typed", format!("Application/PKCS10; charset=utf-8\n{lines}").as_bytes());
    seed(1, "other-type", format!("text/plain\n{lines}").as_bytes());
    seed(2, "request", &request);
    // What real clients ask for; made by openssl with `-addext` and the like.
    for (place, request) in OPENSSL.iter().enumerate() {
        seed(2, &format!("openssl-{place}"), &STANDARD.decode(request.replace('\n', ""))?);
    }

    let mut certificates = Vec::new();
    for name in ["root", "issuing", "device", "operator"] {
        let der = read(&format!("{name}.der"))?;
        seed(4, name, &der);
        for which in [0, 1, 2, 6, 9, 16] {
            seed(9, &format!("{name}-{which}"), &[&[which], der.as_slice()].concat());
        }
        certificates.push(Certificate::from_der(&der)?);
    }
    seed(3, "all", est::certs_only_body(&certificates)?.as_bytes());
    seed(3, "cacerts", &est::certs_only(&certificates[..2])?);
    seed(3, "issued", &est::certs_only(&certificates[1..3])?);

    let root = certificates.first().ok_or("a root")?;
    let token = EnrolmentToken::generate("1111".parse()?, root)?;
    seed(5, "secret", token.authorization().as_bytes());
    let whole = STANDARD.encode(format!("1111:{}", *token.to_text()));
    seed(5, "whole", format!("basic {whole}").as_bytes());
    seed(6, "token", token.to_text().as_bytes());
    seed(7, "network", &read("network.json")?);
    seed(8, "chain", certificates_to_pem(&certificates).as_bytes());
    seed(8, "key", key_to_pem(&key, None)?.as_bytes());
    Ok(seeds)
}

const OPENSSL: &[&str] = &include!("est_openssl.in");
