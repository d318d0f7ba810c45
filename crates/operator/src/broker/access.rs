//! Who publishes and subscribes where: what a broker's access rules have to say.

use sealcast_identity::{HUB_NAME, OPERATOR_NAME};
use sealcast_ledger::{Replica, TopicFilter};
use sealcast_topic::{ControlTopic, Wire};

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
    /// The active devices, with the topics of the groups that they are granted. What each may do besides:
    /// [`Self::of_device`].
    pub devices: Vec<User>,
    /// How Sealcast's own topics are written there.
    wire: Wire,
}

impl Access {
    /// As a ledger has it.
    pub fn new(replica: &Replica, wire: Wire) -> Self {
        let devices = replica.devices().filter(|device| device.is_active()).map(|device| {
            let granted = replica.groups().filter(|group| replica.is_granted(group.number, device.number));
            let filters: Vec<String> = granted.flat_map(|group| &group.filters).map(TopicFilter::to_string).collect();
            User { name: device.id.to_string(), publishes: filters.clone(), subscribes: filters }
        });
        Self { devices: devices.collect(), ..Self::without_groups(wire) }
    }

    /// What has to be allowed before there is a ledger.
    pub fn without_groups(wire: Wire) -> Self {
        let keys = ControlTopic::Keys { device: "+" };
        let checkpoint = ControlTopic::Checkpoint { device: "+" };
        let inbox = ControlTopic::Inbox { device: "+", group: "+", committer: "+" };
        let hub = User {
            name: HUB_NAME.into(),
            publishes: texts(&wire, &[ControlTopic::Ledger, ControlTopic::Response { node: "+" }]),
            // Each connection of Sealcast's own subscribes to answers, though the hub asks nobody: RabbitMQ closes a connection
            // for a subscription that it refuses.
            subscribes: texts(
                &wire,
                &[
                    ControlTopic::Request { node: "+" },
                    ControlTopic::Response { node: HUB_NAME },
                    ControlTopic::Head,
                    keys,
                    checkpoint,
                    inbox,
                ],
            ),
        };
        let operator = User {
            name: OPERATOR_NAME.into(),
            publishes: texts(&wire, &[ControlTopic::Request { node: OPERATOR_NAME }, ControlTopic::Head]),
            subscribes: texts(&wire, &[ControlTopic::Response { node: OPERATOR_NAME }, ControlTopic::Ledger]),
        };
        Self { staff: [hub, operator], devices: Vec::new(), wire }
    }

    /// Every name with all that it may do.
    pub fn users(&self) -> Vec<User> {
        let devices = self.devices.iter().map(|granted| self.whole(granted));
        self.staff.iter().cloned().chain(devices).collect()
    }

    /// What is to be said beside a rule for whatever name a user has. Such a rule does not fit a name that topics have with
    /// other characters.
    pub fn beside_pattern(&self) -> Vec<User> {
        let devices = self.devices.iter().map(|granted| match self.wire.name(&granted.name) == granted.name {
            true => granted.clone(),
            false => self.whole(granted),
        });
        self.staff.iter().cloned().chain(devices).collect()
    }

    fn whole(&self, granted: &User) -> User {
        let mut user = self.of_device(&granted.name);
        user.publishes.extend_from_slice(&granted.publishes);
        user.subscribes.extend_from_slice(&granted.subscribes);
        user
    }

    /// What each device may do with Sealcast's own topics. `name` may be what a broker puts a user's name in the place of.
    pub fn of_device(&self, name: &str) -> User {
        let own = ControlTopic::Inbox { device: name, group: "+", committer: "+" };
        let checkpoint = ControlTopic::Checkpoint { device: name };
        let sent = ControlTopic::Inbox { device: "+", group: "+", committer: name };
        let (request, keys) = (ControlTopic::Request { node: name }, ControlTopic::Keys { device: name });
        let (response, keys_of_all) = (ControlTopic::Response { node: name }, ControlTopic::Keys { device: "+" });
        let (ledger, head) = (ControlTopic::Ledger, ControlTopic::Head);
        User {
            name: name.to_owned(),
            // A Welcome that was read is taken away, so it writes to its own inbox, too.
            publishes: texts(&self.wire, &[request, keys, checkpoint, own, sent]),
            subscribes: texts(&self.wire, &[response, ledger, head, keys_of_all, checkpoint, own]),
        }
    }
}

fn texts(wire: &Wire, topics: &[ControlTopic<'_>]) -> Vec<String> {
    topics.iter().map(|topic| wire.outward(&topic.to_string()).into_owned()).collect()
}

#[cfg(test)]
pub(super) fn example() -> Access {
    let filters = vec!["hsu0001/#".to_owned(), "room/+/set".to_owned()];
    let device = |name: &str| User { name: name.into(), publishes: filters.clone(), subscribes: filters.clone() };
    Access { devices: vec![device("1111"), device("a.b")], ..Access::without_groups(Wire::foreign()) }
}
