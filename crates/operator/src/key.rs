//! `sealcast key`: another key for the operator, or for the hub's CA.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use clap::Subcommand;
use sealcast_agent::enroll;
use sealcast_hub::{Folders, HubFile, rotate_ca};
use sealcast_identity::{MAX_PEM_BYTES, SigningKey, certificates_to_pem};
use sealcast_ledger::{Body, KeyRotated};
use sealcast_node::{
    KeyFiles, PassphraseArgs,
    config::{self, folder_of},
    files::{self, Mode},
    output, read_secret,
};
use serde::Serialize;

use crate::{
    hub_args::HubArgs,
    operator::{Operator, OperatorArgs, network},
};

/// The new key until it is in force.
const NEXT: &str = "next-operator.key";

/// `sealcast key`.
#[derive(Subcommand)]
pub enum Command {
    /// Replace a key by a new one. The ledger takes entries of the old one no more; groups and grants stay.
    #[command(subcommand)]
    Rotate(Rotate),
}

/// Whose key.
#[derive(Subcommand)]
pub enum Rotate {
    /// The operator's, while the hub runs. The old key and the new one sign.
    Operator {
        /// Which operator.
        #[command(flatten)]
        operator: OperatorArgs,
        /// The `pkcs11:` URI of the new key: it is in a token, which makes it if it is not there.
        #[arg(long, value_name = "URI")]
        key: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// The hub's issuing CA's, while the hub does not run. The root CA signs. Certificates of the old CA stay valid.
    Ca {
        /// Which hub.
        #[command(flatten)]
        hub: HubArgs,
        /// The root CA's folder [default: HUB-root].
        #[arg(long, env = "SEALCAST_ROOT", value_name = "DIR")]
        root: Option<PathBuf>,
        /// The hub's configuration file, which says which chain the ledger is on [default: HUB/hub.toml, if it exists].
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// How the hub's keys are read and written.
        #[command(flatten)]
        passphrase: PassphraseArgs,
        /// File with the passphrase of the root CA's key [default: the hub's].
        #[arg(long, value_name = "FILE")]
        root_passphrase_file: Option<PathBuf>,
        /// The `pkcs11:` URI of the new key: it is in a token, which makes it if it is not there.
        #[arg(long, value_name = "URI")]
        key: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// The new key as programs see it.
#[derive(Serialize)]
struct Rotated<'a> {
    public_key_sha256: &'a str,
    /// The folder that has it.
    dir: String,
}

/// Runs the command.
pub async fn run(command: Command) -> Result<()> {
    match command {
        Command::Rotate(Rotate::Operator { operator, key, json }) => {
            let fingerprint = rotate_operator(&operator, key.as_deref()).await?;
            let words = format!(
                "the operator has a new key, SHA-256 {fingerprint}: it is in {}, and the ledger refuses the old one",
                operator.dir.display()
            );
            output::outcome(
                json,
                &Rotated { public_key_sha256: &fingerprint, dir: operator.dir.display().to_string() },
                &words,
            )
        }
        Command::Rotate(Rotate::Ca { hub, root, config, passphrase, root_passphrase_file, key, json }) => {
            let path = config.clone().unwrap_or_else(|| hub.hub.join("hub.toml"));
            let config = config::load::<HubFile>(config.as_deref(), &path)?.check(&[], |file| {
                file.with_paths(folder_of(&path)).with_passphrase(passphrase.passphrase_file).validate()
            })?;
            let folders = Folders::new(&hub.hub, None, root)?;
            let fingerprint =
                rotate_ca(&folders.hub, &folders.root, root_passphrase_file.as_deref(), key.as_deref(), &config)
                    .await?;
            let words = format!(
                "the hub has a new issuing CA, SHA-256 {fingerprint}, and the ledger refuses the old one: start the hub, and put \
                 the root CA's folder away again"
            );
            output::outcome(
                json,
                &Rotated { public_key_sha256: &fingerprint, dir: folders.hub.display().to_string() },
                &words,
            )
        }
    }
}

/// Gives the operator a new key. Returns its SHA-256. What was interrupted is finished.
async fn rotate_operator(operator: &OperatorArgs, key_uri: Option<&str>) -> Result<String> {
    let (dir, key_files) = (&operator.dir, operator.passphrase.key_files()?);
    let path = |name: &str| dir.join(name);
    let (known, anchor) = network(dir)?;
    let key = next(dir, &key_files, key_uri)?;
    let mut told = enroll::network(&known.hub, &anchor).await?;
    if told.0.operator.public_key() != key.public() {
        let mut operator = Operator::connect(dir, &key_files).await?;
        let id = operator.replica.genesis().id;
        let submitted = operator.submit(Body::KeyRotated(KeyRotated::to(&key, id.operator(), &id)?)).await;
        // Over HTTPS the hub answers the former key no more. Which key it certifies says whether the ledger has the new one.
        told = enroll::network(&known.hub, &anchor).await?;
        if told.0.operator.public_key() != key.public() {
            submitted?;
        }
    }
    let (network, json) = told;
    ensure!(
        network.operator.public_key() == key.public(),
        "the ledger has the new key, but the hub has not certified it: run this command again"
    );
    let chain = certificates_to_pem([&network.operator, &network.issuing]);
    files::write(&path("operator.key"), &read_secret(&path(NEXT), MAX_PEM_BYTES)?, Mode::Secret)?;
    files::write(&path("operator.pem"), chain.as_bytes(), Mode::Public)?;
    files::write(&path("network.json"), &json, Mode::Public)?;
    fs::remove_file(path(NEXT)).with_context(|| format!("cannot remove {}", path(NEXT).display()))?;
    Ok(hex::encode(key.public().fingerprint()))
}

/// The new key: one that an interrupted rotation has left, or one that is made now.
fn next(dir: &Path, key_files: &KeyFiles, key_uri: Option<&str>) -> Result<SigningKey> {
    let path = dir.join(NEXT);
    if path.exists() {
        return key_files.read(&path);
    }
    KeyFiles::check_other(&dir.join("operator.key"), key_uri)?;
    key_files.make(&path, key_uri)
}
