"""Clients of one case, which write down what they see: the same whether they are connected directly or through agents."""
import hashlib
import socket
import ssl

import wire

HOST = "127.0.0.1"
PATIENCE_S = 60
CASES = {}


def case(*, versions=(4, 5), **variants):
    """Registers a case in each version of MQTT, and for each value of each further argument."""

    def register(function):
        choices = [{}]
        for name, values in variants.items():
            choices = [{**choice, name: value} for choice in choices for value in values]
        for version in versions:
            for choice in choices:
                parts = [function.__name__, *(f"{name}{value}" for name, value in choice.items()), f"v{version}"]
                CASES["-".join(parts)] = (function, version, choice)
        return function

    return register


class Client:
    """One connection. What comes is acknowledged at once, unless `acks` says otherwise."""

    def __init__(self, world, name, sock, version):
        self.world, self.name, self.sock, self.version = world, name, sock, version
        self.log = world.transcript.setdefault(name, {"packets": [], "messages": []})
        self.aliases, self.last_id, self.acks = {}, 0, True
        self.inbox, self.seen = [], 0

    def send(self, data):
        self.sock.sendall(data)

    def exactly(self, count):
        data = b""
        while len(data) < count:
            part = self.sock.recv(count - len(data))
            if not part:
                raise ConnectionError
            data += part
        return data

    def read(self):
        """The next packet; `None` at the end of the connection."""
        try:
            first, length, shift = self.exactly(1)[0], 0, 0
            while True:
                byte = self.exactly(1)[0]
                length |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            packet = wire.parse(self.version, first, self.exactly(length))
        except ConnectionError:
            return None
        self.take(packet)
        return packet

    def take(self, packet):
        kind = packet["kind"]
        if kind == wire.PUBLISH:
            alias = packet["props"].pop("topic_alias", None)
            if alias and packet["topic"]:
                self.aliases[alias] = packet["topic"]
            elif alias:
                packet["topic"] = self.aliases[alias]
            self.log["messages"].append(self.world.message(packet))
            self.inbox.append(packet)
            if self.acks and packet["qos"]:
                self.send(wire.ack(wire.PUBACK if packet["qos"] == 1 else wire.PUBREC, packet["id"]))
        elif kind == wire.PUBREL and self.acks:
            self.send(wire.ack(wire.PUBCOMP, packet["id"]))
        elif kind == wire.PUBREC and self.acks and packet["code"] < 0x80:
            self.send(wire.ack(wire.PUBREL, packet["id"]))

    def note(self, packet, *what):
        self.log["packets"].append([wire.NAMES[packet["kind"]], *what])

    def expect(self, kind, packet_id=None):
        """Reads on to a packet of this kind, which has to come."""
        while True:
            packet = self.read()
            assert packet is not None, f"{self.name} was disconnected before {wire.NAMES[kind]}"
            assert packet["kind"] != wire.DISCONNECT, f"{self.name} got DISCONNECT {packet['code']:#x}"
            if packet["kind"] == kind and packet_id in (None, packet.get("id")):
                return packet

    def next_id(self):
        self.last_id += 1
        return self.last_id

    def subscribe(self, *filters, qos=1, options=0, props=None):
        """Filters of this case, or pairs of one and its options byte."""
        pairs = [pair if isinstance(pair, tuple) else (pair, qos | options) for pair in filters]
        pairs = [(self.world.filter(name), byte) for name, byte in pairs]
        packet_id = self.next_id()
        self.send(wire.subscribe(self.version, packet_id, pairs, props))
        packet = self.expect(wire.SUBACK, packet_id)
        self.note(packet, packet["codes"])
        return self

    def unsubscribe(self, *filters):
        packet_id = self.next_id()
        self.send(wire.unsubscribe(self.version, packet_id, [self.world.filter(name) for name in filters]))
        packet = self.expect(wire.UNSUBACK, packet_id)
        self.note(packet, packet["codes"])

    def publish(self, topic, payload=b"x", qos=1, retain=False, props=None):
        """Publishes and waits for the end of the acknowledgements."""
        payload = payload.encode() if isinstance(payload, str) else payload
        packet_id = self.next_id() if qos else 0
        name = self.world.topic(topic) if topic else ""
        self.send(wire.publish(self.version, name, payload, qos, retain, False, packet_id, props))
        if qos == 1:
            packet = self.expect(wire.PUBACK, packet_id)
            self.note(packet, packet["code"])
        elif qos == 2:
            packet = self.expect(wire.PUBREC, packet_id)
            self.note(packet, packet["code"])
            if packet["code"] < 0x80:
                self.expect(wire.PUBCOMP, packet_id)
        return packet_id

    def until(self, topic, payload=None):
        """Reads on to a message of this topic."""
        wanted = self.world.topic(topic)
        while True:
            # It may have come before the answer to something else.
            while self.seen < len(self.inbox):
                packet = self.inbox[self.seen]
                self.seen += 1
                if packet["topic"] == wanted and payload in (None, packet["payload"]):
                    return packet
            self.expect(wire.PUBLISH)

    def settle(self):
        """Waits until the acknowledgements that this client sent are with the broker, as far as that can be seen."""
        self.send(wire.packet(wire.PINGREQ, 0, b""))
        self.expect(wire.PINGRESP)

    def outcome(self, leaves=False):
        """Reads on to the end of the connection, and notes what the other side said before it. `leaves`: a client that is
        answered takes leave."""
        while (packet := self.read()) is not None:
            if packet["kind"] in (wire.CONNACK, wire.DISCONNECT):
                self.note(packet, packet["code"])
            elif packet["kind"] == wire.PINGRESP and leaves:
                self.log["packets"].append(["tolerated"])
                self.send(wire.disconnect(self.version))
        self.log["packets"].append(["closed"])

    def drop(self):
        """Ends the connection without DISCONNECT."""
        self.sock.close()

    def disconnect(self, code=0, props=None):
        self.send(wire.disconnect(self.version, code, props))
        while self.read() is not None:
            pass
        self.sock.close()


class World:
    """One case, directly or through agents. `sides`: the addresses for publishers and for all others."""

    def __init__(self, sides, name, version, prefix):
        self.sides, self.name, self.version = sides, name, version
        self.prefix = f"{prefix}/{hashlib.sha256(name.encode()).hexdigest()[:10]}"
        self.transcript, self.clients = {}, []

    def topic(self, name):
        return name if name.startswith("$") else f"{self.prefix}/{name}"

    def filter(self, name):
        if name.startswith("$share/"):
            share, rest = name.split("/", 2)[1:]
            return f"$share/{share}/{self.topic(rest)}"
        return self.topic(name)

    def shown(self, topic):
        return topic.removeprefix(self.prefix + "/")

    def message(self, packet):
        """A message as it is compared: without what differs from run to run."""
        payload, props = packet["payload"], dict(packet["props"])
        if "response_topic" in props:
            props["response_topic"] = self.shown(props["response_topic"])
        if "message_expiry" in props:
            props["message_expiry"] = "as it was, or less"
        if "subscription_id" in props:
            props["subscription_id"] = sorted(props["subscription_id"])
        body = payload.decode("latin-1") if len(payload) < 100 else hashlib.sha256(payload).hexdigest()
        flags = "".join(name for name in ("dup", "retain") if packet[name])
        return [self.shown(packet["topic"]), body, packet["qos"], flags, props]

    def open(self, name, side=1, version=None):
        """A connection on which nothing was sent."""
        client = Client(self, name, self.sides[side].open(), version or self.version)
        client.sock.settimeout(PATIENCE_S)
        self.clients.append(client)
        return client

    def client_id(self, name):
        return f"{self.prefix}/{name}".replace("/", "-")

    def connect(self, name, side=1, clean=True, keep_alive=0, props=None, will=None, log=None, **credentials):
        """A client that the broker has accepted, if it did: [`CONNACK`, session present, code] is noted."""
        client = self.open(log or name, side)
        if will:
            will = {"qos": 1, "retain": False, "props": None, **will, "topic": self.topic(will["topic"])}
        client.send(wire.connect(self.version, self.client_id(name), clean, keep_alive, props, will, **credentials))
        packet = client.read()
        if packet is None:
            client.log["packets"].append(["closed"])
        else:
            client.note(packet, packet["present"], packet["code"])
            client.connack = packet
        return client

    def lasting(self, name, side=1, clean=False, expiry=300, props=None, **rest):
        """A client whose session outlives its connection."""
        if self.version == 5:
            props = {"session_expiry": expiry, **(props or {})}
        return self.connect(name, side, clean=clean, props=props, **rest)

    def publisher(self, name="publisher", **rest):
        return self.connect(name, side=0, **rest)

    def subscriber(self, *filters, name="subscriber", qos=1, options=0, props=None, **rest):
        """A client with these filters, and with the topic that ends its case."""
        client = self.connect(name, **rest).subscribe(("end", 1))
        return client.subscribe(*filters, qos=qos, options=options, props=props) if filters else client

    def barrier(self, publisher):
        """All that `publisher` has sent before is with the broker when this comes back."""
        publisher.publish("barrier")

    def end(self, publisher, *subscribers):
        """All that `publisher` has sent before has reached the subscribers when this comes back."""
        publisher.publish("end", "end")
        for subscriber in subscribers:
            subscriber.until("end")

    def close(self):
        for client in self.clients:
            client.sock.close()

    def unordered(self, *names):
        """The order of these clients' messages means nothing."""
        for name in names:
            self.transcript[name]["messages"].sort(key=repr)


class Address:
    """Where a client connects: directly to the broker, with the files of its device, or to an agent."""

    def __init__(self, port, ca=None, cert=None, key=None):
        self.port, self.files, self.tls = port, (ca, cert, key), None
        if ca:
            self.tls = ssl.create_default_context(cafile=ca)
            self.tls.load_cert_chain(cert, key)

    def open(self):
        sock = socket.create_connection((HOST, self.port), timeout=PATIENCE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.tls.wrap_socket(sock, server_hostname=HOST) if self.tls else sock
