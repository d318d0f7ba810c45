//! Who publishes and subscribes where: what a broker's access rules have to say.

use sealcast_identity::{HUB_NAME, OPERATOR_NAME};
use sealcast_ledger::{Replica, TopicFilter};
use sealcast_topic::ControlTopic;

/// What one name may do. The name is the common name of its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// A device, the hub or the operator.
    pub name: String,
    /// Filters of what it publishes.
    pub publishes: Vec<String>,
    /// Filters of what it subscribes to.
    pub subscribes: Vec<String>,
}

/// All rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The hub and the operator.
    pub staff: [User; 2],
    /// The active devices, with the topics of the groups that they are granted. What each may do besides: [`of_device`].
    pub devices: Vec<User>,
}

impl Access {
    /// As a ledger has it.
    pub fn new(replica: &Replica) -> Self {
        let devices = replica.devices().filter(|device| device.is_active()).map(|device| {
            let granted = replica.groups().filter(|group| replica.is_granted(group.number, device.number));
            let filters: Vec<String> = granted.flat_map(|group| &group.filters).map(TopicFilter::to_string).collect();
            User { name: device.id.to_string(), publishes: filters.clone(), subscribes: filters }
        });
        Self { devices: devices.collect(), ..Self::without_groups() }
    }

    /// What has to be allowed before there is a ledger.
    pub fn without_groups() -> Self {
        let keys = ControlTopic::Keys { device: "+" };
        let checkpoint = ControlTopic::Checkpoint { device: "+" };
        let inbox = ControlTopic::Inbox { device: "+", group: "+", committer: "+" };
        let hub = User {
            name: HUB_NAME.into(),
            publishes: texts(&[ControlTopic::Ledger, ControlTopic::Response { node: "+" }]),
            subscribes: texts(&[ControlTopic::Request { node: "+" }, ControlTopic::Head, keys, checkpoint, inbox]),
        };
        let operator = User {
            name: OPERATOR_NAME.into(),
            publishes: texts(&[ControlTopic::Request { node: OPERATOR_NAME }, ControlTopic::Head]),
            subscribes: texts(&[ControlTopic::Response { node: OPERATOR_NAME }, ControlTopic::Ledger]),
        };
        Self { staff: [hub, operator], devices: Vec::new() }
    }

    /// Every name with all that it may do.
    pub fn users(&self) -> Vec<User> {
        let devices = self.devices.iter().map(|granted| {
            let mut user = of_device(&granted.name);
            user.publishes.extend_from_slice(&granted.publishes);
            user.subscribes.extend_from_slice(&granted.subscribes);
            user
        });
        self.staff.iter().cloned().chain(devices).collect()
    }
}

/// What each device may do with Sealcast's own topics. `name` may be what a broker puts a user's name in the place of.
pub fn of_device(name: &str) -> User {
    let own = ControlTopic::Inbox { device: name, group: "+", committer: "+" };
    let checkpoint = ControlTopic::Checkpoint { device: name };
    let sent = ControlTopic::Inbox { device: "+", group: "+", committer: name };
    User {
        name: name.to_owned(),
        publishes: texts(&[
            ControlTopic::Request { node: name },
            ControlTopic::Keys { device: name },
            checkpoint,
            // A Welcome that was read is taken away.
            own,
            sent,
        ]),
        subscribes: texts(&[
            ControlTopic::Response { node: name },
            ControlTopic::Ledger,
            ControlTopic::Head,
            ControlTopic::Keys { device: "+" },
            checkpoint,
            own,
        ]),
    }
}

fn texts(topics: &[ControlTopic<'_>]) -> Vec<String> {
    topics.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
pub(super) fn example() -> Access {
    let filters = vec!["hsu0001/#".to_owned(), "room/+/set".to_owned()];
    let device = User { name: "1111".into(), publishes: filters.clone(), subscribes: filters };
    Access { devices: vec![device], ..Access::without_groups() }
}
