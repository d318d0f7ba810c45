//! The view where there is no terminal: a line for whatever happens, or an object of JSON.

use std::collections::BTreeSet;

use anyhow::Result;
use sealcast_console::{Alarm, Entry, FeedEvent, Group, Level, Node};
use sealcast_node::output::{self, Reader, printable};
use sealcast_reading::utc;
use serde_json::{Value, json};

use crate::{
    follow::{Loaded, Update},
    hub_view::HubView,
    words::{count, plural, rate},
};

/// How often the figures are said, in the hub's time.
const FIGURES_MS: u64 = 60_000;

/// Says in words what happens.
#[derive(Default)]
pub struct LinePrinter {
    known: Option<HubView>,
    /// When the figures were said.
    figures: u64,
    /// Whether it was said that the hub is of another version.
    is_warned: bool,
}

impl LinePrinter {
    /// The lines that this update is worth.
    pub fn lines(&mut self, update: Update) -> Vec<String> {
        let mut lines = Vec::new();
        match (update, &mut self.known) {
            (Update::Lost(reason), Some(known)) => {
                lines.push(dated(known.at, &format!("connection lost, trying again: {}", printable(&reason))));
            }
            (Update::Back, Some(known)) => lines.push(dated(known.at, "connection is back")),
            (Update::Loaded(loaded), known) => {
                lines = whole(known.as_ref(), &loaded);
                *known = Some(HubView::loaded(known.take(), *loaded));
                self.is_warned = false;
            }
            (Update::Event(event), Some(known)) => match FeedEvent::parse(&event.name, &event.data) {
                Ok(event) => {
                    lines = change(known, &event);
                    known.apply_event(event);
                    lines.extend(self.due_figures());
                }
                // Once is enough until the state is loaded again.
                Err(error) if !self.is_warned => {
                    lines.push(dated(known.at, &printable(&error.to_string())));
                    self.is_warned = true;
                }
                Err(_) => {}
            },
            (_, None) => {}
        }
        lines
    }

    fn due_figures(&mut self) -> Option<String> {
        let known = self.known.as_ref().filter(|known| known.at >= self.figures + FIGURES_MS)?;
        // Not at the first look.
        let line = (self.figures > 0).then(|| dated(known.at, &figures(known)));
        self.figures = known.at;
        line
    }
}

fn dated(at: u64, text: &str) -> String {
    format!("{}  {text}", utc(at))
}

/// What is new in a state that was loaded; `known`: what was known before.
fn whole(known: Option<&HubView>, loaded: &Loaded) -> Vec<String> {
    let Loaded { state, entries, .. } = loaded;
    let (nodes, groups) = (plural(state.nodes.len(), "node"), plural(state.groups.len(), "group"));
    let entry_count = count(state.ledger.height);
    let hub = format!("hub {}: {nodes}, {groups}, {entry_count} entries", printable(&state.hub.name));
    let mut lines = vec![dated(state.at, &hub)];
    lines.extend(alarm_lines(known.map_or(&[], |known| &known.alarms), &state.alarms, state.at));
    // Of a first look only what comes from then on is new.
    let Some(known) = known else { return lines };
    lines.extend(entries.iter().rev().filter_map(|entry| entry_line(known, entry)));
    lines.extend(state.nodes.iter().filter_map(|node| node_line(known, node)).map(|text| dated(state.at, &text)));
    lines.extend(state.groups.iter().filter_map(|group| group_line(known, group)).map(|text| dated(state.at, &text)));
    lines
}

/// What an event adds to what is known.
fn change(known: &HubView, event: &FeedEvent) -> Vec<String> {
    match event {
        FeedEvent::Node(node) => node_line(known, node).map(|text| dated(known.at, &text)).into_iter().collect(),
        FeedEvent::Group(group) => group_line(known, group).map(|text| dated(known.at, &text)).into_iter().collect(),
        FeedEvent::Alarms(alarms) => alarm_lines(&known.alarms, alarms, known.at),
        FeedEvent::Entry(entry) => entry_line(known, entry).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn alarm_lines(before: &[Alarm], now: &[Alarm], at: u64) -> Vec<String> {
    let ids = |alarms: &[Alarm]| alarms.iter().map(|alarm| alarm.id.clone()).collect::<BTreeSet<_>>();
    let (old, new) = (ids(before), ids(now));
    let begun = now.iter().filter(|alarm| !old.contains(&alarm.id)).map(alarm_line);
    let over = before.iter().filter(|alarm| !new.contains(&alarm.id));
    let over = over.map(|alarm| format!("no more: {}", printable(&alarm.text)));
    begun.chain(over).map(|text| dated(at, &text)).collect()
}

/// It may be told again after the state was loaded.
fn entry_line(known: &HubView, entry: &Entry) -> Option<String> {
    let is_new = known.entries.front().is_none_or(|newest| newest.index < entry.index);
    is_new.then(|| dated(entry.at, &format!("entry {}: {}", entry.index, printable(&entry.text))))
}

fn node_line(known: &HubView, node: &Node) -> Option<String> {
    let was = known.nodes.get(&node.id).and_then(|node| node.online);
    let what = match node.online {
        Some(true) if was != Some(true) => "is connected",
        Some(false) if was == Some(true) => "is away",
        _ => return None,
    };
    Some(format!("node {} {what}", printable(&node.id)))
}

fn group_line(known: &HubView, group: &Group) -> Option<String> {
    let was = known.groups.get(&group.number);
    let same = was.is_some_and(|was| (was.epoch, &was.joined, was.state) == (group.epoch, &group.joined, group.state));
    let (name, joined, members) = (printable(&group.name), group.joined.len(), group.members.len());
    (!same).then(|| format!("group {name}: epoch {}, {joined} of {members} members have its keys", group.epoch))
}

fn alarm_line(alarm: &Alarm) -> String {
    let level = match alarm.level {
        Level::Error => "error",
        Level::Warn => "warning",
    };
    format!("{level}: {}. {}", printable(&alarm.text), printable(&alarm.advice))
}

fn figures(hub_view: &HubView) -> String {
    let totals = &hub_view.totals;
    format!(
        "{} messages, {} /s; sealed {}, opened {}, refused {}",
        count(totals.messages),
        rate(totals.per_second),
        count(totals.sealed),
        count(totals.opened),
        count(hub_view.refused())
    )
}

/// What happens as one object: `event` is its name, `data` what the console says of it. `state` has the whole state, `lost` and
/// `back` are about the connection.
pub fn object(update: &Update) -> Result<Value> {
    Ok(match update {
        Update::Loaded(loaded) => json!({ "event": "state", "data": loaded.state }),
        Update::Event(event) => {
            json!({ "event": event.name, "data": serde_json::from_str::<Value>(&event.data)? })
        }
        Update::Lost(reason) => json!({ "event": "lost", "data": { "text": reason } }),
        Update::Back => json!({ "event": "back", "data": {} }),
    })
}

/// Says this update on standard output, as long as somebody reads it.
pub fn print(printer: &mut LinePrinter, update: Update, as_json: bool) -> Result<Reader> {
    let lines = match as_json {
        true => vec![object(&update)?.to_string()],
        false => printer.lines(update),
    };
    for line in lines {
        if output::try_line(&line)? == Reader::Closed {
            return Ok(Reader::Closed);
        }
    }
    Ok(Reader::Listens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{event, loaded};

    #[test]
    fn what_happens_is_said_once() {
        let mut printer = LinePrinter::default();
        let first = printer.lines(loaded());
        assert_eq!(first.len(), 2, "{first:?}");
        assert!(first[0].ends_with("hub hub.example: 3 nodes, 1 group, 57 entries"), "{first:?}");
        assert!(first[1].ends_with("warning: 1113 has been away for 2 h. Look whether its agent runs"), "{first:?}");
        let entry = || {
            let text = "operator granted hsu0001 to \u{1b}[2J1113";
            let at = 1_795_365_913_000_u64;
            event("entry", &json!({ "index": 57, "at": at, "kind": "granted", "by": "operator", "text": text }))
        };
        assert_eq!(
            printer.lines(entry()),
            ["2026-11-22 16:45:13Z  entry 57: operator granted hsu0001 to \\u{1b}[2J1113"]
        );
        assert!(printer.lines(entry()).is_empty(), "it is told once more after the state was loaded");
        let calm = printer.lines(event("alarms", &json!([])));
        assert!(calm.len() == 1 && calm[0].contains("no more: 1113"), "{calm:?}");
        assert!(printer.lines(event("links", &json!({ "at": 1, "links": [] }))).is_empty());
        let unread = printer.lines(event("entry", &json!({ "index": "no number" })));
        assert!(unread.len() == 1 && unread[0].contains("the hub is of another version"), "{unread:?}");
        assert!(printer.lines(event("new\u{1b}", &json!({}))).is_empty(), "it is said once");
        let lost = printer.lines(Update::Lost("gone".into()));
        assert!(lost[0].ends_with("connection lost, trying again: gone"), "{lost:?}");
        // Loaded again: what stands anew is said, and the hub.
        assert_eq!(printer.lines(loaded()).len(), 2);
    }

    #[test]
    fn a_program_gets_an_object_for_each_event() -> Result<()> {
        let Update::Loaded(all) = loaded() else { panic!("loaded() gives what is loaded") };
        assert_eq!(object(&Update::Loaded(all))?["data"]["nodes"][0]["id"], "1111");
        let object = object(&event("entry", &json!({ "index": 57 })))?.to_string();
        assert_eq!(object, r#"{"data":{"index":57},"event":"entry"}"#);
        Ok(())
    }
}
