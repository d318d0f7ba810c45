//! The task that watches what the account which pays for entries still has.

use std::time::Duration;

use sealcast_chain::Ledger;
use sealcast_node::Tasks;
use tracing::{debug, error, warn};

const EVERY: Duration = Duration::from_secs(60);
/// With enough for fewer entries than these it is time to send more.
const FEW: u64 = 1_000;

/// See the module. Until `tasks` end.
pub async fn watch(ledger: Ledger, tasks: Tasks) {
    loop {
        match ledger.affordable().await {
            Ok(Some(0)) => {
                error!(account = %ledger.account(), "the account that pays for the ledger's entries is empty: send it some")
            }
            Ok(Some(entries @ ..FEW)) => {
                warn!(account = %ledger.account(), entries, "the account that pays for the ledger's entries is nearly empty: send it some");
            }
            Ok(_) => {}
            Err(error) => debug!("what the account that pays has is not known: {error}"),
        }
        if tasks.stop().run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return;
        }
    }
}
