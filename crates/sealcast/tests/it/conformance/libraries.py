"""Cases with paho-mqtt, as applications use it."""
import queue
import threading

from paho.mqtt.client import CallbackAPIVersion, Client, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from world import HOST, PATIENCE_S, case

ALL = (0, 1, 2)


class Paho:
    """A client that writes down what its callbacks are given."""

    def __init__(self, world, name, side=1, will=None, clean=True, expiry=0, log=None):
        self.world, self.address, self.five = world, world.sides[side], world.version == 5
        self.log = world.transcript.setdefault(log or name, {"packets": [], "messages": []})
        self.inbox, self.done, self.events = queue.Queue(), threading.Condition(), []
        self.connected = queue.Queue()
        arguments = {} if self.five else {"clean_session": clean}
        version = MQTTv5 if self.five else MQTTv311
        self.client = Client(CallbackAPIVersion.VERSION2, world.client_id(name), protocol=version, **arguments)
        if self.address.tls:
            self.client.tls_set_context(self.address.tls)
        if will:
            self.client.will_set(world.topic(will[0]), will[1], will[2], will[3])
        self.client.on_connect = lambda c, u, flags, reason, p: self.connected.put([flags.session_present, reason.value])
        self.client.on_subscribe = lambda c, u, mid, codes, p: self.happened(mid, [code.value for code in codes])
        self.client.on_unsubscribe = lambda c, u, mid, codes, p: self.happened(mid, [code.value for code in codes])
        self.client.on_publish = lambda c, u, mid, code, p: self.happened(mid, code.value)
        self.client.on_message = self.on_message
        self.gone = threading.Event()
        self.client.on_disconnect = lambda *_: self.gone.set()
        start = {"clean_start": clean, "properties": self.props(PacketTypes.CONNECT, SessionExpiryInterval=expiry)}
        self.client.connect(HOST, self.address.port, **(start if self.five else {}))
        self.client.loop_start()
        self.log["packets"].append(["CONNACK", *self.connected.get(timeout=PATIENCE_S)])

    @staticmethod
    def props(kind, **values):
        made = Properties(kind)
        for name, value in values.items():
            setattr(made, name, value)
        return made

    def happened(self, mid, what):
        with self.done:
            self.events.append((mid, what))
            self.done.notify_all()

    def wait(self, mid):
        with self.done:
            assert self.done.wait_for(lambda: any(event[0] == mid for event in self.events), PATIENCE_S), "not acknowledged"
            return next(what for at, what in self.events if at == mid)

    def on_message(self, client, userdata, message: MQTTMessage):
        said = getattr(message.properties, "json", dict)() if self.five else {}
        said.pop("MessageExpiryInterval", None), said.pop("TopicAlias", None)
        said = {name: self.world.shown(value) if name == "ResponseTopic" else value for name, value in said.items()}
        shown = self.world.message({"topic": message.topic, "payload": message.payload, "qos": message.qos, "dup": False,
                                    "retain": message.retain, "props": {}})
        self.log["messages"].append([*shown[:4], said])
        self.inbox.put(message)

    def subscribe(self, *filters, qos=1, **options):
        for filter in filters:
            given = {"options": SubscribeOptions(qos=qos, **options)} if self.five else {"qos": qos}
            mid = self.client.subscribe(self.world.filter(filter), **given)[1]
            self.log["packets"].append(["SUBACK", self.wait(mid)])
        return self

    def publish(self, topic, payload, qos=1, retain=False, **props):
        props = {"properties": self.props(PacketTypes.PUBLISH, **props)} if props else {}
        mid = self.client.publish(self.world.topic(topic), payload, qos, retain, **props).mid
        self.log["packets"].append(["PUBACK", self.wait(mid)])

    def until(self, topic):
        while self.inbox.get(timeout=PATIENCE_S).topic != self.world.topic(topic):
            pass

    def end(self):
        self.client.disconnect()
        assert self.gone.wait(PATIENCE_S), "not disconnected"
        self.client.loop_stop()


@case(qos=ALL)
def paho_there_and_back(world, qos):
    client = Paho(world, "c").subscribe("t/#", "end", qos=2)
    for number in range(5):
        client.publish(f"t/{number}", str(number), qos)
    client.publish("end", "", qos)
    client.until("end")
    client.end()


@case()
def paho_from_one_to_another(world):
    subscriber, publisher = Paho(world, "s").subscribe("t", "end", qos=2), Paho(world, "p", 0)
    for qos in ALL:
        publisher.publish("t", "x" * 50_000, qos)
    publisher.publish("end", "", 2)
    subscriber.until("end")
    subscriber.end(), publisher.end()


@case(qos=(1, 2))
def paho_many_in_flight(world, qos):
    subscriber, publisher = Paho(world, "s").subscribe("t", "end", qos=qos), Paho(world, "p", 0)
    sent = [publisher.client.publish(world.topic("t"), str(number), qos) for number in range(100)]
    for one in sent:
        one.wait_for_publish(PATIENCE_S)
    publisher.publish("end", "", qos)
    subscriber.until("end")
    subscriber.end(), publisher.end()


@case()
def paho_session(world):
    expiry = 300
    Paho(world, "s", clean=False, expiry=expiry).subscribe("t", "end").end()
    publisher = Paho(world, "p", 0)
    publisher.publish("t", "while it was away")
    publisher.publish("end", "")
    subscriber = Paho(world, "s", clean=False, expiry=expiry, log="again")
    subscriber.until("end")
    subscriber.end(), publisher.end()


@case(retain=(False, True))
def paho_will(world, retain):
    subscriber, publisher = Paho(world, "s").subscribe("will", "end"), Paho(world, "p", 0)
    dying = Paho(world, "dying", 0, will=("will", "gone", 1, retain))
    dying.client.loop_stop()
    dying.client.socket().close()
    subscriber.until("will")
    late = Paho(world, "late").subscribe("will", "end")
    publisher.publish("end", "")
    subscriber.until("end"), late.until("end")
    subscriber.end(), publisher.end(), late.end()


@case()
def paho_retained(world):
    publisher = Paho(world, "p", 0)
    publisher.publish("t", "kept", retain=True)
    subscriber = Paho(world, "s").subscribe("t", "end")
    publisher.publish("end", "")
    subscriber.until("end")
    subscriber.end(), publisher.end()


@case(versions=(5,))
def paho_properties(world):
    subscriber, publisher = Paho(world, "s").subscribe("t", "end"), Paho(world, "p", 0)
    publisher.publish("t", "{}", ContentType="application/json", ResponseTopic=world.topic("r"), CorrelationData=b"7",
                      PayloadFormatIndicator=1, UserProperty=[("a", "1"), ("b", "2"), ("a", "3")])
    publisher.publish("end", "")
    subscriber.until("end")
    subscriber.end(), publisher.end()


@case(versions=(5,))
def paho_no_local_and_retain_options(world):
    client = Paho(world, "c")
    client.publish("t", "kept", retain=True)
    client.subscribe("t", noLocal=True, retainAsPublished=True, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
    client.subscribe("end")
    client.publish("t", "mine")
    client.publish("end", "")
    client.until("end")
    client.end()
