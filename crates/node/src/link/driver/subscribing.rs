//! Subscriptions of a link: at the start of a connection, and again while the broker refuses them or nothing comes.

use sealcast_mqtt::{Qos, client::Reason};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    super::{
        event::LinkEvent,
        subscription::{Subscription, Why},
    },
    Connection, Driver,
};

impl Driver {
    pub(super) fn subscribe(&mut self, connection: &mut Connection, subscription: Subscription) {
        self.broker.subscribed = Instant::now();
        let filters = subscription.filters.clone();
        let filters: Vec<_> = filters.iter().map(|filter| (filter.as_str(), Qos::AtLeastOnce)).collect();
        if let Err(rejected) = connection.client().subscribe(&filters, subscription) {
            warn!(error = %rejected.error, "cannot subscribe");
            self.refused = rejected.token.filters;
        }
    }

    pub(super) fn handle_subscribed(
        &mut self,
        subscription: Subscription,
        results: Vec<Result<Qos, Reason>>,
    ) -> Option<LinkEvent> {
        let Subscription { filters, why } = subscription;
        for (filter, result) in filters.into_iter().zip(results) {
            match result {
                Ok(_) if why == Why::Refused => info!(filter, "subscribed: the broker refused it before"),
                Ok(_) => {}
                Err(reason) => {
                    if why == Why::First {
                        warn!(
                            filter, %reason,
                            "the broker refused a subscription of this node: it asks again each 10 s, and at each record of the \
                             ledger, such as a grant of the group that has these topics"
                        );
                    }
                    if !self.refused.contains(&filter) {
                        self.refused.push(filter);
                    }
                }
            }
        }
        (why == Why::First).then_some(LinkEvent::Up)
    }

    /// A record, or time, may have given this node what the broker has refused.
    pub(super) fn subscribe_refused(&mut self, connection: &mut Connection) {
        if !self.refused.is_empty() {
            let filters = std::mem::take(&mut self.refused);
            self.subscribe(connection, Subscription { filters, why: Why::Refused });
        }
    }
}
