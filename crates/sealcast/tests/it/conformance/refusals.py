"""Cases: connections that are refused, packets that break the rules, and reason codes."""
import struct

import wire
from world import case


def outcome_of(world, data, connected=True):
    """What comes of these bytes."""
    client = world.connect("c") if connected else world.open("c")
    client.acks = False
    client.send(data)
    client.outcome()


def broken(world, data):
    """What comes of bytes that no client may send; a client whose broker tolerates them goes on and takes leave."""
    client = world.connect("c")
    client.acks = False
    client.send(data + wire.packet(wire.PINGREQ, 0, b""))
    client.outcome(leaves=True)


@case()
def empty_client_id(world):
    client = world.open("c")
    client.send(wire.connect(world.version, ""))
    packet = client.read()
    client.note(packet, packet["present"], packet["code"], "assigned_client_id" in packet["props"])


@case(versions=(4,))
def empty_client_id_and_a_session(world):
    outcome_of(world, wire.connect(4, "", clean=False), connected=False)


@case()
def credentials(world):
    world.connect("c", username="user", password=b"\x00\xff").settle()


@case()
def user_without_password(world):
    world.connect("c", username="user").settle()


@case(level=(6, 0, 255))
def unknown_level(world, level):
    body = wire.text("MQTT") + bytes([level, 2, 0, 0]) + (b"\0" if world.version == 5 else b"") + wire.text("c")
    outcome_of(world, wire.packet(wire.CONNECT, 0, body), connected=False)


@case(flags=(0x03, 0x1E, 0x22, 0x0A, 0x42))
def bad_connect_flags(world, flags):
    """Reserved bit; will QoS 3; will retain or will QoS without a will; a password without a user, which MQTT 5 allows."""
    tail = wire.text(world.client_id("c")) + (wire.properties({}) if world.version == 5 and flags & 4 else b"")
    tail += wire.text("t") + wire.text("p") if flags & 4 else b""
    tail += wire.text("pw") if flags & 64 else b""
    body = wire.text("MQTT") + bytes([world.version, flags, 0, 0])
    body += (wire.properties({}) if world.version == 5 else b"") + tail
    client = world.open("c")
    client.send(wire.packet(wire.CONNECT, 0, body) + wire.disconnect(world.version))
    client.outcome()


@case()
def bad_protocol_name(world):
    body = wire.text("MQXX") + bytes([world.version, 2, 0, 0]) + wire.text("c")
    outcome_of(world, wire.packet(wire.CONNECT, 0, body), connected=False)


@case()
def second_connect(world):
    outcome_of(world, wire.connect(world.version, world.client_id("c")))


@case(kind=("publish", "ping", "subscribe"))
def not_connect_first(world, kind):
    version = world.version
    outcome_of(world, {"publish": wire.publish(version, world.topic("t"), b"x"), "ping": wire.packet(wire.PINGREQ, 0, b""),
                       "subscribe": wire.subscribe(version, 1, [(world.topic("t"), 0)])}[kind], connected=False)


@case(versions=(5,))
def extended_authentication(world):
    outcome_of(world, wire.connect(5, world.client_id("c"), props={"auth_method": "none"}), connected=False)


@case(versions=(5,), name=("receive_maximum", "maximum_packet"))
def zero_in_connect(world, name):
    outcome_of(world, wire.connect(5, world.client_id("c"), props={name: 0}), connected=False)


@case(versions=(5,))
def property_twice_in_connect(world):
    twice = wire.properties({"session_expiry": 1})[1:] * 2
    body = wire.text("MQTT") + bytes([5, 2, 0, 0]) + wire.variable(len(twice)) + twice + wire.text("c")
    outcome_of(world, wire.packet(wire.CONNECT, 0, body), connected=False)


def malformed(version, topic):
    """By name: packets that no client may send once it is connected."""
    five, no_props = version == 5, wire.properties({}) if version == 5 else b""
    name, number = wire.text(topic), struct.pack(">H", 7)
    yield "qos-3", wire.packet(wire.PUBLISH, 6, name + number + no_props + b"x")
    yield "qos-0-and-dup", wire.packet(wire.PUBLISH, 8, name + no_props + b"x")
    yield "publish-to-plus", wire.publish(version, topic + "/+", b"x", 1, packet_id=7)
    yield "publish-to-hash", wire.publish(version, topic + "/#", b"x", 1, packet_id=7)
    yield "publish-without-identifier", wire.publish(version, topic, b"x", 1, packet_id=0)
    yield "publish-to-nothing", wire.publish(version, "", b"x", 1, packet_id=7)
    yield "publish-to-a-nul", wire.publish(version, topic + "/\0", b"x", 1, packet_id=7)
    yield "publish-not-utf-8", wire.publish(version, topic.encode() + b"/\xff\xfe", b"x", 1, packet_id=7)
    yield "publish-to-a-surrogate", wire.publish(version, topic.encode() + b"/\xed\xa0\x80", b"x", 1, packet_id=7)
    yield "publish-truncated", wire.packet(wire.PUBLISH, 0, b"\0\x20a")
    yield "subscribe-flags", wire.packet(wire.SUBSCRIBE, 0, number + no_props + name + b"\0")
    yield "subscribe-to-nothing", wire.packet(wire.SUBSCRIBE, 2, number + no_props)
    yield "subscribe-qos-3", wire.subscribe(version, 7, [(topic, 3)])
    yield "subscribe-reserved-option", wire.subscribe(version, 7, [(topic, 0xC1)])
    yield "subscribe-without-identifier", wire.subscribe(version, 0, [(topic, 1)])
    yield "subscribe-empty-filter", wire.subscribe(version, 7, [("", 1)])
    yield "subscribe-misplaced-hash", wire.subscribe(version, 7, [(topic + "/#/a", 1)])
    yield "subscribe-misplaced-plus", wire.subscribe(version, 7, [(topic + "/a+", 1)])
    yield "subscribe-bad-share", wire.subscribe(version, 7, [("$share//" + topic, 1)])
    yield "unsubscribe-from-nothing", wire.packet(wire.UNSUBSCRIBE, 2, number + no_props)
    yield "unsubscribe-flags", wire.packet(wire.UNSUBSCRIBE, 0, number + no_props + name)
    yield "pubrel-flags", wire.packet(wire.PUBREL, 0, number)
    yield "puback-without-identifier", wire.packet(wire.PUBACK, 0, b"")
    yield "pingreq-flags", wire.packet(wire.PINGREQ, 1, b"")
    yield "pingreq-body", wire.packet(wire.PINGREQ, 0, b"x")
    yield "disconnect-flags", wire.packet(wire.DISCONNECT, 1, b"")
    yield "type-0", wire.packet(0, 0, b"")
    yield "type-15", wire.packet(15, 0, b"")
    yield "length-of-five-bytes", b"\x30\xff\xff\xff\xff\x01"
    for kind in (wire.CONNACK, wire.SUBACK, wire.UNSUBACK, wire.PINGRESP):
        yield f"servers-{wire.NAMES[kind].lower()}", wire.packet(kind, 0, b"" if kind == wire.PINGRESP else b"\0\x07\0")
    if five:
        alias = struct.pack(">H", 7)
        yield "alias-0", wire.publish(5, topic, b"x", props={"topic_alias": 0})
        yield "alias-too-high", wire.publish(5, topic, b"x", props={"topic_alias": 65_535})
        yield "alias-unknown", wire.publish(5, "", b"x", props={"topic_alias": 1})
        yield "identifier-in-publish", wire.publish(5, topic, b"x", props={"subscription_id": 1})
        yield "identifier-0", wire.subscribe(5, 7, [(topic, 1)], {"subscription_id": 0})
        yield "foreign-property", wire.publish(5, topic, b"x", props={"session_expiry": 1})
        yield "unknown-property", wire.packet(wire.PUBLISH, 0, wire.text(topic) + b"\x02\x7f\0x")
        yield "property-twice", wire.packet(wire.PUBLISH, 0, wire.text(topic) + b"\x06\x23\0\x01\x23\0\x01x")
        yield "payload-format-2", wire.publish(5, topic, b"x", props={"payload_format": 2})
        yield "response-to-plus", wire.publish(5, topic, b"x", props={"response_topic": topic + "/+"})
        yield "no-local-shared", wire.subscribe(5, 7, [("$share/g/" + topic, 5)])
        yield "auth", wire.packet(wire.AUTH, 0, b"\x18\0")
        yield "puback-bad-code", wire.packet(wire.PUBACK, 0, alias + b"\x7f\0")
        yield "disconnect-bad-code", wire.packet(wire.DISCONNECT, 0, b"\x8c\0")
        yield "retain-handling-3", wire.subscribe(5, 7, [(topic, 0x31)])


def register():
    for version in (4, 5):
        for name, _ in malformed(version, "t"):

            def run(world, name=name):
                broken(world, dict(malformed(world.version, world.topic("t")))[name])

            run.__name__ = f"malformed-{name}"
            case(versions=(version,))(run)


register()


@case()
def what_came_before_a_malformed_packet_counts(world):
    subscriber, publisher = world.subscriber("t"), world.publisher()
    client = world.connect("broken", 0)
    client.send(wire.publish(world.version, world.topic("t"), b"before") + wire.packet(0, 0, b""))
    client.outcome()
    subscriber.until("t")
    world.end(publisher, subscriber)


@case(versions=(5,))
def without_problem_information(world):
    client = world.connect("c", props={"request_problem": 0})
    client.publish("t")
    client.unsubscribe("never")
