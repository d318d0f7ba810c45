//! What a shell and `man` need to know of the commands.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Command;
use clap_complete::Shell;
use sealcast_node::output;
use serde::Serialize;

/// `sealcast completions`.
#[derive(clap::Args)]
pub struct Completions {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// `sealcast man`.
#[derive(clap::Args)]
pub struct Man {
    /// Where the pages go. The folder is made if it does not exist.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Where the pages are, as programs see it.
#[derive(Serialize)]
struct Pages {
    dir: String,
}

/// Prints the script by which a shell completes `command`.
pub fn completions(options: &Completions, mut command: Command) -> Result<()> {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(options.shell, &mut command, name, &mut script);
    output::line(String::from_utf8(script)?.trim_end())
}

/// Writes a manual page for `command` and each command below it.
pub fn man(options: &Man, command: Command) -> Result<()> {
    let dir = options.dir.display();
    fs::create_dir_all(&options.dir).with_context(|| format!("{dir} cannot be made"))?;
    clap_mangen::generate_to(command, &options.dir).with_context(|| format!("pages cannot be written to {dir}"))?;
    output::outcome(options.json, &Pages { dir: dir.to_string() }, &format!("manual pages in {dir}"))
}
