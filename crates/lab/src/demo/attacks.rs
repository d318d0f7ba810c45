//! Beyond the paper: revocation, and what a hostile broker or member tries.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sealcast_broker::Intercepted;
use sealcast_ledger::{Body, Revoked};

use super::{
    groups::millis,
    hostile::{self, Mode},
    report::Report,
    world::{HELD_MAX_AGE_MS, HELD_TOPIC, NODES, ReadOrRefusal, World},
};
use crate::app::PATIENCE;

const FIGURE: &str = "beyond the paper";
const ROOM1: &str = "hsu0001/room1";
const MACHINE: &str = "hsu0001/machine";
const OTHER: &str = "hsu0001/other";
const OPEN_MACHINE: &str = "open/machine";
/// The valve opens from this temperature on.
const OPENS_AT: f64 = 25.0;

/// A member that is taken out reads nothing from the next epoch on.
pub async fn revoked(world: &mut World, report: &mut Report) -> Result<()> {
    report.chapter(FIGURE, "1112 is revoked from hsu0001").await?;
    world.node_mut(1)?.forget_refusals();
    let device = world.operator.device(&NODES[1].parse()?)?.number;
    let group = world.group("hsu0001")?;
    let start = Instant::now();
    world.submit(Body::Revoked(Revoked { group, device, reason: "sold".parse()? })).await?;
    let mut sent = 0_u32;
    let reason = loop {
        let text = format!("after the revocation {sent}");
        world.node_mut(0)?.app.publish(ROOM1, false, text.as_bytes()).await?;
        sent += 1;
        match world.node_mut(1)?.read_or_refusal(ROOM1).await? {
            ReadOrRefusal::Read => {}
            ReadOrRefusal::Refused(reason) => break reason,
        }
        ensure!(start.elapsed() < PATIENCE, "1112 still reads {} s after it was revoked", PATIENCE.as_secs());
    };
    let took = start.elapsed();
    report.times_ms.insert("revoke_to_unreadable", millis(took));
    report.tell(&format!("unreadable {:.0} ms after the revocation was signed", millis(took)))?;
    world.members_agree(group, &[0, 2]).await?;
    world.all_caught_up().await?;
    for index in [0, 1, 2] {
        world.node_mut(index)?.settle().await?;
    }
    world.node_mut(1)?.forget_refusals();
    let mut reasons = vec![reason];
    for _ in 0..3 {
        world.node_mut(0)?.app.publish(ROOM1, false, b"not for 1112").await?;
        reasons.push(world.node_mut(1)?.refusal(ROOM1).await?.1);
    }
    let nothing = world.node_mut(1)?.read_nothing().await?;
    report.tell(&format!("agent of 1112: {}", reasons.last().map_or("", String::as_str)))?;
    report.check(FIGURE, "1112 reads nothing from the next epoch on", true, nothing)?;
    let expected = "no key: 1112 is not a member of hsu0001".to_owned();
    report.check(FIGURE, "and is told why", Some(&expected), reasons.last())?;
    let read = world.node_mut(2)?.read().await?;
    report.check(FIGURE, "1113 goes on reading", "not for 1112".to_owned(), read)
}

/// The cooling valve, and a broker that takes 5 degrees off what it can read.
pub async fn minus_five_degrees(world: &mut World, report: &mut Report) -> Result<()> {
    report.chapter(FIGURE, "the machine is at 27 degrees, the valve opens at 25; the broker takes 5 off").await?;
    for index in [0, 2] {
        world.node_mut(index)?.settle().await?;
    }
    let valve = 2;
    world.node_mut(valve)?.app.subscribe(OPEN_MACHINE).await?;
    world.node_mut(valve)?.app.subscribe(MACHINE).await?;
    world.node_mut(valve)?.forget_refusals();

    world.hostile.set(Mode::Lower);
    world.node_mut(0)?.app.publish(OPEN_MACHINE, false, b"27.0").await?;
    let received = world.node_mut(valve)?.read().await?;
    report.tell(&format!("unsealed: the valve receives {received} and {}", position(&received)))?;
    report.check(
        FIGURE,
        "unsealed: the lowered value reaches the valve, which stays shut",
        ("22.0".to_owned(), "stays shut"),
        (received.clone(), position(&received)),
    )?;

    // The same hand on a sealed value: it cannot lower what it cannot read, so it tries what it can.
    world.hostile.set(Mode::Hold);
    world.node_mut(0)?.app.publish(MACHINE, false, b"27.0").await?;
    let genuine = one_held(world)?;
    world.hostile.set(Mode::Honest);
    ensure!(hostile::lowered(&genuine.payload).is_none(), "the broker can read a sealed value");
    let flipped = hostile::flipped(&genuine.payload);
    let reason = inject(world, valve, MACHINE, b"22.0".to_vec()).await?;
    report.tell(&format!("the broker sends 22.0 instead: {reason}"))?;
    report.check(FIGURE, "sealed: a plain 22.0 in its place is refused", true, reason.contains("not sealed"))?;
    let reason = inject(world, valve, MACHINE, flipped).await?;
    report.tell(&format!("the broker changes bits: {reason}"))?;
    report.check(FIGURE, "sealed: changed bits are refused", true, reason.contains("changed on its way"))?;
    world.inject(MACHINE, genuine.payload).await?;
    let received = world.node_mut(valve)?.read().await?;
    report.tell(&format!("sealed: the valve receives {received} and {}", position(&received)))?;
    report.check(
        FIGURE,
        "sealed: the value arrives as the sensor sent it, and the valve opens",
        ("27.0".to_owned(), "opens"),
        (received.clone(), position(&received)),
    )
}

/// Replay, hold back, topic move, forged sender.
pub async fn other_attacks(world: &mut World, report: &mut Report) -> Result<()> {
    report.chapter(FIGURE, "other things that a broker or a member may try").await?;
    let valve = 2;
    // Each by a filter of its own: a client whose filters overlap may be sent a message for each of them.
    for topic in [OTHER, HELD_TOPIC] {
        world.node_mut(valve)?.app.subscribe(topic).await?;
    }
    world.node_mut(valve)?.settle().await?;
    world.node_mut(valve)?.forget_refusals();

    world.hostile.set(Mode::Hold);
    world.node_mut(0)?.app.publish(MACHINE, false, b"26.0").await?;
    world.node_mut(0)?.app.publish(HELD_TOPIC, false, b"26.5").await?;
    world.hostile.set(Mode::Honest);
    let [message, held] = <[Intercepted; 2]>::try_from(world.hostile.take_held())
        .map_err(|held| anyhow::anyhow!("the broker holds {} messages", held.len()))?;
    let started = Instant::now();

    world.inject(MACHINE, message.payload.clone()).await?;
    ensure!(world.node_mut(valve)?.read().await? == "26.0", "the genuine message does not arrive");
    world.node_mut(valve)?.settle().await?;
    world.node_mut(valve)?.forget_refusals();
    let reason = inject(world, valve, MACHINE, message.payload.to_vec()).await?;
    report.tell(&format!("replay: {reason}"))?;
    report.check(FIGURE, "replay: the same message again is refused", true, reason.starts_with("replayed"))?;

    let reason = inject(world, valve, OTHER, message.payload.to_vec()).await?;
    report.tell(&format!("topic move: {reason}"))?;
    report.check(
        FIGURE,
        "topic move: on another topic it is refused",
        true,
        reason.contains("moved to hsu0001/other"),
    )?;

    let victim = world.node(0)?.id.clone();
    let group = world.group("hsu0001")?;
    let forged = hostile::forge(&world.node(valve)?.dir, &victim, group, MACHINE, b"22.0")?;
    let reason = inject(world, valve, MACHINE, forged).await?;
    report.tell(&format!("forged sender: {reason}"))?;
    report.check(
        FIGURE,
        "forged sender: a member cannot speak in another member's name",
        true,
        reason.starts_with("forged") && reason.contains(victim.as_str()),
    )?;

    tokio::time::sleep(Duration::from_millis(2 * HELD_MAX_AGE_MS).saturating_sub(started.elapsed())).await;
    let reason = inject(world, valve, HELD_TOPIC, held.payload.to_vec()).await?;
    report.tell(&format!("hold back: {reason}"))?;
    report.check(FIGURE, "hold back: a message that comes late is refused", true, reason.starts_with("too old"))?;
    let nothing = world.node_mut(valve)?.read_nothing().await?;
    report.check(FIGURE, "none of it reached the valve", true, nothing)
}

fn position(received: &str) -> &'static str {
    match received.parse::<f64>() {
        Ok(degrees) if degrees >= OPENS_AT => "opens",
        _ => "stays shut",
    }
}

fn one_held(world: &World) -> Result<Intercepted> {
    world.hostile.take_held().pop().context("the broker holds no message")
}

/// Hands `payload` to the subscribers of `topic`, and gives the reason why the node's agent refused it.
async fn inject(world: &mut World, node: usize, topic: &str, payload: Vec<u8>) -> Result<String> {
    world.inject(topic, payload).await?;
    Ok(world.node_mut(node)?.refusal(topic).await?.1)
}
