//! `sealcast quality`: try rules on a recording before they are switched on, and have rules proposed from one.

mod data;
#[cfg(test)]
mod pictures;
mod plot;
mod summary;
mod window;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Subcommand;
use sealcast_node::{config, files, output};
use sealcast_operator::progress::Bar;
use sealcast_quality::{Imported, Proposal, Proposed, RuleSet, TopicSpec, Understood, learn, try_rules};
use serde::Serialize;

use self::{
    data::DataOptions,
    plot::picture,
    summary::{Summary, printable},
    window::Window,
};

/// Most labelled windows.
const MAX_WINDOWS: usize = 1_000;

/// `sealcast quality`.
#[derive(Subcommand)]
pub enum Command {
    /// Try rules on a recording: show what they would have blocked, flagged and sent, and why.
    Try(TryOptions),
    /// Learn rules from a recording of normal operation: print them as TOML, with the numbers behind them.
    Learn(LearnOptions),
}

/// `sealcast quality try`.
#[derive(clap::Args)]
pub struct TryOptions {
    /// TOML file with `[[quality]]` tables. It can be an agent's configuration.
    rules: PathBuf,
    #[command(flatten)]
    data: DataOptions,
    /// The recording's topic [default: a topic that the rules' only filter matches].
    #[arg(long)]
    topic: Option<String>,
    /// Count a time window separately, and shade it in the picture: `2024-05-01 06:00:00/2024-05-01 08:00:00`.
    /// Can be repeated.
    #[arg(long, value_name = "FROM/TO")]
    window: Vec<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Write a picture of the values and the verdicts, as SVG.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Label of the values in the picture, with their unit.
    #[arg(long, default_value = "value", value_name = "TEXT")]
    unit: String,
}

/// `sealcast quality learn`.
#[derive(clap::Args)]
pub struct LearnOptions {
    #[command(flatten)]
    data: DataOptions,
    /// Learn only from the first part of the recording: the part before anything went wrong.
    #[arg(long, default_value_t = 100.0, value_name = "PERCENT", value_parser = percent)]
    first: f64,
    /// The topic filter of the proposed rules [default: the recording's topic, if a column holds it; else "#", every
    /// topic].
    #[arg(long)]
    filter: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What was learnt, as programs see it.
#[derive(Serialize)]
struct Learnt<'a> {
    /// How the recording was read.
    understood: &'a Understood,
    /// The topic filter of the rules.
    filter: &'a str,
    /// What they were learnt from, in words.
    from: &'a str,
    rules: &'a [Proposed],
    /// The rules as a `[[quality]]` table.
    toml: &'a str,
}

fn percent(text: &str) -> Result<f64, String> {
    let value: f64 =
        text.trim_end_matches('%').parse().map_err(|_| "give a number above 0 and at most 100".to_owned())?;
    if value > 0.0 && value <= 100.0 { Ok(value) } else { Err("give a number above 0 and at most 100".to_owned()) }
}

/// Runs the command.
pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Try(options) => run_try(&options),
        Command::Learn(options) => run_learn(&options),
    }
}

fn run_try(options: &TryOptions) -> Result<()> {
    ensure!(options.window.len() <= MAX_WINDOWS, "--window: give it at most {MAX_WINDOWS} times");
    let text = files::read(&options.rules)?;
    let (specs, rules) = parse_rules(&text, config::folder_of(&options.rules))
        .map_err(|error| config::Source::new(&options.rules, text).locate(error, &[]))?;
    let topic = match &options.topic {
        Some(topic) => topic.clone(),
        None => only_topic(&specs)?,
    };
    let rule = rules.find(&topic).with_context(|| {
        format!("{}: no [[quality]] table has a filter that matches topic {topic}", options.rules.display())
    })?;
    let bar = Bar::waiting("reading the recording, and trying the rules");
    let Imported { recording, understood } = options.data.read()?;
    let windows = options.window.iter().map(|window| options.data.window(window)).collect::<Result<Vec<Window>>>()?;
    let trial = try_rules(&rules, &topic, &recording);
    drop(bar);
    let summary = Summary::new(&topic, rule, &recording, understood, &trial, &windows);
    if let Some(path) = &options.plot {
        let spec = specs.iter().find(|spec| spec.filter == rule.filter().as_str());
        let title = format!("{} by the rules of {}", file_name(&options.data.path), rule.filter().as_str());
        let plot = picture(title, &options.unit, spec, &trial, &windows);
        files::write(path, plot.to_svg().as_bytes(), files::Mode::Public)?;
    }
    if options.json { output::json(&summary) } else { summary.tell() }
}

fn run_learn(options: &LearnOptions) -> Result<()> {
    let bar = Bar::waiting("reading the recording, and learning from it");
    let Imported { recording, understood } = options.data.read()?;
    let recording = recording.first(options.first / 100.0);
    let filter = options.filter.as_deref().or(understood.topic.as_deref());
    let is_known = filter.is_some();
    let filter = filter.unwrap_or("#");
    let proposal = learn(filter, &recording)
        .with_context(|| format!("cannot learn rules from {}", options.data.path.display()))?;
    drop(bar);
    // A filter that no agent would take is better said now.
    let toml = proposal.to_toml();
    parse_rules(&toml, Path::new(".")).with_context(|| format!("--filter {filter}"))?;
    if options.json {
        let Proposal { filter, from, rules } = &proposal;
        return output::json(&Learnt { understood: &understood, filter, from, rules, toml: &toml });
    }
    // As comments: the output stays TOML, and the file that it goes to says what it was learnt from.
    output::line(&printable(&format!("# Read from {}", file_name(&options.data.path))))?;
    for line in understood.lines() {
        output::line(&printable(&format!("#   {line}")))?;
    }
    output::line("")?;
    if !is_known {
        output::line("# The filter \"#\" is for every topic. Before an agent uses these rules, put the topic of the")?;
        output::line("# recording in its place, for example \"plant/1/temperature\" (or learn with --filter).")?;
    }
    output::line(toml.trim_end())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Rules from a file of `[[quality]]` tables in `dir`, or from an agent's configuration that holds some.
fn parse_rules(text: &str, dir: &Path) -> Result<(Vec<TopicSpec>, Arc<RuleSet>)> {
    let mut file: toml::Table = toml::from_str(text).context("it is not a TOML file")?;
    let tables = file.remove("quality").context("it has no [[quality]] table")?;
    // Whatever else stands there must at least be what an agent takes: a slip of the pen is no rule that is left out.
    file.try_into::<sealcast_agent::AgentFile>()
        .context("beside [[quality]], it can have the keys of an agent's configuration only")?;
    let mut specs: Vec<TopicSpec> = tables.try_into().context("[[quality]]")?;
    sealcast_agent::read_schemas(&mut specs, dir)?;
    ensure!(!specs.is_empty(), "it has no [[quality]] table");
    let rules = RuleSet::new(specs.iter().cloned())?;
    Ok((specs, Arc::new(rules)))
}

/// A topic for the only rule there is.
fn only_topic(specs: &[TopicSpec]) -> Result<String> {
    let [spec] = specs else {
        let filters: Vec<&str> = specs.iter().map(|spec| spec.filter.as_str()).collect();
        bail!(
            "several rules could apply: name the recorded topic with --topic; there are rules for {}",
            filters.join(", ")
        );
    };
    let levels: Vec<&str> =
        spec.filter.split('/').map(|level| if matches!(level, "+" | "#") { "x" } else { level }).collect();
    Ok(levels.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_stand_alone_or_in_an_agents_configuration() -> Result<()> {
        let rule = "[[quality]]\nfilter = 'a/+/#'\nrange = { max = 5 }\n";
        for text in [rule.to_owned(), format!("clear = ['open/#']\n{rule}")] {
            let (specs, rules) = parse_rules(&text, Path::new("."))?;
            assert_eq!(only_topic(&specs)?, "a/x/x");
            assert!(rules.find("a/x/x").is_some());
        }
        for (text, said) in [
            ("", "no [[quality]] table"),
            ("[[qality]]\nfilter = 'a'", "no [[quality]] table"),
            ("[[quality]]\nfilter = 'a'\n[[qality]]\nfilter = 'b'", "unknown field `qality`"),
            ("[[quality]]\nfilter = 'a'\nrnage = {}", "unknown field `rnage`"),
            ("[[quality]]\nfilter = 'a'\nrange = {}", "range: give min, max or both"),
        ] {
            let error = parse_rules(text, Path::new(".")).map_or_else(|error| format!("{error:#}"), |_| "taken".into());
            assert!(error.contains(said), "{text:?}: {error}");
        }
        let (specs, _) = parse_rules("[[quality]]\nfilter = 'a'\n[[quality]]\nfilter = 'b'", Path::new("."))?;
        let error = only_topic(&specs).unwrap_or_else(|error| error.to_string());
        assert!(error.contains("--topic") && error.contains("a, b"), "{error}");
        Ok(())
    }
}
