//! `sealcast up`: a hub until the process is told to stop.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Result, bail};
use sealcast_node::{
    KeyFiles, PassphraseArgs, Supervisor,
    config::{folder_of, load},
    output, shutdown,
};
use serde::Serialize;

use crate::{apart::Folders, config::HubFile, hub::Hub, ledger};

/// `sealcast up`.
#[derive(clap::Args)]
pub struct Options {
    /// The hub's folder. The first start creates it.
    #[arg(long, env = "SEALCAST_HUB", value_name = "DIR", default_value = "hub")]
    dir: PathBuf,
    /// The operator's folder, apart from the hub's. The first start makes it [default: DIR-operator].
    #[arg(long, env = "SEALCAST_OPERATOR", value_name = "DIR")]
    operator: Option<PathBuf>,
    /// The root CA's folder, apart from the hub's. The first start makes it [default: DIR-root].
    #[arg(long, env = "SEALCAST_ROOT", value_name = "DIR")]
    root: Option<PathBuf>,
    /// Configuration file [default: DIR/hub.toml, if it exists].
    #[arg(long, env = "SEALCAST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where EST listens, HTTPS [default: 127.0.0.1:8443].
    #[arg(long, env = "SEALCAST_EST", value_name = "ADDRESS")]
    est: Option<SocketAddr>,
    /// Where the broker listens, MQTT over TLS [default: 127.0.0.1:8883].
    #[arg(long, env = "SEALCAST_MQTT", value_name = "ADDRESS")]
    mqtt: Option<SocketAddr>,
    /// Where the console is served: HTTP on a loopback address, HTTPS on any other; '' for no console [default:
    /// 127.0.0.1:8088, if it is free].
    #[arg(long, env = "SEALCAST_CONSOLE", value_name = "ADDRESS")]
    console: Option<String>,
    /// Somebody else's broker, mqtts://HOST:PORT or mqtt://HOST:PORT, that the hub and all agents are clients of [default: the
    /// hub runs a broker of its own].
    #[arg(long, env = "SEALCAST_BROKER", value_name = "URL", conflicts_with = "mqtt")]
    broker: Option<String>,
    /// What Sealcast's own topics begin with at somebody else's broker, where more than one hub may be [default: sealcast/v1].
    #[arg(long, env = "SEALCAST_BROKER_PREFIX", value_name = "PREFIX", conflicts_with = "mqtt")]
    broker_prefix: Option<String>,
    /// An endpoint of the EVM network that the ledger is on, http(s):// or ws(s)://. Can be repeated [default: the ledger is in
    /// the hub's folder].
    #[arg(long, env = "SEALCAST_RPC", value_name = "URL", value_delimiter = ',')]
    rpc: Vec<String>,
    /// When a block of that network counts as one that stays: latest, safe, finalized, or so many blocks on top of it [default:
    /// finalized].
    #[arg(long, env = "SEALCAST_FINALITY", value_name = "WHEN", requires = "rpc")]
    finality: Option<String>,
    /// Name or address at which devices reach the hub. Can be repeated: devices are told the first [default: localhost,
    /// 127.0.0.1].
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    /// Check the configuration, then exit.
    #[arg(long)]
    check: bool,
    /// Print the addresses that the hub listens on as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Ready {
    est: SocketAddr,
    /// Where the hub's own broker listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    mqtt: Option<SocketAddr>,
    /// What devices are told.
    broker: String,
    /// Where the embedded ledger's JSON-RPC is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    ledger_rpc: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<SocketAddr>,
    /// Where the console is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    console: Option<String>,
    /// By which readers sign in to it: at the start that has made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    console_token: Option<String>,
    ledger: String,
    root_sha256: String,
}

/// Runs the hub until the process is told to stop.
pub async fn run(options: Options) -> Result<()> {
    let given = [
        options.est.map(|_| "est"),
        options.mqtt.map(|_| "mqtt"),
        options.console.as_ref().map(|_| "console"),
        options.broker.as_ref().map(|_| "broker"),
        options.broker_prefix.as_ref().map(|_| "broker.prefix"),
        options.rpc.first().map(|_| "ledger"),
        options.names.first().map(|_| "names"),
    ];
    let given: Vec<&str> = given.into_iter().flatten().collect();
    let path = options.config.clone().unwrap_or_else(|| options.dir.join("hub.toml"));
    let config = load::<HubFile>(options.config.as_deref(), &path)?.check(&given, |file| {
        let file = file.with_paths(folder_of(&path)).with_passphrase(options.passphrase.passphrase_file);
        let file = file.with_broker(options.broker, options.broker_prefix).with_ledger(options.rpc, options.finality);
        let file = file.with_console(options.console);
        file.with(options.est, options.mqtt, &options.names).validate()?.check_to_run()
    })?;
    if options.check {
        KeyFiles::new(config.passphrase_file.as_deref())?;
        ledger::check(&options.dir, &config)?;
        return output::line("the hub's configuration is in order");
    }
    let folders = Folders::new(&options.dir, options.operator, options.root)?;
    let hub = Hub::start(&folders, config, None).await?;
    let ready = Ready {
        est: hub.est,
        mqtt: hub.mqtt,
        ledger_rpc: hub.ledger_rpc,
        metrics: hub.metrics,
        console: hub.console.as_ref().map(|console| console.url.clone()),
        console_token: hub.console.as_ref().and_then(|it| Some(it.token.as_ref()?.reveal().to_owned())),
        broker: hub.broker_url.clone(),
        ledger: hub.genesis.id.to_string(),
        root_sha256: hub.root_sha256.clone(),
    };
    let mut words = format!(
        "hub in {}\n  enrolment  {} (EST)\n  broker     {}\n  ledger     {}, {} entries\n  root       SHA-256 {}",
        options.dir.display(),
        hub.url,
        ready.broker,
        ready.ledger,
        hub.height(),
        ready.root_sha256
    );
    if let Some(url) = &ready.console {
        words += &format!("\n  console    {url}");
    }
    if let Some(token) = &ready.console_token {
        words += &format!("\n  token      {token} (signs readers in to the console; it is not shown again)");
    }
    output::event(options.json, &ready, &words)?;
    let supervisor = Supervisor::from_environment();
    // What the service waits for is told after this.
    supervisor.ready();
    hub.tell(supervisor.clone());
    let failure = shutdown::requested_or(hub.failed()).await;
    supervisor.stopping();
    let stopped = hub.stop().await;
    match failure {
        // A supervisor starts again what has failed, not what has ended well.
        Some(reason) => bail!("the hub cannot go on: {reason}"),
        None => stopped,
    }
}
