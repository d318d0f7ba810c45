"""Cases: publishing and subscribing, sessions, and QoS flows in which packets are lost or repeated."""
import wire
from world import case

ALL, ACKED = (0, 1, 2), (1, 2)


@case(published=ALL, subscribed=ALL)
def qos(world, published, subscribed):
    subscriber, publisher = world.subscriber("t/+", qos=subscribed), world.publisher()
    for payload in ("a", "b", "c"):
        publisher.publish("t/1", payload, published)
    world.end(publisher, subscriber)


@case(wildcard=("t/#", "t/+/c", "+/b/c", "#", "t/b/c"))
def filters(world, wildcard):
    subscriber, publisher = world.subscriber(wildcard), world.publisher()
    for topic in ("t", "t/b", "t/b/c", "t//c", "t/b/c/d", "u/b/c"):
        publisher.publish(topic, topic)
    world.end(publisher, subscriber)
    if wildcard == "#":
        world.transcript["subscriber"]["messages"] = sorted(set(map(repr, world.transcript["subscriber"]["messages"])))


@case(bytes=(0, 1, 127, 128, 16_384, 200_000))
def payload(world, bytes):
    subscriber, publisher = world.subscriber("t", qos=2), world.publisher()
    for qos in ALL:
        publisher.publish("t", b"x" * bytes, qos)
    world.end(publisher, subscriber)


@case()
def unicode(world):
    subscriber, publisher = world.subscriber("t/ä/+/😀"), world.publisher()
    publisher.publish("t/ä/ /😀", "grüße 😀".encode())
    world.end(publisher, subscriber)


@case()
def order(world):
    subscriber, publisher = world.subscriber("t/#", qos=2), world.publisher()
    for number in range(100):
        publisher.publish(f"t/{number % 3}", str(number), 1 + number % 2)
    world.end(publisher, subscriber)


@case(qos=ACKED)
def nobody_subscribes(world, qos):
    world.publisher().publish("nobody", qos=qos)


@case()
def unsubscribe(world):
    subscriber, publisher = world.subscriber("a", "b"), world.publisher()
    subscriber.unsubscribe("a", "never")
    publisher.publish("a"), publisher.publish("b")
    world.end(publisher, subscriber)


@case()
def subscribe_again(world):
    subscriber, publisher = world.subscriber("t", qos=0), world.publisher()
    subscriber.subscribe("t", qos=2)
    publisher.publish("t", qos=2)
    world.end(publisher, subscriber)


@case()
def ping(world):
    world.subscriber().settle()


@case()
def brokers_own_topics(world):
    subscriber, publisher = world.subscriber("$SYS/broker/version", qos=0), world.publisher()
    world.end(publisher, subscriber)


@case(qos=ACKED)
def offline_session(world, qos):
    world.lasting("s").subscribe("t", "end", qos=qos).disconnect()
    publisher = world.publisher()
    for payload in ("a", "b", "c"):
        publisher.publish("t", payload, qos)
    subscriber = world.lasting("s")
    world.end(publisher, subscriber)
    subscriber.settle()


@case()
def session_present(world):
    world.lasting("s").disconnect()
    world.lasting("s").disconnect()
    world.lasting("s", clean=True).disconnect()
    world.connect("s").disconnect()
    world.lasting("s").disconnect()


@case()
def clean_start_ends_the_session(world):
    world.lasting("s").subscribe("t").disconnect()
    publisher = world.publisher()
    publisher.publish("t", "lost")
    world.connect("s").disconnect()
    subscriber = world.lasting("s").subscribe("end")
    world.end(publisher, subscriber)


@case(versions=(5,))
def session_without_expiry(world):
    world.lasting("s", expiry=0).subscribe("t").disconnect()
    world.lasting("s").disconnect()


@case(versions=(5,), code=(0, 4))
def disconnect_changes_the_expiry(world, code):
    world.lasting("s").subscribe("t").disconnect(code, {"session_expiry": 0})
    world.lasting("s").disconnect()


@case(versions=(5,))
def disconnect_sets_an_expiry_after_none(world):
    client = world.connect("s")
    client.send(wire.disconnect(5, 0, {"session_expiry": 10}))
    client.outcome()


@case()
def take_over(world):
    first = world.lasting("s").subscribe("t", "end")
    second = world.lasting("s", log="second")
    first.outcome()
    publisher = world.publisher()
    publisher.publish("t")
    world.end(publisher, second)


@case(qos=ACKED)
def not_acknowledged(world, qos):
    first = world.lasting("s").subscribe("t", "end", qos=qos)
    first.acks = False
    publisher = world.publisher()
    for payload in ("a", "b"):
        publisher.publish("t", payload, qos)
    first.until("t", b"b")
    first.drop()
    second = world.lasting("s", log="second")
    world.end(publisher, second)


@case()
def released_once_more(world):
    first = world.lasting("s").subscribe("t", "end", qos=2)
    first.acks = False
    publisher = world.publisher()
    publisher.publish("t", "a", 2)
    first.send(wire.ack(wire.PUBREC, first.until("t")["id"]))
    first.expect(wire.PUBREL)
    first.drop()
    second = world.lasting("s", log="second")
    second.note(second.expect(wire.PUBREL))
    world.end(publisher, second)


@case(qos=ACKED)
def published_twice(world, qos):
    subscriber, publisher = world.subscriber("t", qos=2), world.publisher()
    publisher.acks = False
    kind = wire.PUBACK if qos == 1 else wire.PUBREC
    for dup in (False, True):
        publisher.send(wire.publish(world.version, world.topic("t"), b"a", qos, False, dup, 7))
        publisher.note(publisher.expect(kind, 7))
    if qos == 2:
        publisher.send(wire.ack(wire.PUBREL, 7))
        publisher.expect(wire.PUBCOMP, 7)
    publisher.acks = True
    world.end(publisher, subscriber)


@case()
def published_again_on_the_next_connection(world):
    subscriber = world.subscriber("t", qos=2)
    first = world.lasting("p", side=0)
    first.acks = False
    first.send(wire.publish(world.version, world.topic("t"), b"a", 2, False, False, 7))
    first.expect(wire.PUBREC, 7)
    first.drop()
    second = world.lasting("p", side=0, log="second")
    second.acks = False
    second.send(wire.publish(world.version, world.topic("t"), b"a", 2, False, True, 7))
    second.note(second.expect(wire.PUBREC, 7))
    second.send(wire.ack(wire.PUBREL, 7))
    second.note(second.expect(wire.PUBCOMP, 7))
    second.acks, second.last_id = True, 7
    world.end(second, subscriber)


@case()
def released_on_the_next_connection(world):
    subscriber = world.subscriber("t", qos=2)
    first = world.lasting("p", side=0)
    first.acks = False
    first.send(wire.publish(world.version, world.topic("t"), b"a", 2, False, False, 7))
    first.expect(wire.PUBREC, 7)
    first.drop()
    second = world.lasting("p", side=0, log="second")
    second.send(wire.ack(wire.PUBREL, 7))
    second.note(second.expect(wire.PUBCOMP, 7))
    second.last_id = 7
    world.end(second, subscriber)


@case()
def released_although_unknown(world):
    publisher = world.publisher()
    publisher.send(wire.ack(wire.PUBREL, 9))
    packet = publisher.expect(wire.PUBCOMP, 9)
    publisher.note(packet, packet["code"])


@case(kind=(wire.PUBACK, wire.PUBREC, wire.PUBCOMP))
def acknowledged_although_unknown(world, kind):
    client = world.connect("c")
    client.acks = False
    client.send(wire.ack(kind, 9))
    if kind == wire.PUBREC:
        packet = client.expect(wire.PUBREL, 9)
        client.note(packet, packet["code"])
    client.settle()


@case(versions=(5,), qos=ACKED)
def refused_by_the_subscriber(world, qos):
    subscriber, publisher = world.subscriber("t", qos=qos), world.publisher()
    subscriber.acks = False
    publisher.publish("t", "a", qos)
    kind = wire.PUBACK if qos == 1 else wire.PUBREC
    subscriber.send(wire.ack(kind, subscriber.until("t")["id"], 0x83))
    subscriber.acks = True
    world.end(publisher, subscriber)


@case()
def identifiers_in_use_are_free_again(world):
    subscriber, publisher = world.subscriber("t", qos=2), world.publisher()
    for payload in ("a", "b", "c"):
        for qos in ACKED:
            publisher.last_id = 41
            publisher.publish("t", payload, qos)
    world.end(publisher, subscriber)
