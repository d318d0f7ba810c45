"""MQTT 3.1.1 and 5 by the byte: packets that are built and read here, so that a case can send what no library would."""
import struct

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = 8, 9, 10, 11, 12, 13, 14, 15
NAMES = [
    "", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
    "SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
]

# MQTT 5, section 2.2.2.2: identifier and type of each property.
PROPERTIES = {
    "payload_format": (0x01, "byte"), "message_expiry": (0x02, "u32"), "content_type": (0x03, "text"),
    "response_topic": (0x08, "text"), "correlation_data": (0x09, "binary"), "subscription_id": (0x0B, "variable"),
    "session_expiry": (0x11, "u32"), "assigned_client_id": (0x12, "text"), "server_keep_alive": (0x13, "u16"),
    "auth_method": (0x15, "text"), "auth_data": (0x16, "binary"), "request_problem": (0x17, "byte"),
    "will_delay": (0x18, "u32"), "request_response": (0x19, "byte"), "response_information": (0x1A, "text"),
    "server_reference": (0x1C, "text"), "reason": (0x1F, "text"), "receive_maximum": (0x21, "u16"),
    "topic_alias_maximum": (0x22, "u16"), "topic_alias": (0x23, "u16"), "maximum_qos": (0x24, "byte"),
    "retain_available": (0x25, "byte"), "user": (0x26, "pair"), "maximum_packet": (0x27, "u32"),
    "wildcards": (0x28, "byte"), "subscription_ids": (0x29, "byte"), "shared": (0x2A, "byte"),
}
BY_ID = {number: (name, kind) for name, (number, kind) in PROPERTIES.items()}
REPEATED = {"user", "subscription_id"}


def text(value):
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(data)) + data


def variable(number):
    out = bytearray()
    while True:
        number, low = number >> 7, number & 127
        out.append(low | (128 if number else 0))
        if not number:
            return bytes(out)


def properties(given):
    """Property bytes with their length before them."""
    out = b""
    for name, value in (given or {}).items():
        number, kind = PROPERTIES[name]
        for one in value if name in REPEATED and isinstance(value, list) else [value]:
            out += bytes([number]) + {
                "byte": lambda v: bytes([v]), "u16": lambda v: struct.pack(">H", v),
                "u32": lambda v: struct.pack(">I", v), "variable": variable, "text": text, "binary": text,
                "pair": lambda v: text(v[0]) + text(v[1]),
            }[kind](one)
    return variable(len(out)) + out


def packet(kind, flags, body):
    return bytes([kind << 4 | flags]) + variable(len(body)) + body


def connect(version, client_id, clean=True, keep_alive=0, props=None, will=None, username=None, password=None):
    """`will`: topic, payload, QoS, retain flag and properties."""
    flags = 2 if clean else 0
    tail = text(client_id)
    if will:
        flags |= 4 | will["qos"] << 3 | (32 if will["retain"] else 0)
        tail += (properties(will["props"]) if version == 5 else b"") + text(will["topic"]) + text(will["payload"])
    if username is not None:
        flags |= 128
        tail += text(username)
    if password is not None:
        flags |= 64
        tail += text(password)
    head = text("MQTT") + bytes([version, flags]) + struct.pack(">H", keep_alive)
    return packet(CONNECT, 0, head + (properties(props) if version == 5 else b"") + tail)


def publish(version, topic, payload, qos=0, retain=False, dup=False, packet_id=0, props=None):
    body = text(topic) + (struct.pack(">H", packet_id) if qos else b"")
    body += (properties(props) if version == 5 else b"") + payload
    return packet(PUBLISH, (8 if dup else 0) | qos << 1 | (1 if retain else 0), body)


def subscribe(version, packet_id, filters, props=None):
    """`filters`: pairs of a filter and its options byte."""
    body = struct.pack(">H", packet_id) + (properties(props) if version == 5 else b"")
    return packet(SUBSCRIBE, 2, body + b"".join(text(name) + bytes([options]) for name, options in filters))


def unsubscribe(version, packet_id, filters):
    body = struct.pack(">H", packet_id) + (properties(None) if version == 5 else b"")
    return packet(UNSUBSCRIBE, 2, body + b"".join(text(name) for name in filters))


def ack(kind, packet_id, code=0):
    """PUBACK, PUBREC, PUBREL or PUBCOMP; with a reason code only if it is not success."""
    body = struct.pack(">H", packet_id) + (bytes([code]) if code else b"")
    return packet(kind, 2 if kind == PUBREL else 0, body)


def disconnect(version, code=0, props=None):
    return packet(DISCONNECT, 0, bytes([code]) + properties(props) if version == 5 and (code or props) else b"")


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        part = self.data[self.at:self.at + count]
        assert len(part) == count, "the packet ends too early"
        self.at += count
        return part

    def number(self, count):
        return int.from_bytes(self.take(count), "big")

    def text(self):
        return self.take(self.number(2))

    def variable(self):
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def rest(self):
        return self.take(len(self.data) - self.at)

    def ended(self):
        return self.at == len(self.data)

    def properties(self):
        if self.ended():
            return {}
        inner, found = Reader(self.take(self.variable())), {}
        while not inner.ended():
            name, kind = BY_ID[inner.number(1)]
            value = {
                "byte": lambda: inner.number(1), "u16": lambda: inner.number(2), "u32": lambda: inner.number(4),
                "variable": inner.variable, "text": lambda: inner.text().decode(),
                "binary": lambda: inner.text().hex(),
                "pair": lambda: [inner.text().decode(), inner.text().decode()],
            }[kind]()
            if name in REPEATED:
                found.setdefault(name, []).append(value)
            else:
                found[name] = value
        return found


def parse(version, first, body):
    """A packet as a dictionary; `id` is its packet identifier."""
    kind, reader = first >> 4, Reader(body)
    five = version == 5
    read = {"kind": kind}
    if kind == CONNACK:
        read["present"], read["code"] = reader.number(1) & 1, reader.number(1)
    elif kind == PUBLISH:
        read["topic"], read["qos"] = reader.text().decode(), first >> 1 & 3
        read["dup"], read["retain"] = first >> 3 & 1, first & 1
        read["id"] = reader.number(2) if read["qos"] else 0
        read["props"] = reader.properties() if five else {}
        read["payload"] = reader.rest()
        return read
    elif kind in (PUBACK, PUBREC, PUBREL, PUBCOMP):
        read["id"] = reader.number(2)
        read["code"] = 0 if reader.ended() else reader.number(1)
    elif kind in (SUBACK, UNSUBACK):
        read["id"] = reader.number(2)
        read["props"] = reader.properties() if five else {}
        read["codes"] = list(reader.rest())
        return read
    elif kind == DISCONNECT:
        read["code"] = 0 if reader.ended() else reader.number(1)
    read["props"] = reader.properties() if five else {}
    return read
