//! Which hub's folder a command works on.

use std::path::PathBuf;

/// Which hub.
#[derive(clap::Args, Debug, Clone)]
pub struct HubArgs {
    /// The hub's folder.
    #[arg(long, env = "SEALCAST_HUB", value_name = "DIR", default_value = "hub")]
    pub hub: PathBuf,
}
