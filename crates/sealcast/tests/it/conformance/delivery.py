"""Cases: retained messages, wills, expiry, topic aliases, flow control, sizes and properties."""
import time

import wire
from world import case

ALL, ACKED = (0, 1, 2), (1, 2)


@case(published=ALL, subscribed=ALL)
def retained(world, published, subscribed):
    publisher = world.publisher()
    publisher.publish("t", "old", published, True)
    publisher.publish("t", "kept", published, True)
    world.barrier(publisher)
    subscriber = world.subscriber("t", qos=subscribed)
    publisher.publish("t", "live", published, True)
    world.end(publisher, subscriber)


@case(qos=ALL)
def retained_and_deleted(world, qos):
    publisher = world.publisher()
    publisher.publish("t", "kept", 1, True)
    publisher.publish("t", b"", qos, True)
    world.barrier(publisher)
    subscriber = world.subscriber("t")
    world.end(publisher, subscriber)


@case(qos=ALL)
def deletion_is_seen(world, qos):
    publisher = world.publisher()
    publisher.publish("t", "kept", 1, True)
    subscriber = world.subscriber("t", qos=2)
    publisher.publish("t", b"", qos, True)
    world.end(publisher, subscriber)


@case()
def retained_for_wildcards(world):
    publisher = world.publisher()
    for topic in ("t/a", "t/b", "u/a"):
        publisher.publish(topic, topic, 1, True)
    subscriber = world.subscriber("t/#")
    world.end(publisher, subscriber)
    world.unordered("subscriber")


@case(versions=(5,), handling=(0, 1, 2))
def retain_handling(world, handling):
    publisher = world.publisher()
    publisher.publish("t", "kept", 1, True)
    subscriber = world.subscriber("t", options=handling << 4).subscribe("t", options=handling << 4)
    world.end(publisher, subscriber)


@case(versions=(5,), kept=(0, 1))
def retain_as_published(world, kept):
    subscriber, publisher = world.subscriber("t", options=kept << 3), world.publisher()
    publisher.publish("t", "plain"), publisher.publish("t", "kept", 1, True)
    world.end(publisher, subscriber)


@case(versions=(5,))
def retained_has_properties(world):
    publisher = world.publisher()
    publisher.publish("t", "kept", 1, True, {"content_type": "text/plain", "user": [["a", "1"], ["a", "2"]]})
    subscriber = world.subscriber("t")
    world.end(publisher, subscriber)


WILL = {"topic": "will", "payload": b"gone"}


@case(qos=ALL, retain=(False, True))
def will(world, qos, retain):
    subscriber, publisher = world.subscriber("will", qos=2), world.publisher()
    world.connect("dying", 0, will={**WILL, "qos": qos, "retain": retain}).drop()
    subscriber.until("will")
    late = world.subscriber("will", name="late")
    world.end(publisher, subscriber, late)


@case()
def no_will_after_disconnect(world):
    subscriber, publisher = world.subscriber("will"), world.publisher()
    world.connect("dying", 0, will=WILL).disconnect()
    world.end(publisher, subscriber)


@case(versions=(5,))
def will_after_disconnect_with_will(world):
    subscriber, publisher = world.subscriber("will"), world.publisher()
    world.connect("dying", 0, will=WILL).disconnect(4)
    subscriber.until("will")
    world.end(publisher, subscriber)


@case()
def will_after_a_malformed_packet(world):
    subscriber, publisher = world.subscriber("will"), world.publisher()
    dying = world.connect("dying", 0, will=WILL)
    dying.send(bytes([0xF3, 0, 0]))
    subscriber.until("will")
    world.end(publisher, subscriber)


@case()
def will_after_silence(world):
    subscriber, publisher = world.subscriber("will"), world.publisher()
    world.connect("dying", 0, keep_alive=1, will=WILL)
    subscriber.until("will")
    world.end(publisher, subscriber)


@case()
def will_after_take_over(world):
    subscriber, publisher = world.subscriber("will"), world.publisher()
    first = world.connect("dying", 0, will=WILL)
    world.connect("dying", 0, log="second")
    first.outcome()
    subscriber.until("will")
    world.end(publisher, subscriber)


@case(versions=(5,))
def delayed_will(world):
    subscriber, publisher = world.subscriber("will"), world.publisher()
    began = time.monotonic()
    world.lasting("dying", 0, will={**WILL, "props": {"will_delay": 2}}).drop()
    subscriber.until("will")
    assert time.monotonic() - began >= 1.5, "the will came at once"
    world.end(publisher, subscriber)


@case(versions=(5,))
def delayed_will_ends_with_the_session(world):
    subscriber, publisher = world.subscriber("will"), world.publisher()
    world.connect("dying", 0, will={**WILL, "props": {"will_delay": 2}}).drop()
    subscriber.until("will")
    world.end(publisher, subscriber)


@case(versions=(5,))
def delayed_will_of_a_client_that_comes_back(world):
    subscriber, publisher = world.subscriber("will"), world.publisher()
    world.lasting("dying", 0, will={**WILL, "props": {"will_delay": 1}}).drop()
    world.lasting("dying", 0, log="second")
    # The time in which it would have come.
    time.sleep(2)
    world.end(publisher, subscriber)


@case(versions=(5,))
def will_has_properties(world):
    subscriber, publisher = world.subscriber("will"), world.publisher()
    props = {"payload_format": 1, "content_type": "text/plain", "response_topic": world.topic("r"),
             "correlation_data": b"7", "message_expiry": 100, "user": [["a", "1"], ["a", "2"]]}
    world.connect("dying", 0, will={**WILL, "props": props}).drop()
    subscriber.until("will")
    world.end(publisher, subscriber)


@case(versions=(5,), waits=("a", "b"))
def expiry_of_a_queued_message(world, waits):
    world.lasting("s").subscribe("t", "end").disconnect()
    publisher = world.publisher()
    publisher.publish("t", "short", props={"message_expiry": 1})
    publisher.publish("t", "long", props={"message_expiry": 100})
    publisher.publish("t", "for ever")
    # The time after which it has expired; the other one has not.
    time.sleep(2.5 if waits == "a" else 0)
    subscriber = world.lasting("s", log="second")
    world.end(publisher, subscriber)
    if waits == "b":
        kept = [message for message in world.transcript["second"]["messages"] if message[1] != "short"]
        world.transcript["second"]["messages"] = kept


@case(versions=(5,))
def expiry_of_a_retained_message(world):
    publisher = world.publisher()
    publisher.publish("short", retain=True, props={"message_expiry": 1})
    publisher.publish("long", retain=True, props={"message_expiry": 100})
    # The time after which it has expired.
    time.sleep(2.5)
    subscriber = world.subscriber("short", "long")
    world.end(publisher, subscriber)


@case(versions=(5,), qos=ALL)
def topic_alias(world, qos):
    subscriber, publisher = world.subscriber("a", "b", qos=2), world.publisher()
    publisher.publish("a", "1", qos, props={"topic_alias": 1})
    publisher.publish("", "2", qos, props={"topic_alias": 1})
    publisher.publish("b", "3", qos, props={"topic_alias": 1})
    publisher.publish("", "4", qos, props={"topic_alias": 1})
    publisher.publish("a", "5", qos, props={"topic_alias": 2})
    publisher.publish("", "6", qos, props={"topic_alias": 1})
    world.end(publisher, subscriber)


@case(versions=(5,))
def topic_aliases_to_the_client(world):
    subscriber = world.subscriber("t/#", props=None, name="aliased")
    other = world.connect("other", props={"topic_alias_maximum": 2}).subscribe("t/#", "end")
    publisher = world.publisher()
    for number in range(9):
        publisher.publish(f"t/{number % 3}", str(number))
    world.end(publisher, subscriber, other)


@case(versions=(5,))
def receive_maximum_of_the_client(world):
    subscriber = world.connect("s", props={"receive_maximum": 2}).subscribe("t", "end").subscribe("end0", qos=0)
    subscriber.acks = False
    publisher = world.publisher()
    for payload in "abcde":
        publisher.publish("t", payload)
    publisher.publish("end0", qos=0)
    subscriber.until("end0")
    subscriber.log["packets"].append(["before its acknowledgements", len(subscriber.inbox)])
    subscriber.acks = True
    for packet in list(subscriber.inbox):
        if packet["qos"]:
            subscriber.send(wire.ack(wire.PUBACK, packet["id"]))
    world.end(publisher, subscriber)


@case(versions=(5,))
def receive_maximum_of_the_server(world):
    publisher = world.publisher()
    publisher.acks = False
    most = publisher.connack["props"].get("receive_maximum", 65_535)
    if most == 65_535:
        return
    for packet_id in range(1, most + 2):
        publisher.send(wire.publish(5, world.topic("t"), b"x", 2, packet_id=packet_id))
    publisher.outcome()


@case(versions=(5,), qos=ALL)
def maximum_packet_of_the_client(world, qos):
    subscriber = world.connect("s", props={"maximum_packet": 300}).subscribe("t", "end", qos=2)
    publisher = world.publisher()
    for size in (50, 400, 60):
        publisher.publish("t", b"x" * size, qos)
    world.end(publisher, subscriber)


@case(versions=(5,))
def properties(world):
    subscriber, publisher = world.subscriber("t", qos=2), world.publisher()
    props = {"payload_format": 1, "content_type": "text/plain", "response_topic": world.topic("r"),
             "correlation_data": bytes(range(20)), "message_expiry": 100,
             "user": [["b", "1"], ["a", "2"], ["b", "1"], ["", ""], ["ü", "😀"]]}
    for qos in ALL:
        publisher.publish("t", "ü", qos, props=props)
    for name in ("payload_format", "content_type", "response_topic", "correlation_data", "user"):
        publisher.publish("t", name, props={name: props[name]})
    world.end(publisher, subscriber)


@case(versions=(5,))
def request_and_response(world):
    responder, requester = world.subscriber("request", name="responder"), world.subscriber("response/1", name="requester")
    requester.publish("request", "?", props={"response_topic": world.topic("response/1"), "correlation_data": b"\x00\xff7"})
    request = responder.until("request")
    correlation = bytes.fromhex(request["props"]["correlation_data"])
    responder.publish(request["props"]["response_topic"].removeprefix(world.prefix + "/"), "!",
                      props={"correlation_data": correlation})
    requester.until("response/1")
    world.end(requester, responder)


@case(versions=(5,))
def acknowledgements_have_properties(world):
    publisher = world.publisher()
    publisher.acks = False
    publisher.send(wire.publish(5, world.topic("t"), b"a", 2, packet_id=7))
    publisher.expect(wire.PUBREC, 7)
    publisher.send(wire.packet(wire.PUBREL, 2, b"\x00\x07\x00" + wire.properties({"user": [["a", "b"]], "reason": "x"})))
    packet = publisher.expect(wire.PUBCOMP, 7)
    publisher.note(packet, packet["code"])
