//! Records to rows.

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use sealcast_broker_core::{JournalRecord, Message};

/// SQLite's integers are signed; the numbers here are counters and milliseconds far below 2^63.
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The properties of a message as they stand in a packet. The expiry is the interval as published; when it ends is stored
/// beside it.
fn properties_blob(message: &Message) -> rusqlite::Result<Vec<u8>> {
    let blob = message.properties.encode_with_length();
    blob.map(Vec::from).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// Writes all records in one transaction; durable when it returns.
pub(super) fn commit(db: &mut Connection, records: &[JournalRecord]) -> rusqlite::Result<()> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for record in records {
        apply(&transaction, record)?;
    }
    transaction.commit()
}

fn apply(db: &Transaction<'_>, record: &JournalRecord) -> rusqlite::Result<()> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| -> rusqlite::Result<()> {
        db.prepare_cached(sql)?.execute(values).map(drop)
    };
    match record {
        JournalRecord::Session { id, key, expiry_s } => run(
            "INSERT INTO session (id, device, client_id, expiry_s, disconnected_ms) VALUES (?1, ?2, ?3, ?4, NULL)
             ON CONFLICT (id) DO UPDATE SET expiry_s = excluded.expiry_s, disconnected_ms = NULL",
            params![int(*id), &*key.device, &*key.client_id, expiry_s],
        ),
        JournalRecord::Disconnected { id, at_ms, expiry_s } => run(
            "UPDATE session SET disconnected_ms = ?2, expiry_s = ?3 WHERE id = ?1",
            params![int(*id), int(*at_ms), expiry_s],
        ),
        JournalRecord::SessionEnd { id } => {
            for sql in [
                "DELETE FROM session WHERE id = ?1",
                "DELETE FROM subscription WHERE session = ?1",
                // As the core has it: what a share is owed stays until it has gone to another member, or ended.
                "DELETE FROM delivery WHERE session = ?1 AND (share IS NULL OR packet_id IS NOT NULL)",
                "DELETE FROM inbound WHERE session = ?1",
            ] {
                run(sql, params![int(*id)])?;
            }
            Ok(())
        }
        JournalRecord::Subscribed { session, filter, subscribed } => run(
            "INSERT OR REPLACE INTO subscription (session, filter, options, sub_id) VALUES (?1, ?2, ?3, ?4)",
            params![int(*session), filter, subscribed.options.bits(), subscribed.id],
        ),
        JournalRecord::Unsubscribed { session, filter } => {
            run("DELETE FROM subscription WHERE session = ?1 AND filter = ?2", params![int(*session), filter])
        }
        JournalRecord::Message(message) => run(
            "INSERT OR REPLACE INTO message (seq, topic, payload, qos, retain, properties, expires_ms, sender)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                int(message.seq),
                message.topic.as_str(),
                &*message.payload,
                message.qos as u8,
                message.retain,
                properties_blob(message)?,
                message.expires_ms.map(int),
                message.sender.as_deref(),
            ],
        ),
        JournalRecord::MessageEnd { seq } => run("DELETE FROM message WHERE seq = ?1", params![int(*seq)]),
        JournalRecord::Delivery { session, delivery } => {
            let ids: Vec<String> = delivery.subscription_ids.iter().map(u32::to_string).collect();
            run(
                "INSERT OR REPLACE INTO delivery (seq_no, session, message, qos, retain, sub_ids, share)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    int(delivery.order),
                    int(*session),
                    int(delivery.message.seq),
                    delivery.qos as u8,
                    delivery.retain,
                    ids.join(" "),
                    delivery.share.as_deref(),
                ],
            )
        }
        JournalRecord::Sent { order, id } => {
            run("UPDATE delivery SET packet_id = ?2 WHERE seq_no = ?1", params![int(*order), id])
        }
        JournalRecord::Released { order } => {
            run("UPDATE delivery SET released = 1 WHERE seq_no = ?1", params![int(*order)])
        }
        JournalRecord::DeliveryEnd { order } | JournalRecord::DeliveredOnce { order } => {
            run("DELETE FROM delivery WHERE seq_no = ?1", params![int(*order)])
        }
        JournalRecord::Inbound { session, id } => {
            run("INSERT OR IGNORE INTO inbound (session, packet_id) VALUES (?1, ?2)", params![int(*session), id])
        }
        JournalRecord::InboundEnd { session, id } => {
            run("DELETE FROM inbound WHERE session = ?1 AND packet_id = ?2", params![int(*session), id])
        }
        JournalRecord::Retained(message) => run(
            "INSERT OR REPLACE INTO retained (topic, seq, payload, qos, properties, expires_ms, sender)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                message.topic.as_str(),
                int(message.seq),
                &*message.payload,
                message.qos as u8,
                properties_blob(message)?,
                message.expires_ms.map(int),
                message.sender.as_deref(),
            ],
        ),
        JournalRecord::RetainedEnd { topic } => run("DELETE FROM retained WHERE topic = ?1", params![topic.as_str()]),
    }
}
