//! What all commands of a program have in common, for its tests.

use clap::Command;

/// Commands without `--json`, but those in `without`, which says why; and those in it that it has no reason to name.
///
/// `without` has the words of a command behind the program's name, and a reason.
#[doc(hidden)]
pub fn without_json(command: &Command, without: &[(&str, &str)]) -> Vec<String> {
    let leaves = leaves(command);
    let has_json = |leaf: &Command| leaf.get_arguments().any(|argument| argument.get_long() == Some("json"));
    let is_named = |path: &str| without.iter().any(|(named, _)| *named == path);
    let missing = leaves.iter().filter(|(path, leaf)| !has_json(leaf) && !is_named(path));
    let idle = without.iter().filter(|(path, why)| {
        let found = leaves.iter().find(|(known, _)| known == path);
        why.is_empty() || found.is_none_or(|(_, leaf)| has_json(leaf))
    });
    let missing = missing.map(|(path, _)| format!("`{path}` has no --json"));
    missing.chain(idle.map(|(path, _)| format!("`{path}` stands on the list without a reason"))).collect()
}

/// The commands that have none below them, each with its words behind the program's name.
#[doc(hidden)]
pub fn leaves(command: &Command) -> Vec<(String, &Command)> {
    let mut left: Vec<(String, &Command)> =
        command.get_subcommands().map(|child| (child.get_name().to_owned(), child)).collect();
    let mut leaves = Vec::new();
    while let Some((path, command)) = left.pop() {
        if !command.has_subcommands() {
            leaves.push((path, command));
            continue;
        }
        left.extend(command.get_subcommands().map(|child| (format!("{path} {}", child.get_name()), child)));
    }
    leaves.sort_by(|(one, _), (other, _)| one.cmp(other));
    leaves
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction};

    use super::*;

    #[test]
    fn a_command_without_json_is_named_and_so_is_an_idle_excuse() {
        let json = Arg::new("json").long("json").action(ArgAction::SetTrue);
        let key = Command::new("key").subcommand(Command::new("show").arg(json)).subcommand(Command::new("make"));
        let program = Command::new("sealcast").subcommand(key).subcommand(Command::new("run"));
        assert_eq!(without_json(&program, &[("run", "it prints nothing")]), ["`key make` has no --json"]);
        let excuses = [("run", ""), ("key make", "it prints nothing"), ("key show", "none"), ("gone", "it is gone")];
        assert_eq!(
            without_json(&program, &excuses),
            ["run", "key show", "gone"].map(|path| format!("`{path}` stands on the list without a reason"))
        );
    }
}
