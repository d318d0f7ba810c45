//! Examples in `--help`: one list for each program, from which each command shows its own.

use clap::Command;

/// How many of the list's first examples the program's own `--help` shows.
const AT_THE_TOP: usize = 8;

/// What an example does, and the line that somebody types.
pub type Example = (&'static str, &'static str);

/// Puts the examples under the `--help` of the commands that they are of: those of a command under its own, the first one of
/// each command under that of the command above it, and the list's first ones under the program's.
#[must_use]
pub fn with_examples(command: Command, examples: &[Example]) -> Command {
    add(command, &[], examples)
}

fn add(command: Command, path: &[&str], examples: &[Example]) -> Command {
    let mut below: Vec<Example> = examples
        .iter()
        .copied()
        .filter(|(_, line)| words(line).skip(1).take(path.len()).eq(path.iter().copied()))
        .collect();
    let names: Vec<String> = command.get_subcommands().map(|child| child.get_name().to_owned()).collect();
    if path.is_empty() {
        below.truncate(AT_THE_TOP);
    } else if !names.is_empty() {
        let mut seen = Vec::new();
        below.retain(|(_, line)| {
            let child = words(line).nth(path.len() + 1);
            let is_first = !seen.contains(&child);
            seen.push(child);
            is_first
        });
    }
    let command = if below.is_empty() { command } else { command.after_help(text(&below)) };
    names.iter().fold(command, |command, name| {
        command.mut_subcommand(name, |child| {
            let path: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
            add(child, &path, examples)
        })
    })
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split_whitespace()
}

fn text(examples: &[Example]) -> String {
    let lines = examples.iter().map(|(does, line)| format!("  # {does}\n  {line}"));
    format!("Examples:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

/// The arguments of an example's line as a shell would give them, up to a redirection or a pipe. For tests.
#[doc(hidden)]
pub fn arguments(line: &str) -> Vec<String> {
    let (mut arguments, mut quoted) = (Vec::new(), false);
    let mut argument = None::<String>;
    for character in line.chars().chain([' ']) {
        match character {
            '\'' => {
                quoted = !quoted;
                argument.get_or_insert_default();
            }
            ' ' if !quoted => arguments.extend(argument.take()),
            '>' | '<' | '|' if !quoted => break,
            other => argument.get_or_insert_default().push(other),
        }
    }
    arguments
}

/// Commands without an example, and examples that `command` does not take. For tests.
#[doc(hidden)]
pub fn faults(command: &Command, examples: &[Example]) -> Vec<String> {
    let mut faults = Vec::new();
    let shown = with_examples(command.clone(), examples);
    let mut left = vec![(shown.get_name().to_owned(), &shown)];
    while let Some((path, command)) = left.pop() {
        if command.get_after_help().is_none() {
            faults.push(format!("`{path}` has no example"));
        }
        left.extend(command.get_subcommands().map(|child| (format!("{path} {}", child.get_name()), child)));
    }
    for (_, line) in examples {
        if let Err(error) = command.clone().try_get_matches_from(arguments(line)) {
            faults.push(format!("`{line}`: {error}"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    fn program() -> Command {
        let device = Command::new("device")
            .subcommand(Command::new("add").arg(Arg::new("id").required(true)))
            .subcommand(Command::new("list"));
        Command::new("sealcast").subcommand(device)
    }

    const ADD: Example = ("Invite one", "sealcast device add '1 1' > 1.token");
    const AGAIN: Example = ("Invite another one", "sealcast device add 2");
    const LIST: Example = ("List them", "sealcast device list | less");

    #[test]
    fn each_command_shows_its_own_and_the_one_above_it_the_first_of_each() {
        let shown = with_examples(program(), &[ADD, AGAIN, LIST]);
        let help = |command: Option<&Command>| command.and_then(Command::get_after_help).map(ToString::to_string);
        let device = shown.find_subcommand("device");
        assert_eq!(help(device), Some(text(&[ADD, LIST])));
        assert_eq!(help(device.and_then(|device| device.find_subcommand("add"))), Some(text(&[ADD, AGAIN])));
        assert_eq!(faults(&program(), &[ADD, AGAIN, LIST]), Vec::<String>::new());
    }

    #[test]
    fn a_missing_and_a_wrong_example_are_named() {
        let found = faults(&program(), &[ADD, ("Wrong", "sealcast device ad 1")]);
        assert_eq!(found.first().map(String::as_str), Some("`sealcast device list` has no example"));
        assert!(found.last().is_some_and(|fault| fault.starts_with("`sealcast device ad 1`: ")), "{found:?}");
    }

    #[test]
    fn quotes_keep_words_together() {
        assert_eq!(arguments(ADD.1), ["sealcast", "device", "add", "1 1"]);
        assert_eq!(arguments("a --b ''"), ["a", "--b", ""]);
    }
}
