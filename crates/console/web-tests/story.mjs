// The experiment as the stand-in tells it: the steps, and how the valve's machine behaves in each scene.
const step = (chapter, title, text, expected, seen) => ({ chapter, title, text, expected, seen });

export const STORY = [
  step('Fig 5-7', 'Four nodes enrol', 'Each node makes its key, asks the CA for a certificate, and the contract gives it a number.', '4 nodes, numbers 1 to 4'),
  step('Fig 8', '1112, a member, reads the message', '1111 publishes a reading on hsu0001/room1. Group hsu0001 is {1111, 1112}.', '{"sensor":"1111","temperature":27.0}'),
  step('Fig 8', '1113 receives bytes and cannot read them', '1113 subscribes to the same topic and is not a member.', 'no key: 1113 is not a member of hsu0001'),
  step('Fig 9-10', '1113 is granted hsu0001', 'The operator writes the grant on the ledger; a member adds 1113 to the group.', '1113 reads the message'),
  step('Fig 11', "The contract's record of 1113", 'The record is read back from the chain and compared with the certificate.', 'the same public key'),
  step('Fig 12', '1112 is revoked', 'The group gets a new key, which 1112 does not have.', 'no key: 1112 is not a member of hsu0001'),
  step('Fig 13-14', 'Two groups at one broker', 'hsu0002 is {1113, 1114}; everybody subscribes to everything.', 'each reads its own group alone'),
  step('Valve', 'Act 1: plain MQTT, the broker takes 5 degrees off', 'The controller believes the broker. The valve stays shut, the machine is damaged.', 'the machine is above 28 degrees'),
  step('Valve', 'Act 2: sealed, the broker forges', 'Every forged message is refused. Nothing arrives, so the valve opens by itself: fail safe.', 'the machine stays below 28 degrees'),
  step('Valve', 'Act 3: the thermometer breaks', 'Its agent blocks readings that cannot be true, and says so.', 'blocked by step'),
];

/** What the controller is told, and whether the valve is open, in each scene. */
export const SCENES = [
  { told: ({ temperature }) => temperature - 5, opens: ({ shown }) => shown > 25 },
  { told: ({ temperature }) => temperature, opens: ({ temperature, open }) => temperature > (open ? 23.5 : 25) },
  { told: ({ temperature }) => temperature, opens: ({ temperature, open }) => temperature > (open ? 23.5 : 25) },
];
