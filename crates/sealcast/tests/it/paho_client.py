"""A paho client: paho_client.py VERSION AT subscribe TOPIC, or VERSION AT publish TOPIC QOS [VALUE ...].

AT is a port, or ws://HOST:PORT or wss://HOST:PORT; the certificates that it trusts are in SSL_CERT_FILE.
Prints one JSON object a line: {"subscribed": true}, what comes with its user properties, or what became of each value.
"""
import json
import os
import sys
import threading

from urllib.parse import urlsplit

from paho.mqtt.client import CallbackAPIVersion, Client, MQTTv5, MQTTv31, MQTTv311

version, at, action, topic, *rest = sys.argv[1:]
protocol = {"5": MQTTv5, "3.1.1": MQTTv311, "3.1": MQTTv31}[version]
url = urlsplit(at if "://" in at else f"mqtt://127.0.0.1:{at}")
transport = "tcp" if url.scheme == "mqtt" else "websockets"


def say(**what):
    print(json.dumps(what), flush=True)


connected, outcomes = threading.Event(), {}
done = threading.Condition()


def on_connect(client, userdata, flags, reason_code, properties):
    if action == "subscribe":
        client.subscribe(topic, qos=1)
    connected.set()


def on_message(client, userdata, message):
    properties = dict(getattr(message.properties, "UserProperty", []))
    say(topic=message.topic, payload=message.payload.decode(), retain=message.retain, properties=properties)


def on_publish(client, userdata, mid, reason_code, properties):
    with done:
        outcomes[mid] = {"code": reason_code.value, "reason": getattr(properties, "ReasonString", None)}
        done.notify_all()


client = Client(CallbackAPIVersion.VERSION2, client_id=f"paho-{os.getpid()}", protocol=protocol, transport=transport)
client.on_connect, client.on_message, client.on_publish = on_connect, on_message, on_publish
client.on_subscribe = lambda *_: say(subscribed=True)
if url.scheme == "wss":
    client.tls_set(ca_certs=os.environ["SSL_CERT_FILE"])
client.connect(url.hostname, url.port)
client.loop_start()
if not connected.wait(200):
    sys.exit("not connected")
if action == "subscribe":
    threading.Event().wait()
qos, *values = rest
for value in values:
    mid = client.publish(topic, value, qos=int(qos)).mid
    with done:
        if not done.wait_for(lambda: mid in outcomes, 200):
            sys.exit(f"{value} was not acknowledged")
    say(value=value, **outcomes[mid])
client.disconnect()
client.loop_stop()
