"""Opens sealed messages by docs/envelope.md, with nothing of Sealcast's own: a second implementation, to be read beside it.

Reads test vectors as JSON, and prints what is in each message as one line of JSON.
"""

import hashlib
import hmac
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

PURPOSES = {0x00: "message", 0x08: "will", 0x10: "reseal", 0x18: "tombstone"}
MODES = {0x00: "alone", 0x20: "batch", 0x40: "group"}


def sframe_field(bits, data):
    """One field of the SFrame header (RFC 9605, 4.3): its value, and what follows."""
    if bits < 8:
        return bits, data
    length = (bits & 7) + 1
    return int.from_bytes(data[:length], "big"), data[length:]


def key_and_salt(secret, kid):
    """RFC 9605, 4.4.2, cipher suite 4."""
    extracted = hmac.digest(b"\0" * 32, secret, "sha256")
    label = kid.to_bytes(8, "big") + (4).to_bytes(2, "big")

    def expand(name, length):
        return HKDFExpand(hashes.SHA256(), length, name + label).derive(extracted)

    return expand(b"SFrame 1.0 Secret key ", 16), expand(b"SFrame 1.0 Secret salt ", 12)


def variable_byte_integer(data):
    value = 0
    for i in range(4):
        value |= (data[i] & 0x7F) << (7 * i)
        if not data[i] & 0x80:
            return value, data[i + 1 :]
    raise ValueError("a length of more than four bytes")


def root_of(leaf, index, last, path):
    """RFC 9162, 2.1.3.2. Takes as many hashes off the end of `path` as the place says."""
    sides = []
    while last > 0:
        if index & 1:
            sides.append("left")
        elif index < last:
            sides.append("right")
        index, last = index >> 1, last >> 1
    nodes = [path[len(path) - 32 * (len(sides) - i) :][:32] for i in range(len(sides))]
    for side, node in zip(sides, nodes):
        pair = node + leaf if side == "left" else leaf + node
        leaf = hashlib.sha256(b"\x01" + pair).digest()
    return leaf, path[: len(path) - 32 * len(sides)]


def entries(distance):
    if distance < 2048:
        return distance
    octave, step = divmod(distance - 2048, 128)
    return (128 + step) << (4 + octave)


def open_frame(group, topic, frame, now_ms):
    if frame[0] != 0xFD:
        raise ValueError("not sealed in version 2")
    kid, rest = sframe_field(frame[1] >> 4, frame[2:])
    ctr, sealed = sframe_field(frame[1] & 0xF, rest)
    header = frame[1 : len(frame) - len(sealed)]
    start, counter = kid >> 24, ctr & 0xFFFFFF

    key, salt = key_and_salt(group["secret"], kid)
    nonce = (int.from_bytes(salt, "big") ^ ctr).to_bytes(12, "big")
    aad = header + b"\xfd" + group["number"].to_bytes(2, "big") + topic
    inside = AESGCM(key).decrypt(nonce, sealed, aad)

    flags = inside[0]
    mode = MODES[flags & 0x60]
    context = (
        group["chain_id"].to_bytes(8, "big")
        + group["contract"]
        + group["number"].to_bytes(2, "big")
        + group["generation"].to_bytes(4, "big")
        + group["epoch"].to_bytes(8, "big")
        + kid.to_bytes(8, "big")
    )

    def message(proven):
        return ctr.to_bytes(8, "big") + len(topic).to_bytes(4, "big") + topic + proven

    proven = inside
    if mode == "alone":
        proven, signature = inside[:-64], inside[-64:]
        verify(group, signature, b"sealcast alone 2" + context + message(proven))
    elif mode == "batch":
        rest, (index, last), signature = inside[:-66], inside[-66:-64], inside[-64:]
        _, proven = root_of(b"", index, last, rest)
        leaf = hashlib.sha256(b"\x00" + message(proven)).digest()
        root, _ = root_of(leaf, index, last, rest)
        verify(group, signature, b"sealcast batch 2" + context + bytes([last + 1]) + root)

    props, payload = b"", proven[4:]
    if flags & 0x01:
        length, rest = variable_byte_integer(payload)
        props, payload = rest[:length], rest[length:]
    report = int.from_bytes(proven[1:4], "big")
    half = 1 << 39
    return {
        "mode": mode,
        "topic": topic.decode(),
        "purpose": PURPOSES[flags & 0x18],
        "retain": bool(flags & 0x02),
        "acknowledged": bool(flags & 0x04),
        "props": props.hex(),
        "payload": payload.hex(),
        "leaf": (kid >> 10) & 0x3FFF,
        "start": start,
        "counter": counter,
        "time_ms": now_ms + ((ctr >> 24) - now_ms + half) % (1 << 40) - half,
        "height": group["began_at"] + entries(report >> 12),
        "agrees": (int.from_bytes(group["head"], "big") >> (244 - 12 * ((start + counter) % 21))) & 0xFFF == report & 0xFFF,
    }


def verify(group, signature, statement):
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    group["key"].verify(encode_dss_signature(r, s), statement, ec.ECDSA(hashes.SHA256()))


def main():
    vectors = json.load(open(sys.argv[1]))
    group = dict(vectors)
    for name in ("secret", "contract", "head"):
        group[name] = bytes.fromhex(vectors[name])
    group["key"] = ec.EllipticCurvePublicKey.from_encoded_point(
        ec.SECP256R1(), b"\x04" + bytes.fromhex(vectors["public_key"])
    )
    for vector in vectors["messages"]:
        topic, frame = vector["topic"].encode(), bytes.fromhex(vector["frame"])
        print(json.dumps(open_frame(group, topic, frame, vectors["now_ms"])))
        # Under another contract nothing that is signed holds.
        if vector["mode"] != "group":
            try:
                open_frame(dict(group, contract=bytes(20)), topic, frame, vectors["now_ms"])
            except InvalidSignature:
                continue
            sys.exit("a signature holds on another ledger")


main()
