//! Rows to the state that the core starts with.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::types::Type;
use rusqlite::{Connection, Row};
use sealcast_broker_core::{Delivery, Message, Restored, RestoredSession, SessionKey, Subscribed};
use sealcast_mqtt::{Properties, PropertySet, Qos, SubscriptionOptions, TopicName, Version};

fn bad(column: usize, what: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, what.into())
}

fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| bad(column, "a negative number"))
}

fn qos(row: &Row<'_>, column: usize) -> rusqlite::Result<Qos> {
    Qos::from_bits(row.get(column)?).ok_or_else(|| bad(column, "QoS out of range"))
}

fn optional(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(column)?.and_then(|value| u64::try_from(value).ok()))
}

fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    let properties = Bytes::from(row.get::<_, Vec<u8>>(5)?);
    Ok(Message {
        seq: number(row, 0)?,
        topic: TopicName::new(&row.get::<_, String>(1)?).map_err(|_| bad(1, "topic name"))?,
        payload: row.get::<_, Vec<u8>>(2)?.into(),
        qos: qos(row, 3)?,
        retain: row.get(4)?,
        properties: Properties::parse_with_length(&properties, PropertySet::Publish)
            .map_err(|_| bad(5, "message properties"))?,
        expires_ms: optional(row, 6)?,
        sender: row.get::<_, Option<String>>(7)?.map(Into::into),
    })
}

/// The share of a delivery; those of one text have its memory in common.
fn share(row: &Row<'_>, column: usize, known: &mut HashSet<Arc<str>>) -> rusqlite::Result<Option<Arc<str>>> {
    let Some(text) = row.get::<_, Option<String>>(column)? else { return Ok(None) };
    if let Some(share) = known.get(text.as_str()) {
        return Ok(Some(share.clone()));
    }
    let share: Arc<str> = text.into();
    known.insert(share.clone());
    Ok(Some(share))
}

/// Reads everything, after removing what belongs neither to a session nor, by a share, to others. Sessions that were to end with their connections
/// are still there: what they leave behind is the core's to decide.
pub(super) fn read(db: &mut Connection) -> rusqlite::Result<Restored> {
    db.execute_batch(
        "BEGIN IMMEDIATE;
         DELETE FROM subscription WHERE session NOT IN (SELECT id FROM session);
         DELETE FROM inbound WHERE session NOT IN (SELECT id FROM session);
         DELETE FROM delivery WHERE session NOT IN (SELECT id FROM session) AND (share IS NULL OR packet_id IS NOT NULL);
         DELETE FROM delivery WHERE message NOT IN (SELECT seq FROM message);
         DELETE FROM message WHERE seq NOT IN (SELECT message FROM delivery);
         COMMIT;",
    )?;
    let mut sessions = BTreeMap::new();
    let mut statement = db.prepare("SELECT id, device, client_id, expiry_s, disconnected_ms FROM session")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id = number(row, 0)?;
        let key = SessionKey { device: row.get::<_, String>(1)?.into(), client_id: row.get::<_, String>(2)?.into() };
        let session = RestoredSession {
            id,
            key,
            expiry_s: row.get(3)?,
            disconnected_ms: optional(row, 4)?,
            subscriptions: Vec::new(),
            deliveries: Vec::new(),
            inbound: Vec::new(),
        };
        sessions.insert(id, session);
    }

    let mut statement = db.prepare("SELECT session, filter, options, sub_id FROM subscription")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let bits: u8 = row.get(2)?;
        let options =
            SubscriptionOptions::from_bits(bits, Version::V5).ok_or_else(|| bad(2, "subscription options"))?;
        if let Some(session) = sessions.get_mut(&number(row, 0)?) {
            session.subscriptions.push((row.get(1)?, Subscribed { options, id: row.get(3)? }));
        }
    }

    let mut messages: HashMap<u64, Arc<Message>> = HashMap::new();
    let mut statement =
        db.prepare("SELECT seq, topic, payload, qos, retain, properties, expires_ms, sender FROM message")?;
    for found in statement.query_map([], message)? {
        let found = found?;
        messages.insert(found.seq, Arc::new(found));
    }

    let mut restored = Restored::default();
    let mut known_shares = HashSet::new();
    let mut statement = db.prepare(
        "SELECT seq_no, session, message, qos, retain, sub_ids, packet_id, released, share FROM delivery ORDER BY seq_no",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let order = number(row, 0)?;
        restored.last_order = restored.last_order.max(order);
        let ids: String = row.get(5)?;
        let session = number(row, 1)?;
        // A new session does not get the number of an ended one that has left something.
        restored.last_session = restored.last_session.max(session);
        let Some(message) = messages.get(&number(row, 2)?) else { continue };
        let delivery = Delivery {
            order,
            message: message.clone(),
            qos: qos(row, 3)?,
            retain: row.get(4)?,
            subscription_ids: ids.split(' ').filter_map(|id| id.parse().ok()).collect(),
            share: share(row, 8, &mut known_shares)?,
            // These three are the core's to find out.
            group: None,
            surplus: false,
            maybe_sent: false,
            released: row.get(7)?,
            stored: true,
        };
        match sessions.get_mut(&session) {
            Some(session) => session.deliveries.push((row.get(6)?, delivery)),
            None => restored.left.push(delivery),
        }
    }

    let mut statement = db.prepare("SELECT session, packet_id FROM inbound")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let Some(session) = sessions.get_mut(&number(row, 0)?) {
            session.inbound.push(row.get(1)?);
        }
    }

    let mut statement =
        db.prepare("SELECT seq, topic, payload, qos, 1, properties, expires_ms, sender FROM retained")?;
    for found in statement.query_map([], message)? {
        restored.retained.push(Arc::new(found?));
    }
    restored.last_session = restored.last_session.max(sessions.keys().next_back().copied().unwrap_or(0));
    let retained = restored.retained.iter().map(|message| message.seq);
    restored.last_message = messages.keys().copied().chain(retained).max().unwrap_or(0);
    restored.sessions = sessions.into_values().collect();
    Ok(restored)
}
