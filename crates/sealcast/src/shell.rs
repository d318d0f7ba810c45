//! What a shell and `man` need to know of the commands.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::{Command, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;
use sealcast_node::output;

/// `sealcast completions`.
#[derive(clap::Args)]
pub struct CompletionsOptions {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
    /// Whose commands.
    #[arg(long, value_enum, default_value_t = Program::Sealcast)]
    program: Program,
}

/// `sealcast man`.
#[derive(clap::Args)]
pub struct ManOptions {
    /// Where the pages go. The folder is made if it does not exist.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Whose commands.
    #[arg(long, value_enum, default_value_t = Program::Sealcast)]
    program: Program,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Program {
    Sealcast,
    SealcastAgent,
}

impl Program {
    /// All commands, where `sealcast` are this program's.
    fn command(self, sealcast: Command) -> Command {
        match self {
            Self::Sealcast => sealcast,
            Self::SealcastAgent => sealcast_agent::cli::command(),
        }
    }
}

/// Prints the script by which a shell completes the program's commands.
pub fn completions(options: &CompletionsOptions, sealcast: Command) -> Result<()> {
    let mut command = options.program.command(sealcast);
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(options.shell, &mut command, name, &mut script);
    output::line(String::from_utf8(script)?.trim_end())
}

/// Writes a manual page for the program and each command of it.
pub fn man(options: &ManOptions, sealcast: Command) -> Result<()> {
    let dir = options.dir.display();
    fs::create_dir_all(&options.dir).with_context(|| format!("{dir} cannot be made"))?;
    let mut command = options.program.command(sealcast).disable_help_subcommand(true);
    command.build();
    write_pages(&command, &options.dir).with_context(|| format!("pages cannot be written to {dir}"))?;
    output::line(&format!("manual pages in {dir}"))
}

fn write_pages(command: &Command, dir: &Path) -> io::Result<()> {
    let page = Man::new(command.clone());
    // `sealcast-agent(1)` is the page of that program, which may be installed beside this one.
    let is_agent = command.get_bin_name() == Some("sealcast agent");
    if is_agent { page.section("1sealcast") } else { page }.generate_to(dir)?;
    command.get_subcommands().filter(|child| !child.is_hide_set()).try_for_each(|child| write_pages(child, dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_manual_page_with_its_examples() -> Result<()> {
        let dir = tempfile::tempdir()?;
        for program in [Program::Sealcast, Program::SealcastAgent] {
            man(&ManOptions { dir: dir.path().to_owned(), program }, crate::command())?;
        }
        for (page, part) in [
            ("sealcast.1", "sealcast demo"),
            ("sealcast-group-grant.1", "sealcast group grant hsu0001"),
            ("sealcast-agent.1sealcast", "sealcast agent --dir"),
            ("sealcast-agent.1", "sealcast-agent enroll --hub"),
            ("sealcast-agent-why.1", "sealcast-agent why --dir"),
        ] {
            let text = fs::read_to_string(dir.path().join(page))?.replace("\\-", "-");
            assert!(text.contains(part), "{page}: {text}");
        }
        Ok(())
    }
}
