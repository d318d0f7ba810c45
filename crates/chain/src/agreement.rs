//! Records of a network that its endpoints agree on.

use std::time::{Duration, Instant};

use sealcast_ledger::Record;
use sealcast_ledger_client::{NodeError, Page, Places, missing};

use crate::node::Node;

/// How long a node may have a block's state before it shows the block's logs.
const LOGS_LATE: Duration = Duration::from_secs(5);
/// How much later than one endpoint another may show the same.
const LATE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(500);

/// The records from index `from` on, which the ledger has: at most `count`, at least one. What one endpoint gives the others do
/// not contradict.
pub(crate) async fn agreed(node: &Node, places: &Places, from: u64, count: usize) -> Result<Vec<Record>, NodeError> {
    let endpoints = node.endpoints();
    let (mut attempt, mut ticker, asked) = (1, node.ticker(), Instant::now());
    loop {
        let error = match places.page(endpoints, from, count).await {
            Ok(Some(page)) => match confirm(node, places, &page).await {
                Ok(()) => {
                    places.note(&page);
                    return Ok(page.records);
                }
                Err(error) => error,
            },
            // Nodes show the state of a block a moment before its logs, and behind one URL there may be several nodes.
            Ok(None) => {
                if !node.is_embedded() && asked.elapsed() < LOGS_LATE {
                    ticker.tick().await;
                    continue;
                }
                missing(from)
            }
            Err(error @ NodeError::Answer { .. }) => error,
            Err(error) => return Err(error),
        };
        if attempt >= endpoints.count() {
            return Err(error);
        }
        // Another endpoint may know better.
        endpoints.turn_away(&error);
        attempt += 1;
    }
}

/// Whether the other endpoints have the same, as far as they answer. Waits for those that are a little behind. One that has
/// another record lies, or the one that gave the page does: the most are believed.
async fn confirm(node: &Node, places: &Places, page: &Page) -> Result<(), NodeError> {
    let (endpoints, until) = (node.endpoints(), Instant::now() + LATE);
    loop {
        let is_last_try = Instant::now() >= until;
        let comparison = places.compare(endpoints, page).await;
        if is_last_try {
            for (endpoint, index) in &comparison.hidden {
                places.tell(endpoint, *index, endpoints.name());
            }
        }
        if comparison.suffices(endpoints.count()) {
            return Ok(());
        }
        if is_last_try || !comparison.may_change() {
            return Err(comparison.disagreement());
        }
        tokio::time::sleep(POLL).await;
    }
}
