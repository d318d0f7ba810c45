"""Cases: overlapping and shared subscriptions, subscription identifiers, No Local."""
import wire
from world import case

NO_LOCAL = 4


def overlapping_client(world, *subscriptions, options=0, log="subscriber"):
    """A client with a SUBSCRIBE for each filter, its QoS and, in MQTT 5, its identifier."""
    client = world.connect("s", log=log).subscribe(("end", 1))
    for filter, qos, number in subscriptions:
        props = {"subscription_id": number} if world.version == 5 and number else None
        client.subscribe(filter, qos=qos, options=options, props=props)
    return client


TWO = [("t/+", 0, 1), ("t/#", 1, 2)]


@case(first=(0, 1, 2), second=(0, 1, 2))
def overlapping(world, first, second):
    subscriber, publisher = overlapping_client(world, ("t/+", first, 1), ("t/#", second, 2)), world.publisher()
    for payload, qos in (("a", 2), ("b", 1), ("c", 0)):
        publisher.publish("t/1", payload, qos)
    world.end(publisher, subscriber)
    world.unordered("subscriber")


@case(count=(3, 7))
def many_overlap(world, count):
    filters = ["t/#", "t/+/c", "t/b/+", "t/b/c", "+/b/c", "+/+/c", "+/+/+"][:count]
    subscriptions = [(filter, at % 3, at + 1) for at, filter in enumerate(filters)]
    subscriber, publisher = overlapping_client(world, *subscriptions), world.publisher()
    for payload in "abc":
        publisher.publish("t/b/c", payload, 2)
    world.end(publisher, subscriber)
    world.unordered("subscriber")


@case()
def overlapping_in_one_packet(world):
    subscriber, publisher = world.subscriber(("t/+", 0), ("t/#", 2), ("t/1", 1)), world.publisher()
    publisher.publish("t/1", qos=2)
    world.end(publisher, subscriber)
    world.unordered("subscriber")


@case()
def overlapping_retained(world):
    publisher = world.publisher()
    publisher.publish("t/1", "kept", 1, True)
    subscriber = overlapping_client(world, *TWO, ("t/1", 2, 3))
    world.end(publisher, subscriber)
    world.unordered("subscriber")


@case(versions=(5,))
def overlapping_retained_as_published(world):
    subscriber, publisher = overlapping_client(world, *TWO, options=8), world.publisher()
    publisher.publish("t/1", "kept", 1, True)
    world.end(publisher, subscriber)
    world.unordered("subscriber")


@case()
def overlapping_offline(world):
    first = world.lasting("s").subscribe("end")
    first.subscribe("t/+", qos=1)
    first.subscribe("t/#", qos=2)
    first.disconnect()
    publisher = world.publisher()
    for payload in "abc":
        publisher.publish("t/1", payload, 2)
    second = world.lasting("s", log="second")
    world.end(publisher, second)
    second.settle()
    world.unordered("second")


@case()
def overlapping_not_acknowledged(world):
    first = world.lasting("s").subscribe("end")
    first.subscribe("t/+", qos=1)
    first.subscribe("t/#", qos=1)
    first.acks = False
    publisher = world.publisher()
    publisher.publish("t/1", "a")
    publisher.publish("end", "1")
    first.until("end")
    first.drop()
    second = world.lasting("s", log="second")
    world.end(publisher, second)
    world.unordered("s", "second")


@case()
def overlapping_and_one_is_acknowledged(world):
    first = world.lasting("s").subscribe("end")
    first.subscribe("t/+", qos=1)
    first.subscribe("t/#", qos=1)
    first.acks = False
    publisher = world.publisher()
    publisher.publish("t/1", "a")
    first.send(wire.ack(wire.PUBACK, first.until("t/1")["id"]))
    publisher.publish("end", "1")
    first.until("end")
    first.settle()
    first.drop()
    second = world.lasting("s", log="second")
    world.end(publisher, second)
    world.unordered("s", "second")


@case()
def overlapping_until_one_ends(world):
    subscriber, publisher = overlapping_client(world, *TWO), world.publisher()
    publisher.publish("t/1", "two")
    publisher.publish("end", "1")
    subscriber.until("end")
    subscriber.unsubscribe("t/+")
    publisher.publish("t/1", "one")
    world.end(publisher, subscriber)
    world.unordered("subscriber")


@case(versions=(5,))
def overlapping_after_an_alias(world):
    subscriber, publisher = overlapping_client(world, *TWO), world.publisher()
    publisher.publish("t/1", "a", props={"topic_alias": 1})
    publisher.publish("", "b", props={"topic_alias": 1})
    world.end(publisher, subscriber)
    world.unordered("subscriber")


@case(qos=(0, 1, 2))
def overlapping_will(world, qos):
    subscriber, publisher = overlapping_client(world, *TWO), world.publisher()
    world.connect("dying", 0, will={"topic": "t/1", "payload": b"gone", "qos": qos}).drop()
    subscriber.until("t/1")
    world.end(publisher, subscriber)
    world.unordered("subscriber")


@case(versions=(5,), qos=(0, 1, 2))
def subscription_identifier(world, qos):
    subscriber, publisher = world.connect("s").subscribe(("end", 1)), world.publisher()
    subscriber.subscribe("t", qos=qos, props={"subscription_id": 268_435_455})
    publisher.publish("t", "a", 2)
    subscriber.subscribe("t", qos=qos, props={"subscription_id": 1})
    publisher.publish("t", "b", 2)
    subscriber.subscribe("t", qos=qos)
    publisher.publish("t", "c", 2)
    world.end(publisher, subscriber)


@case(versions=(5,))
def subscription_identifier_of_a_retained_message(world):
    publisher = world.publisher()
    publisher.publish("t", "kept", 1, True)
    subscriber = world.subscriber("t", props={"subscription_id": 7})
    world.end(publisher, subscriber)


@case(versions=(5,))
def no_local(world):
    client, other = world.subscriber("t", options=NO_LOCAL), world.subscriber("t", name="other", options=NO_LOCAL)
    client.publish("t", "mine")
    other.publish("t", "theirs")
    world.end(client, client, other)


@case(versions=(5,))
def no_local_overlaps(world):
    client = world.subscriber(("t/+", 1 | NO_LOCAL), ("t/#", 1))
    client.publish("t/1", "mine")
    world.end(client, client)
    world.unordered("subscriber")


@case(members=(1, 2))
def shared(world, members):
    clients = [world.subscriber("$share/g/t", name=f"member{at}") for at in range(members)]
    publisher = world.publisher()
    for number in range(6):
        publisher.publish("t", str(number))
    world.end(publisher, *clients)
    # Which of them gets a message is the broker's choice.
    messages = [message for client in clients for message in client.log["messages"]]
    world.transcript.clear()
    world.transcript["members"] = sorted(map(repr, messages))


@case(qos=(0, 1, 2))
def shared_and_alone(world, qos):
    subscriber, publisher = world.subscriber("t", "$share/g/t", qos=qos), world.publisher()
    for payload in "abc":
        publisher.publish("t", payload, 2)
    world.end(publisher, subscriber)
    world.unordered("subscriber")


@case()
def two_shares(world):
    subscriber, publisher = world.subscriber("$share/g/t", "$share/h/t", "$share/g/#"), world.publisher()
    publisher.publish("t")
    world.end(publisher, subscriber)
    world.transcript["subscriber"]["messages"] = [m for m in world.transcript["subscriber"]["messages"] if m[0] == "t"]


@case()
def shared_gets_nothing_retained(world):
    publisher = world.publisher()
    publisher.publish("t", "kept", 1, True)
    subscriber = world.subscriber("$share/g/t")
    world.end(publisher, subscriber)


@case()
def shared_ends(world):
    subscriber, publisher = world.subscriber("$share/g/t", "t/#"), world.publisher()
    subscriber.unsubscribe("$share/g/t")
    publisher.publish("t")
    world.end(publisher, subscriber)
