//! `sealcast enroll`: this device's key is made here, and the hub's CA certifies it over EST.
//!
//! The token names the root certificate of the hub that made it, so the first connection already trusts that hub only.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use sealcast_identity::{
    Certificate, DeviceId, EnrolmentToken, NETWORK_PATH, Network, SigningKey, TrustAnchor, VerifiedDevice,
    certificates_to_pem, csr, est,
};
use sealcast_node::{
    KeyFiles, PassphraseArgs,
    files::{self, Mode, Source},
    https, now_ms, output, read_token, tls,
};
use zeroize::Zeroizing;

use crate::store::Store;

/// `sealcast enroll`.
#[derive(clap::Args)]
pub struct Options {
    /// The hub's URL, `https://HOST:PORT`.
    #[arg(long, env = "SEALCAST_HUB_URL", value_name = "URL")]
    hub: String,
    /// File with the one-time token that `sealcast device add` printed. `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// The device's folder. It is created if it does not exist.
    #[arg(long, env = "SEALCAST_DIR", value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// The `pkcs11:` URI of the device's key: it is in a token, which makes it if it is not there [default: a new key in DIR].
    #[arg(long, value_name = "URI")]
    key: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Enrols the device.
pub async fn run(options: Options) -> Result<()> {
    let token: EnrolmentToken = given_token(&options.token_file)?
        .trim()
        .parse()
        .with_context(|| format!("{} does not hold an enrolment token", options.token_file.display()))?;
    let key_files = options.passphrase.key_files()?;
    let device = enroll(&options.hub, &token, &options.dir, &key_files, options.key.as_deref()).await?;
    if options.json {
        return output::json(&device);
    }
    output::line(&format!(
        "{} is enrolled: certificate {}, valid until {}, in {}",
        device.device,
        device.serial,
        output::utc(device.not_after_s),
        options.dir.display()
    ))
}

/// What came of an enrolment.
#[derive(serde::Serialize)]
pub struct Enrolled {
    device: String,
    serial: String,
    not_after_s: u64,
    public_key_sha256: String,
}

/// Makes the device's key in `dir`, or the one that `key_uri` names, unless it has one there, and gets a certificate for it.
pub async fn enroll(
    hub: &str,
    token: &EnrolmentToken,
    dir: &Path,
    key_files: &KeyFiles,
    key_uri: Option<&str>,
) -> Result<Enrolled> {
    let https = https::Https::new(hub, tls::pinned_client(token.root().0))?;

    let authorities = est::parse_certs_only(&https.request(est::CA_CERTIFICATES_PATH, None).await?)?;
    let anchor = token.trust_anchor(&authorities)?;
    let network_json = https.request(NETWORK_PATH, None).await?;
    Network::verify(&network_json, &anchor, now_ms()).context("the hub's network descriptor")?;

    // Not before: a hub that is not there leaves no folder behind.
    files::create_dir(dir)?;
    // An agent that runs on the folder would go on with the certificate that the new one replaces.
    let _lock = files::lock(dir)?;
    check_owner(dir, token)?;
    let key = own_key(dir, key_files, key_uri)?;
    let request = https::Body {
        authorization: Some(token.authorization()),
        content_type: est::REQUEST_TYPE,
        bytes: est::simple_enroll_body(&csr(&key, token.device())?).into_bytes(),
    };
    let answer = https.request(est::ENROLL_PATH, Some(request)).await?;
    let (chain, verified) = certified(&answer, authorities, &key, token.device(), &anchor)?;

    files::write(&dir.join("root.pem"), anchor.root().to_pem().as_bytes(), Mode::Public)?;
    files::write(&dir.join("network.json"), &network_json, Mode::Public)?;
    // An agent whose folder lacks it has lost its state. A device that enrols again keeps what it has.
    Store::make(dir, key_files.passphrase())?;
    // Last: with it the folder is complete.
    files::write(&dir.join("device.pem"), certificates_to_pem(&chain).as_bytes(), Mode::Public)?;
    let certificate = &verified.certificate;
    Ok(Enrolled {
        device: verified.id.to_string(),
        serial: hex::encode(certificate.serial()),
        not_after_s: certificate.not_after_s(),
        public_key_sha256: hex::encode(certificate.public_key().fingerprint()),
    })
}

/// The hub's present network descriptor, verified, and its JSON.
pub async fn network(hub: &str, anchor: &TrustAnchor) -> Result<(Network, Vec<u8>)> {
    let https = https::Https::new(hub, tls::client(anchor.root().der(), None)?)?;
    let json = https.request(NETWORK_PATH, None).await?;
    let network = Network::verify(&json, anchor, now_ms()).context("the hub's network descriptor")?;
    Ok((network, json))
}

/// A folder is one device's at one hub: another device would take over its key and its state.
fn check_owner(dir: &Path, token: &EnrolmentToken) -> Result<()> {
    let (root, certificate, shown) = (dir.join("root.pem"), dir.join("device.pem"), dir.display());
    if root.exists() {
        ensure!(
            files::certificate(&root)?.fingerprint() == token.root(),
            "{shown} belongs to a device of another hub, by its root.pem: enrol at this one in a folder of its own"
        );
    }
    if certificate.exists() {
        let owner = files::certificate(&certificate)?;
        let (owner, device) = (owner.common_name(), token.device());
        ensure!(
            owner == device.as_str(),
            "{shown} belongs to the device {owner}, by its device.pem, and the token is for {device}: enrol {device} in \
             a folder of its own"
        );
    }
    Ok(())
}

/// The chain in the hub's answer, leaf first, if it is this device's for this key.
pub fn certified(
    answer: &[u8],
    authorities: Vec<Certificate>,
    key: &SigningKey,
    device: &DeviceId,
    anchor: &TrustAnchor,
) -> Result<(Vec<Certificate>, VerifiedDevice)> {
    let mut chain = est::parse_issued(answer, key.public()).context("the hub's answer")?;
    // RFC 7030 §4.2.3: the answer holds the certificate; its issuer comes with /cacerts.
    chain.extend(authorities.into_iter().filter(|authority| authority != anchor.root()));
    let verified = anchor.verify_device(&chain.iter().map(|c| c.der()).collect::<Vec<_>>(), now_ms())?;
    ensure!(&verified.id == device, "the hub certified {} instead of {device}", verified.id);
    Ok((chain, verified))
}

fn own_key(dir: &Path, key_files: &KeyFiles, uri: Option<&str>) -> Result<SigningKey> {
    let path = dir.join("device.key");
    if !path.exists() {
        return key_files.make(&path, uri);
    }
    ensure!(
        uri.is_none_or(|uri| KeyFiles::is_for(&path, uri)),
        "{} is there already, and is not the key that --key names: enrol in an empty folder to give the device another key",
        path.display()
    );
    key_files.read(&path)
}

fn given_token(path: &Path) -> Result<Zeroizing<String>> {
    if path != Path::new("-") {
        return read_token(path, Source::FileOrPipe);
    }
    let mut text = Zeroizing::new(String::new());
    std::io::stdin()
        .lock()
        .take(4_096)
        .read_to_string(&mut text)
        .context("cannot read the token from standard input")?;
    Ok(text)
}
