//! The broker of somebody else's on which the experiment runs, and how everybody in it gets in there.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use sealcast_node::{
    config,
    upstream::{BrokerUrl, Upstream, UpstreamConfig, UpstreamFile},
};

/// Which broker.
#[derive(clap::Args)]
pub struct BrokerArgs {
    /// Run it on this broker in the place of the hub's own: mqtt://HOST:PORT, mqtts://HOST:PORT, ws://HOST:PORT/PATH or
    /// wss://HOST:PORT/PATH. Nothing else may use it meanwhile.
    #[arg(long, value_name = "URL")]
    broker: Option<BrokerUrl>,
    /// How everybody in the experiment gets in there: a file with the keys of the table upstream of agent.toml, such as
    /// user, password_file and ca_file.
    #[arg(long, value_name = "FILE", requires = "broker")]
    broker_login: Option<PathBuf>,
}

impl BrokerArgs {
    /// The broker with its login, if one is named.
    pub fn open(&self) -> Result<Option<Upstream>> {
        let Some(url) = &self.broker else { return Ok(None) };
        let with_url = |file: UpstreamFile| file.with_url(Some(url.to_string()));
        let config = match &self.broker_login {
            None => with_url(UpstreamFile::default()).validate("--broker")?,
            Some(path) => read(path, with_url)?,
        };
        Upstream::open_outside(&config).map(Some)
    }
}

fn read(path: &Path, with_url: impl Fn(UpstreamFile) -> UpstreamFile) -> Result<UpstreamConfig> {
    config::load::<UpstreamFile>(Some(path), path)?.check(&["url"], |file| {
        let config = with_url(file).with_files(config::folder_of(path)).validate("--broker-login")?;
        ensure!(
            config.part_bytes.is_none(),
            "part_bytes: the experiment cuts its control messages at 64 KiB, and the broker has to take those"
        );
        Ok(config)
    })
}

#[cfg(test)]
mod tests {
    use sealcast_node::files;

    use super::*;

    fn open(url: &str, login: &str) -> Result<Upstream> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("login.toml");
        files::write(&path, login.as_bytes(), files::Mode::Secret)?;
        files::write(&dir.path().join("password"), b"secret\n", files::Mode::Secret)?;
        let args = BrokerArgs { broker: Some(url.parse()?), broker_login: Some(path) };
        let upstream = args.open()?.ok_or_else(|| anyhow::anyhow!("no broker"))?;
        // Its files are read each time.
        upstream.credentials()?;
        Ok(upstream)
    }

    #[test]
    fn a_login_is_the_table_upstream_and_its_files_lie_beside_it() {
        assert!(open("mqtt://broker:1883", "user = 'u'\npassword_file = 'password'\n").is_ok());
        for (url, login, part) in [
            ("mqtt://broker:1883", "user = 'u'\npassword_file = 'none'\n", "none"),
            ("mqtt://broker:1883", "usre = 'u'\n", "usre"),
            ("mqtt://broker:1883", "ca_file = 'a.pem'\n", "no TLS"),
            ("mqtts://broker:8883", "ca_file = 'a.pem'\n", "a.pem"),
            ("mqtt://broker:1883", "part_bytes = 8192\n", "64 KiB"),
            ("mqtt://broker:1883", "prefix = 'plant'\n", "the hub chooses it"),
        ] {
            let error = open(url, login).map_or_else(|error| format!("{error:#}"), |_| "it was taken".into());
            assert!(error.contains(part), "{login}: {error}");
        }
    }
}
