//! Groups: who can read what.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sealcast_ledger::{Authenticity, Body, Granted, GroupCreated, TopicFilter};
use sealcast_node::now_ms;
use sealcast_seal::{Content, Purpose, QosClass};

use super::{
    report::Report,
    wire::hex_view,
    world::{NODES, World},
};
use crate::app::PATIENCE;
use crate::lone_member::lone_member;
use crate::policy::policy;

const ROOM1: &str = "hsu0001/room1";
const ROOM2: &str = "hsu0002/room2";
const OPEN: &str = "open/room1";
const READING: &str = "{\"sensor\":\"1111\",\"temperature\":27.0}";
const READING_2: &str = "{\"sensor\":\"1114\",\"temperature\":19.5}";

/// Creates a group over `filter` and waits until `members`, who are granted it, have its keys.
pub async fn create(world: &mut World, name: &str, filter: &str, members: &[usize]) -> Result<()> {
    let policy = policy(Authenticity::Signature);
    let filters: Vec<TopicFilter> = vec![filter.parse()?];
    world.submit(Body::GroupCreated(GroupCreated { name: name.parse()?, filters, policy })).await?;
    for member in members {
        grant(world, name, *member).await?;
    }
    let group = world.group(name)?;
    world.members_agree(group, members).await?;
    // Those who are no members are to know of it too: they say whose group it is that they cannot read.
    world.all_caught_up().await
}

async fn grant(world: &mut World, group: &str, node: usize) -> Result<()> {
    let device = world.operator.device(&world.node(node)?.id)?.number;
    let group = world.group(group)?;
    world.submit(Body::Granted(Granted { group, device })).await
}

/// Figure 8.
pub async fn one_to_one(world: &mut World, report: &mut Report) -> Result<()> {
    const FIGURE: &str = "Fig 8";
    report.chapter(FIGURE, "group hsu0001 = {1111, 1112}; 1113 subscribes to the same topic").await?;
    create(world, "hsu0001", "hsu0001/#", &[0, 1]).await?;
    world.observe().await?;
    for index in 0..3 {
        world.node_mut(index)?.app.subscribe(ROOM1).await?;
    }
    world.node_mut(0)?.app.publish(ROOM1, false, READING.as_bytes()).await?;
    report.tell(&format!("1111 publishes {READING}"))?;
    let read = world.node_mut(1)?.read().await?;
    report.check(FIGURE, "1112, a member, reads it", READING.to_owned(), read)?;
    let own = world.node_mut(0)?.read().await?;
    ensure!(own == READING, "1111 gets its own message back as {own}");

    let carried = world.observer.as_mut().context("the observer")?.next(ROOM1).await?.payload;
    world.first_frame = carried.to_vec();
    let (bytes, reason) = world.node_mut(2)?.refusal(ROOM1).await?;
    report.tell(&format!("agent of 1113: {bytes} bytes arrived; {reason}"))?;
    report.check(FIGURE, "1113, subscribed, receives the bytes", carried.len(), bytes)?;
    let expected = "no key: 1113 is not a member of hsu0001".to_owned();
    report.check(FIGURE, "1113 is told why it cannot read them", expected, reason)?;
    let nothing = world.node_mut(2)?.read_nothing().await?;
    report.check(FIGURE, "the application of 1113 gets nothing", true, nothing)
}

/// Figures 9 and 10.
pub async fn a_node_joins(world: &mut World, report: &mut Report) -> Result<()> {
    const FIGURE: &str = "Fig 9-10";
    report.chapter(FIGURE, "1113 is granted hsu0001; the message is sent again").await?;
    let start = Instant::now();
    grant(world, "hsu0001", 2).await?;
    // Again and again, as a sensor would, until 1113 reads it.
    let mut sent = 0;
    let first = loop {
        world.node_mut(0)?.app.publish(ROOM1, false, READING.as_bytes()).await?;
        sent += 1;
        if let Some(message) = world.node_mut(2)?.app.next(Duration::from_millis(3)).await {
            break message;
        }
        ensure!(start.elapsed() < PATIENCE, "1113 cannot read {} s after it was granted", PATIENCE.as_secs());
    };
    let took = start.elapsed();
    report.times_ms.insert("grant_to_readable", millis(took));
    report.tell(&format!("readable {:.0} ms after the grant was signed", millis(took)))?;
    report.check(FIGURE, "1113 reads it", READING.as_bytes().to_vec(), first.payload.to_vec())?;
    let group = world.group("hsu0001")?;
    world.members_agree(group, &[0, 1, 2]).await?;
    let mut read = 0;
    while read < sent {
        ensure!(world.node_mut(1)?.read().await? == READING, "1112 reads something else");
        read += 1;
    }
    report.check(FIGURE, "1112 goes on reading: not one message was lost while keys changed", sent, read)?;

    // What was sent before 1113 joined, handed to it once more by the broker.
    for index in 0..3 {
        world.node_mut(index)?.settle().await?;
        world.node_mut(index)?.forget_refusals();
    }
    let old = world.first_frame.clone();
    world.inject(ROOM1, old).await?;
    let (_, reason) = world.node_mut(2)?.refusal(ROOM1).await?;
    report.tell(&format!("agent of 1113, of the message from before: {reason}"))?;
    let unreadable = reason.starts_with("no key left") && world.node_mut(2)?.read_nothing().await?;
    report.check(FIGURE, "the message from before stays unreadable for 1113", true, unreadable)
}

/// Figures 12 and 13.
pub async fn second_group(world: &mut World, report: &mut Report) -> Result<()> {
    const FIGURE: &str = "Fig 12-13";
    report.chapter(FIGURE, "group hsu0002 = {1113, 1114}; everybody subscribes").await?;
    create(world, "hsu0002", "hsu0002/#", &[2, 3]).await?;
    for index in 0..NODES.len() {
        world.node_mut(index)?.app.subscribe(ROOM2).await?;
        world.node_mut(index)?.forget_refusals();
    }
    world.node_mut(3)?.app.publish(ROOM2, false, READING_2.as_bytes()).await?;
    report.tell(&format!("1114 publishes {READING_2}"))?;
    let read = world.node_mut(2)?.read().await?;
    report.check(FIGURE, "1113 reads it", READING_2.to_owned(), read)?;
    for (index, name) in NODES.iter().enumerate().take(2) {
        let (_, reason) = world.node_mut(index)?.refusal(ROOM2).await?;
        let seen = (reason, world.node_mut(index)?.read_nothing().await?);
        let expected = (format!("no key: {name} is not a member of hsu0002"), true);
        report.check(FIGURE, &format!("{name}, subscribed, does not"), expected, seen)?;
    }
    Ok(())
}

/// Figure 14.
pub async fn on_the_wire(world: &mut World, report: &mut Report) -> Result<()> {
    const FIGURE: &str = "Fig 14";
    report.chapter(FIGURE, "the same reading on the wire, where TLS ends").await?;
    world.node_mut(3)?.app.publish(OPEN, false, READING_2.as_bytes()).await?;
    world.node_mut(3)?.app.publish(ROOM2, false, READING_2.as_bytes()).await?;
    let observer = world.observer.as_mut().context("the observer")?;
    let plain = observer.next(OPEN).await?.payload;
    let sealed = observer.next(ROOM2).await?.payload;
    report.tell(&format!("plain, on {OPEN}:\n{}", hex_view(&plain)))?;
    report.tell(&format!("sealed, on {ROOM2}:\n{}", hex_view(&sealed)))?;
    let shows = |bytes: &[u8]| bytes.windows(11).any(|window| window == b"temperature");
    report.check(FIGURE, "the clear topic shows the reading to everybody", true, shows(&plain))?;
    report.check(FIGURE, "the sealed one does not", false, shows(&sealed))?;

    let signed = sealed.len() - READING_2.len();
    let (_keys, mut sealer) = lone_member(sealcast_seal::Authenticity::Group)?;
    let content = Content {
        purpose: Purpose::Message,
        class: QosClass::Acknowledged,
        retain: false,
        props: &[],
        payload: READING_2.as_bytes(),
    };
    let group = sealer.seal(now_ms(), ROOM2, &content)?.len() - READING_2.len();
    report.tell(&format!("sealing adds {signed} bytes with the sender's signature, {group} without"))?;
    report.overhead_bytes.insert("signed", signed as u64);
    report.overhead_bytes.insert("group", group as u64);
    report.check(
        FIGURE,
        "at most 100 bytes are added, 36 without signature",
        (true, true),
        (signed <= 100, group <= 36),
    )?;
    let read = world.node_mut(2)?.read().await?;
    ensure!(read == READING_2, "1113 reads {read}");
    Ok(())
}

/// A duration in milliseconds.
pub fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e5).round() / 1e2
}
