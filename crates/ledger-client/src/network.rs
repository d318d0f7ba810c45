//! The ledger's entries from the endpoints of its network, for a node that does not want its hub to choose what it sees.
//!
//! An endpoint cannot make up an entry, since the node's replica verifies each. It can hide the newest ones, and it can show what
//! was signed in another order or at another time. With several endpoints that is noticed here, and the endpoint is named.

mod watched;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use alloy_primitives::Address;
use alloy_sol_types::sol;
use futures_util::future::join_all;
use sealcast_ledger::{LedgerId, Record};
use tracing::error;

use self::watched::Watched;
pub use self::watched::{EndpointState, MAX_LATE_MS};
use crate::{
    Comparison, Endpoints, NodeError, Page, Places,
    places::{heightCall, missing},
};

/// Records in one `eth_getLogs`.
const PAGE: usize = 64;

sol! {
    function deployedAt() external view returns (uint64);
}

/// See the module.
#[derive(Debug)]
pub struct NetworkLedger {
    endpoints: Endpoints,
    id: LedgerId,
    places: OnceLock<Places>,
    watched: Mutex<Watched>,
}

/// What endpoints show in one place, and how many show it.
struct Version {
    records: Vec<Record>,
    votes: usize,
    endpoints: Vec<String>,
}

impl NetworkLedger {
    /// A client of the ledger `id`, which comes from the node's configuration. Asks nothing.
    pub fn new(endpoints: Endpoints, id: LedgerId) -> Self {
        let watched = Mutex::new(Watched::new(endpoints.each().map(|endpoint| endpoint.name().to_owned())));
        Self { endpoints, id, places: OnceLock::new(), watched }
    }

    /// The final records from index `from` on, in order, at most `max`: at least one, or none if no endpoint shows that many.
    ///
    /// Where endpoints show different ones, `verified` tells how many of those that it is given, from `from` on, continue the
    /// node's ledger. What does not verify is not given out. If more than one version does, the most endpoints are believed.
    ///
    /// # Errors
    /// No endpoint answers, or as many show one ledger as another.
    pub async fn records(
        &self,
        from: u64,
        max: usize,
        now_ms: u64,
        verified: impl Fn(&[Record]) -> usize + Send + Sync,
    ) -> Result<Vec<Record>, NodeError> {
        let heights = join_all(self.endpoints.each().map(|endpoint| self.height(endpoint))).await;
        self.watched().note_heights(&heights, now_ms);
        let mut longer = Vec::new();
        let (mut reached, mut failure) = (false, None);
        for (at, height) in heights.into_iter().enumerate() {
            match height {
                Ok(height) if height > from => longer.push((at, height)),
                Ok(_) => reached = true,
                Err(error) => failure = Some(error),
            }
        }
        self.watched().trusted_first(&mut longer);
        for (at, height) in longer {
            let wanted = usize::try_from(height - from).unwrap_or(usize::MAX).min(max).min(PAGE);
            match self.read(at, from, wanted, &verified).await {
                Ok(records) => {
                    self.watched().note_shown(at);
                    return Ok(records);
                }
                // Behind one address may be several nodes, of which one is behind. What stays so is no accident.
                Err(NodeError::Answer { .. }) if self.watched().note_unshown(at, height, now_ms) => {}
                Err(error) => (reached, failure) = (false, Some(error)),
            }
        }
        match failure {
            Some(error) if !reached => Err(error),
            _ if !reached => Err(NodeError::answer("eth_getLogs", format!("no endpoint shows the entry {from}"))),
            _ => Ok(Vec::new()),
        }
    }

    /// At which contract the ledger is read.
    pub fn id(&self) -> LedgerId {
        self.id
    }

    /// The node has all entries of this contract, and by them the next one is for another: nothing more comes here. Gives the
    /// reason, and logs it once.
    pub fn note_left(&self, for_another: LedgerId) -> String {
        let why = format!(
            "the ledger is at the contract {for_another}, and this agent reads it at {}, which takes no more entries",
            self.id
        );
        if self.watched().left.replace(for_another) != Some(for_another) {
            error!(
                "{why}. Name endpoints of that network in `rpc` of [ledger] in agent.toml, leave out `contract`, and start the agent \
                 again"
            );
        }
        why
    }

    /// What is known of each endpoint, in the order of the configuration.
    pub fn states(&self) -> Vec<EndpointState> {
        self.watched().states()
    }

    /// From which entry on the endpoints show different ledgers, each of which verifies, if nothing can be read because of it.
    pub fn parted(&self) -> Option<u64> {
        self.watched().parted
    }

    /// How many final entries one endpoint has.
    async fn height(&self, endpoint: Endpoints) -> Result<u64, NodeError> {
        let chain_id = endpoint.chain_id().await?;
        if chain_id != self.id.chain_id {
            let what = format!("it is of chain {chain_id}, and the ledger is at {}", self.id);
            return Err(NodeError::answer("eth_chainId", what));
        }
        endpoint.view(Address::from(self.id.address), heightCall {}).await
    }

    /// Records as the endpoint `at` shows them, unless the others know better.
    async fn read(
        &self,
        at: usize,
        from: u64,
        count: usize,
        verified: &(impl Fn(&[Record]) -> usize + Send + Sync),
    ) -> Result<Vec<Record>, NodeError> {
        let first = self.endpoints.beginning_with(at);
        let Some(alone) = self.endpoints.each().nth(at) else {
            return Err(NodeError::answer("eth_getLogs", "there is no endpoint"));
        };
        let places = self.places(&alone).await?;
        let Some(page) = places.page(&alone, from, count).await? else {
            // An endpoint may have said that the contract is in a later block than it is.
            places.begin_at(self.deployed_at(&self.endpoints).await?);
            return Err(missing(from));
        };
        let comparison = places.compare(&first, &page).await;
        let is_repeated = self.watched().given_from.replace(from) == Some(from);
        if comparison.differ.is_empty() && !is_repeated {
            self.watched().parted = None;
            places.note(&page);
            return Ok(page.records);
        }
        self.choose(versions(first.name(), page, comparison), verified)
    }

    async fn places(&self, endpoint: &Endpoints) -> Result<&Places, NodeError> {
        if let Some(places) = self.places.get() {
            return Ok(places);
        }
        let deployed_at = self.deployed_at(endpoint).await?;
        Ok(self.places.get_or_init(|| Places::new(self.id.address, deployed_at)))
    }

    /// The first block that one of `endpoints` says the contract is in.
    async fn deployed_at(&self, endpoints: &Endpoints) -> Result<u64, NodeError> {
        let address = Address::from(self.id.address);
        let said = endpoints.each().map(|endpoint| async move { endpoint.view(address, deployedAtCall {}).await });
        let mut first: Result<u64, NodeError> = Err(missing(0));
        for answer in join_all(said).await {
            first = match (first, answer) {
                (Ok(one), Ok(other)) => Ok(one.min(other)),
                (Ok(one), Err(_)) => Ok(one),
                (Err(_), answer) => answer,
            };
        }
        first
    }

    /// The version that continues the node's ledger; if several do, that of the most endpoints.
    fn choose(&self, all: Vec<Version>, verified: &impl Fn(&[Record]) -> usize) -> Result<Vec<Record>, NodeError> {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for version in all {
            let count = verified(&version.records);
            match count == version.records.len() && count > 0 {
                true => good.push(version),
                false => bad.push((version.records.get(count).map(|record| record.index), version.endpoints)),
            }
        }
        let mut watched = self.watched();
        for (index, endpoints) in bad {
            for endpoint in endpoints {
                if watched.note_false(&endpoint, index) {
                    error!(%endpoint, index, "an endpoint of the ledger's network shows an entry that does not verify: it lies, \
                        and what it shows is not taken");
                }
            }
        }
        good.sort_by_key(|version| std::cmp::Reverse(version.votes));
        let mut good = good.into_iter();
        let Some(best) = good.next() else {
            return Err(NodeError::answer("eth_getLogs", "no endpoint shows entries that verify"));
        };
        let rest: Vec<Version> = good.collect();
        if rest.iter().map(|version| version.votes).sum::<usize>() >= best.votes {
            let others = || rest.iter().flat_map(|version| &version.records);
            let parted = best.records.iter().find(|record| others().any(|o| o.index == record.index && o != *record));
            let index = parted.map(|record| record.index);
            let was_parted = std::mem::replace(&mut watched.parted, index);
            if was_parted != index {
                tell_parted(index);
            }
            return Err(NodeError::answer("eth_getLogs", "as many endpoints show one ledger as another"));
        }
        for endpoint in rest.iter().flat_map(|version| &version.endpoints) {
            watched.note_false(endpoint, None);
        }
        watched.parted = None;
        Ok(best.records)
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell_parted(index: Option<u64>) {
    error!(
        index,
        "the endpoints of the ledger's network show different ledgers from this entry on, and each verifies: whoever may sign has \
         signed twice, or a branch of the network counts as final. Nothing is read until they agree"
    );
}

/// What is shown in the place of `page`, each with those that show it.
fn versions(name: &str, page: Page, comparison: Comparison) -> Vec<Version> {
    let mut all = vec![Version { records: page.records, votes: comparison.agree, endpoints: vec![name.to_owned()] }];
    for other in comparison.differ {
        match all.iter_mut().find(|version| version.records == other.records) {
            Some(same) => {
                same.votes += 1;
                same.endpoints.push(other.endpoint);
            }
            None => all.push(Version { records: other.records, votes: 1, endpoints: vec![other.endpoint] }),
        }
    }
    all
}

#[cfg(test)]
mod tests;
