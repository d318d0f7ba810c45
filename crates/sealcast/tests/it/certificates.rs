//! Certificates that are renewed, and those that are revoked.

use std::{collections::BTreeSet, path::Path, process::Command};

use crate::harness::{Agent, Hub, Publisher, output, sealcast, succeed, until, until_joined};

/// Short, and long enough to enrol and join while the machine is busy.
const LIFETIME_S: u64 = 60;

fn short_lived() -> Hub {
    let mut hub = Hub::start();
    hub.configure(&format!("certificate_lifetime_s = {LIFETIME_S}"));
    hub
}

/// The serial number of the certificate in the agent's folder.
fn serial(dir: &Path) -> String {
    succeed(Command::new("openssl").args(["x509", "-noout", "-serial", "-in"]).arg(dir.join("device.pem")))
}

#[test]
fn certificates_are_renewed_while_clients_stay_and_messages_flow() {
    let hub = short_lived();
    let mut agents = ["1111", "1112"].map(|device| Agent::start(&hub.enroll(device), &[]));
    let first = agents.each_ref().map(|agent| serial(&agent.dir));
    hub.group("hsu0001", "hsu0001/#", &["1111", "1112"]);
    until_joined(&agents[0], &agents[1], "hsu0001/probe");
    // Without a session: what came while it was away would be lost to it.
    let mut reader = agents[1].subscribe("hsu0001/count", &["-q", "1"]);
    let publisher = Publisher::start(agents[0].port(), "hsu0001/count");
    for agent in &agents {
        until("it has renewed its certificate twice", || agent.log.count("certificate renewed") >= 2);
    }
    publisher.until_more(3);
    let acknowledged = publisher.finish();
    agents[0].publish("hsu0001/count", "end", &[]);
    let read: BTreeSet<u32> =
        reader.before("end").iter().filter_map(|line| line.rsplit_once(' ')?.1.parse().ok()).collect();
    let lost: Vec<_> = acknowledged.difference(&read).collect();
    assert!(lost.is_empty(), "{lost:?}");
    for agent in &agents {
        assert_eq!(agent.log.count("the control connection to the hub is lost"), 0);
        assert_eq!(agent.log.count("cannot be renewed"), 0);
    }
    assert!(agents.iter().zip(first).all(|(agent, first)| serial(&agent.dir) != first));
    // The certificate that it enrolled with has ended by now.
    agents[0].end();
    agents[0].restart();
    agents[0].publish("hsu0001/count", "again", &[]);
    reader.before("again");
}

#[test]
fn a_renewal_after_the_ca_has_a_new_key_brings_a_certificate_of_the_new_ca() {
    let mut hub = short_lived();
    let agents = ["1111", "1112"].map(|device| Agent::start(&hub.enroll(device), &[]));
    hub.group("hsu0001", "hsu0001/#", &["1111", "1112"]);
    until_joined(&agents[0], &agents[1], "hsu0001/probe");
    hub.kill();
    succeed(sealcast().args(["key", "rotate", "ca", "--hub"]).arg(hub.path()));
    hub.restart();
    let is_of_the_new_ca = |agent: &Agent| {
        let mut verify = Command::new("openssl");
        verify.args(["verify", "-partial_chain", "-trusted"]).arg(hub.path().join("issuing.pem"));
        output(verify.arg(agent.dir.join("device.pem"))).status.success()
    };
    assert!(!agents.iter().any(is_of_the_new_ca));
    until("both have renewed their certificates", || agents.iter().all(is_of_the_new_ca));
    until_joined(&agents[1], &agents[0], "hsu0001/again");
    assert_eq!(agents[0].log.count("cannot be renewed"), 0);
}

#[test]
fn a_device_whose_certificate_is_not_renewed_says_so_early_and_again() {
    let hub = short_lived();
    let agent = Agent::start(&hub.enroll("1111"), &[]);
    hub.operate(&["device", "revoke", "1111"]);
    let early = agent.log.until(&["cannot be renewed", "the device is revoked"]);
    assert!(early.contains("days_left=0") && early.contains("enrol again"), "{early}");
    agent.log.until(&["has ended and cannot be renewed"]);
    let warnings = agent.log.count("the device's certificate cannot be renewed");
    assert!((2..8).contains(&warnings), "{warnings} warnings before its end");
    assert_eq!(agent.log.count("certificate renewed"), 0);
}

#[test]
fn openssl_judges_by_the_list_of_revoked_certificates() {
    let hub = Hub::start();
    let devices = ["1111", "1112"].map(|device| hub.enroll(device));
    let path = |name: &str| hub.path().join(name).to_str().unwrap().to_owned();
    let is_good = |device: &Path| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail", "--cacert", &path("root.pem"), "-o", &path("crl.der")]);
        succeed(curl.args(["-w", "%{content_type}", &format!("https://{}/crl.der", hub.est)]));
        let mut convert = Command::new("openssl");
        succeed(convert.args(["crl", "-inform", "DER", "-in", &path("crl.der"), "-out", &path("crl.pem")]));
        let mut verify = Command::new("openssl");
        verify.args(["verify", "-crl_check", "-CAfile", &path("root.pem"), "-untrusted", &path("issuing.pem")]);
        let judged = output(verify.args(["-CRLfile", &path("crl.pem")]).arg(device.join("device.pem")));
        let said = String::from_utf8_lossy(&judged.stderr).into_owned();
        assert!(judged.status.success() || said.contains("certificate revoked"), "{said}");
        judged.status.success()
    };
    assert!(devices.iter().all(|device| is_good(device)));
    hub.operate(&["device", "revoke", "1111"]);
    until("the list has the revoked certificate", || !is_good(&devices[0]));
    assert!(is_good(&devices[1]));
}

#[test]
fn a_renewal_over_est_takes_the_present_certificate_in_tls() {
    let hub = Hub::start();
    let device = hub.enroll("1111");
    let path = |name: &str| device.join(name).to_str().unwrap().to_owned();
    let mut request = Command::new("openssl");
    request.args(["req", "-new", "-key", &path("device.key"), "-subj", "/CN=1111", "-out", &path("csr.pem")]);
    succeed(&mut request);
    let renew = |identity: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--cacert", &path("root.pem"), "-H", "Content-Type: application/pkcs10"]).args(identity);
        curl.args(["--data-binary", &format!("@{}", path("csr.pem")), "-w", " %{http_code}"]);
        succeed(curl.arg(format!("https://{}/.well-known/est/simplereenroll", hub.est)))
    };
    let own = ["--cert", &path("device.pem"), "--key", &path("device.key")];
    let said = renew(&[]);
    assert!(said.ends_with(" 403") && said.contains("show the device's certificate"), "{said}");
    let said = renew(&own);
    assert!(said.ends_with(" 429") && said.contains("can be renewed from"), "it is new: {said}");
    hub.operate(&["device", "revoke", "1111"]);
    until("the hub refuses the revoked certificate", || renew(&own).contains("the device is revoked"));
}
