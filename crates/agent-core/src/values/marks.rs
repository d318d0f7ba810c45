//! The verdict as it travels: a user property inside the seal that only agents can set. `sealcast-check` is `pass`, or
//! `flag:` and the names of the checks that found something; a value that was not checked has none.

use bytes::Bytes;
use sealcast_mqtt::{ParseError, Properties, Property, PropertySet, Text};
use sealcast_quality::Marks;

/// The member that sent the message.
pub const SENDER: &str = "sealcast-sender";
/// How old a retained message is, ms.
pub const AGE: &str = "sealcast-age-ms";
/// The verdict.
pub const CHECK: &str = "sealcast-check";
/// The message is an agent's alarm, not a value.
pub const ALARM: &str = "sealcast-alarm";
/// The message is part of an archive: points of the past, no value of now.
pub const ARCHIVE: &str = "sealcast-archive";
/// The message has no value: neither good nor bad, and silence goes on.
pub const EMPTY: &str = "sealcast-no-value";
/// The topic's retained message was deleted: by the `sender` of the message, or at the `broker`. Never sealed: what says it
/// is a tombstone, or that there is none.
pub const DELETED: &str = "sealcast-deleted";
/// A verdict: no check found anything.
const PASS: &str = "pass";
/// Most bytes that a verdict adds inside the seal.
pub const MAX_CHECK_BYTES: u32 = 160;
/// The name under which a value that is too old is flagged, beside those of the checks.
pub const STALE: &str = "stale";

/// What the sender's agent says of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// The verdict, if it was checked.
    pub check: Option<String>,
    /// An alarm.
    pub alarm: bool,
    /// Part of an archive.
    pub archive: bool,
    /// Without a value.
    pub empty: bool,
}

impl Said {
    /// Whether a check found something.
    pub fn is_flagged(&self) -> bool {
        self.check.as_deref().is_some_and(|check| check != PASS)
    }
}

/// Whether more can be said of a message than who sent it, how old it is, and that no check found anything.
pub fn is_notable(said: &[(&'static str, String)]) -> bool {
    said.iter().any(|(name, value)| match *name {
        SENDER | AGE => false,
        CHECK => value != PASS,
        _ => true,
    })
}

/// The verdict as text.
pub fn text(marks: Marks) -> String {
    if marks.is_empty() { PASS.into() } else { format!("flag:{marks}") }
}

/// All sealed properties.
pub fn parse(props: &Bytes) -> Result<Properties, ParseError> {
    if props.is_empty() { Ok(Properties::new()) } else { Properties::parse(props.clone(), PropertySet::Sealed) }
}

/// What the sender's agent says, and the rest.
pub fn read(props: &Bytes) -> Result<(Said, Properties), ParseError> {
    let all = parse(props)?;
    let mut said = Said::default();
    for property in &all {
        if let Property::User(name, value) = property {
            match name.as_str() {
                CHECK => said.check = Some(value.as_str().to_owned()),
                ALARM => said.alarm = true,
                ARCHIVE => said.archive = true,
                EMPTY => said.empty = true,
                _ => {}
            }
        }
    }
    Ok((said, all.without_agents()))
}

/// Adds a user property of the agent's own.
pub fn add(props: &mut Properties, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (Text::new(name), Text::new(value)) {
        props.push(Property::User(name, value));
    }
}

/// Says of what type a converted payload is.
pub fn set_type(props: &mut Properties, media_type: &str) {
    let kept = props.iter().filter(|p| !matches!(p, Property::ContentType(_) | Property::PayloadFormat(_)));
    let mut changed: Properties = kept.cloned().collect();
    if let Ok(text) = Text::new(media_type) {
        changed.push(Property::ContentType(text));
    }
    *props = changed;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_agent_says_is_read_back_and_not_handed_on() -> anyhow::Result<()> {
        let user = |name, value| Ok::<_, ParseError>(Property::User(Text::new(name)?, Text::new(value)?));
        let mut sealed: Properties =
            [user("unit", "Cel")?, Property::ContentType(Text::new("text/plain")?)].into_iter().collect();
        assert_eq!(read(&sealed.encode()?)?, (Said::default(), sealed.clone()));

        let mut marks = Marks::NONE;
        marks.insert(sealcast_quality::Check::Step);
        marks.insert(sealcast_quality::Check::Rate);
        add(&mut sealed, CHECK, &text(marks));
        let (said, rest) = read(&sealed.encode()?)?;
        assert_eq!((said.check.as_deref(), said.is_flagged(), rest.len()), (Some("flag:step,rate"), true, 2));
        assert_eq!(text(Marks::NONE), "pass");
        let longest = text(Marks(u16::MAX)).len() + CHECK.len() + 5 + EMPTY.len() + 1 + 5;
        assert!(longest <= MAX_CHECK_BYTES as usize, "{longest}");

        set_type(&mut sealed, "application/senml+json");
        assert_eq!(sealed.iter().filter(|p| matches!(p, Property::ContentType(_))).count(), 1);
        Ok(())
    }
}
