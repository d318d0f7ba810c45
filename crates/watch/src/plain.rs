//! The view where there is no terminal: a line for whatever happens, or an object of JSON.

use std::collections::BTreeSet;

use anyhow::Result;
use sealcast_console::{Alarm, Level};
use sealcast_node::output;
use serde_json::{Value, json};

use crate::{
    fleet::Fleet,
    follow::News,
    words::{count, date, plural, rate, safe},
};

/// How often the figures are said, in the hub's time.
const FIGURES_MS: u64 = 60_000;

/// Says in words what happens.
#[derive(Default)]
pub struct Teller {
    known: Option<Fleet>,
    /// When the figures were said.
    figures: u64,
}

impl Teller {
    /// The lines that these news are worth.
    pub fn hear(&mut self, news: &News) -> Vec<String> {
        let before = self.known.clone();
        Fleet::hear(&mut self.known, news);
        let Some(now) = &self.known else { return Vec::new() };
        let mut lines = Vec::new();
        let mut say = |at: u64, text: String| lines.push(format!("{}  {text}", date(at)));
        match (news, &before) {
            (News::Lost(reason), _) => say(now.at, format!("connection lost, trying again: {}", safe(reason))),
            (News::Back, _) => say(now.at, "connection is back".to_owned()),
            (News::Loaded(_), _) => {
                let (nodes, groups) = (plural(now.nodes.len(), "node"), plural(now.groups.len(), "group"));
                let entries = count(now.ledger.height);
                say(now.at, format!("hub {}: {nodes}, {groups}, {entries} entries", safe(&now.hub.name)));
            }
            _ => {}
        }
        let newest = before.as_ref().and_then(|before| before.entries.front()).map(|entry| entry.index);
        // Of a first look only what comes from then on is news.
        let entries = now.entries.iter().take_while(|entry| before.is_some() && Some(entry.index) > newest);
        for entry in entries.collect::<Vec<_>>().into_iter().rev() {
            say(entry.at, format!("entry {}: {}", entry.index, safe(&entry.text)));
        }
        changes(before.as_ref(), now, |text| say(now.at, text));
        if matches!(news, News::Event(_)) && now.at >= self.figures + FIGURES_MS {
            if self.figures > 0 {
                say(now.at, figures(now));
            }
            self.figures = now.at;
        }
        lines
    }
}

/// What has changed of alarms, nodes and groups.
fn changes(before: Option<&Fleet>, now: &Fleet, mut say: impl FnMut(String)) {
    let ids = |fleet: &Fleet| fleet.alarms.iter().map(|alarm| alarm.id.clone()).collect::<BTreeSet<_>>();
    let (old, new) = (before.map(ids).unwrap_or_default(), ids(now));
    for alarm in now.alarms.iter().filter(|alarm| !old.contains(&alarm.id)) {
        say(alarm_line(alarm));
    }
    for alarm in before.into_iter().flat_map(|before| &before.alarms).filter(|alarm| !new.contains(&alarm.id)) {
        say(format!("no more: {}", safe(&alarm.text)));
    }
    let Some(before) = before else { return };
    for (id, node) in &now.nodes {
        let was = before.nodes.get(id).and_then(|node| node.online);
        match node.online {
            Some(true) if was != Some(true) => say(format!("node {} is connected", safe(id))),
            Some(false) if was == Some(true) => say(format!("node {} is away", safe(id))),
            _ => {}
        }
    }
    for (number, group) in &now.groups {
        let was = before.groups.get(number);
        if was.is_none_or(|was| (was.epoch, &was.joined, was.state) != (group.epoch, &group.joined, group.state)) {
            let (name, joined, members) = (safe(&group.name), group.joined.len(), group.members.len());
            say(format!("group {name}: epoch {}, {joined} of {members} members have its keys", group.epoch));
        }
    }
}

fn alarm_line(alarm: &Alarm) -> String {
    let level = match alarm.level {
        Level::Error => "error",
        Level::Warn => "warning",
    };
    format!("{level}: {}. {}", safe(&alarm.text), safe(&alarm.advice))
}

fn figures(fleet: &Fleet) -> String {
    let totals = &fleet.totals;
    format!(
        "{} messages, {} /s; sealed {}, opened {}, refused {}",
        count(totals.messages),
        rate(totals.per_second),
        count(totals.sealed),
        count(totals.opened),
        count(fleet.refused())
    )
}

/// What happens as one object: `event` is its name, `data` what the console says of it. `state` has the whole state, `lost` and
/// `back` are about the connection.
pub fn object(news: &News) -> Result<Value> {
    Ok(match news {
        News::Loaded(loaded) => json!({ "event": "state", "data": loaded.state }),
        News::Event(event) => {
            json!({ "event": event.name, "data": serde_json::from_str::<Value>(&event.data)? })
        }
        News::Lost(reason) => json!({ "event": "lost", "data": { "text": reason } }),
        News::Back => json!({ "event": "back", "data": {} }),
    })
}

/// Says these news on standard output.
pub fn tell(teller: &mut Teller, news: &News, as_json: bool) -> Result<()> {
    match as_json {
        true => output::line(&object(news)?.to_string()),
        false => teller.hear(news).iter().try_for_each(|line| output::line(line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made::{event, loaded};

    #[test]
    fn what_happens_is_said_once() {
        let mut teller = Teller::default();
        let first = teller.hear(&loaded());
        assert_eq!(first.len(), 2, "{first:?}");
        assert!(first[0].ends_with("hub hub.example: 3 nodes, 1 group, 57 entries"), "{first:?}");
        assert!(first[1].ends_with("warning: 1113 has been away for 2 h. Look whether its agent runs"), "{first:?}");
        let entry = event(
            "entry",
            &json!({ "index": 57, "at": 1_795_365_913_000_u64, "kind": "granted", "by": "operator",
            "text": "operator granted hsu0001 to \u{1b}[2J1113" }),
        );
        assert_eq!(teller.hear(&entry), ["2026-11-22 16:45:13Z  entry 57: operator granted hsu0001 to \\u{1b}[2J1113"]);
        assert!(teller.hear(&entry).is_empty(), "it is told once more after the state was loaded");
        let calm = teller.hear(&event("alarms", &json!([])));
        assert!(calm.len() == 1 && calm[0].contains("no more: 1113"), "{calm:?}");
        assert!(teller.hear(&event("links", &json!({ "links": [] }))).is_empty());
        assert!(teller.hear(&event("entry", &json!({ "index": "no number" }))).is_empty());
        let lost = teller.hear(&News::Lost("gone".into()));
        assert!(lost[0].ends_with("connection lost, trying again: gone"), "{lost:?}");
        // Loaded again: what stands anew is said, and the hub.
        assert_eq!(teller.hear(&loaded()).len(), 2);
    }

    #[test]
    fn a_program_gets_an_object_for_each_event() -> Result<()> {
        let News::Loaded(all) = loaded() else { panic!("loaded() gives what is loaded") };
        assert_eq!(object(&News::Loaded(all))?["data"]["nodes"][0]["id"], "1111");
        let object = object(&event("entry", &json!({ "index": 57 })))?.to_string();
        assert_eq!(object, r#"{"data":{"index":57},"event":"entry"}"#);
        Ok(())
    }
}
