//! `docs/cli.md`: every command of both programs with its arguments, options and examples, as clap has them. The test compares
//! it with the commands of now; `SEALCAST_BLESS=1 cargo test -p sealcast --bin sealcast reference` writes it anew.

use std::{
    fmt::{self, Write as _},
    fs,
    path::Path,
};

use clap::{Arg, Command, builder::StyledStr};

/// How a person renews the page.
const RENEW: &str = "SEALCAST_BLESS=1 cargo test -p sealcast --bin sealcast reference";

const HEAD: &str = "\
# Commands

After reading this you can look up what a command takes. `--help` behind any command says the same, and so
do the manual pages (`man sealcast-device-add`), which the [packages](packages.md) have. With `--json` a command
prints [JSON for programs](json.md). Every command takes `--log`. Exit codes: 0 done, 1 failed, 2 wrong usage.

Most options of the services have a key in [hub.toml or agent.toml](configuration.md), too, and some an
environment variable. An option overrides the variable, and the variable overrides the file.
";

#[test]
fn the_reference_is_what_the_programs_say() -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let now = page()?;
    if std::env::var_os("SEALCAST_BLESS").is_some() {
        fs::write(&path, now)?;
    } else {
        let same = fs::read_to_string(&path).is_ok_and(|committed| committed == now);
        assert!(same, "{} is not what the commands are now: {RENEW}", path.display());
    }
    Ok(())
}

fn page() -> Result<String, fmt::Error> {
    let mut page = HEAD.to_owned();
    let programs = [crate::command(), sealcast_agent::cli::command()].map(|program| {
        let mut program = program.disable_help_subcommand(true);
        program.build();
        program
    });
    for program in &programs {
        write_contents(&mut page, program)?;
    }
    for program in &programs {
        write_section(&mut page, program, 2)?;
    }
    Ok(page)
}

/// The program's commands in a table.
fn write_contents(page: &mut String, program: &Command) -> fmt::Result {
    writeln!(page, "\n| command | does |\n| --- | --- |")?;
    for command in visible(program) {
        let name = name(command);
        writeln!(page, "| [`{name}`](#{}) | {} |", name.replace(' ', "-"), text(command.get_about()))?;
    }
    Ok(())
}

/// A command, and those below it.
fn write_section(page: &mut String, command: &Command, level: usize) -> fmt::Result {
    let title = if level == 2 { format!("The program `{}`", name(command)) } else { format!("`{}`", name(command)) };
    let usage = command.clone().render_usage().to_string();
    writeln!(page, "\n{} {title}\n\n{}", "#".repeat(level), text(command.get_long_about().or(command.get_about())))?;
    writeln!(page, "\n```text\n{}\n```", usage.trim_start_matches("Usage: "))?;
    let own = |argument: &&Arg| {
        let is_shared = level > 2 && argument.is_global_set();
        !argument.is_hide_set() && !is_shared && !["help", "version"].contains(&argument.get_id().as_str())
    };
    for (at, argument) in command.get_arguments().filter(own).enumerate() {
        page.push_str(if at == 0 { "\n" } else { "" });
        write_argument(page, argument)?;
    }
    if let Some(examples) = command.get_after_help() {
        let examples = examples.to_string().replace("Examples:\n", "").replace("\n  ", "\n");
        writeln!(page, "\n```sh\n{}\n```", examples.trim())?;
    }
    visible(command).try_for_each(|child| write_section(page, child, (level + 1).min(4)))
}

fn write_argument(page: &mut String, argument: &Arg) -> fmt::Result {
    let help = text(argument.get_long_help().or(argument.get_help())).replace('\n', "\n  ").replace("\n  \n", "\n\n");
    write!(page, "- `{argument}`: {help}")?;
    let values: Vec<_> = argument.get_possible_values().into_iter().filter(|value| !value.is_hide_set()).collect();
    if !values.is_empty() && argument.get_action().takes_values() {
        let names: Vec<_> = values.iter().map(|value| format!("`{}`", value.get_name())).collect();
        write!(page, " One of {}.", names.join(", "))?;
    }
    let defaults: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if !defaults.is_empty() && argument.get_action().takes_values() {
        write!(page, " Default: `{}`.", defaults.join(" "))?;
    }
    if let Some(variable) = argument.get_env() {
        write!(page, " Environment: `{}`.", variable.to_string_lossy())?;
    }
    writeln!(page)
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|child| !child.is_hide_set())
}

/// What somebody types to run it, without arguments.
fn name(command: &Command) -> &str {
    command.get_bin_name().unwrap_or_else(|| command.get_name())
}

/// A sentence, or several. Clap takes the full stop from the end of a first line.
fn text(text: Option<&StyledStr>) -> String {
    let text = text.map(ToString::to_string).unwrap_or_default();
    let end = if text.ends_with(['.', ':', '?', '!']) || text.is_empty() { "" } else { "." };
    format!("{}{end}", text.trim())
}
