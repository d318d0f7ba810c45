"""A paho client: paho_client.py VERSION PORT subscribe TOPIC, or VERSION PORT publish TOPIC QOS [VALUE ...].

Prints one JSON object a line: {"subscribed": true}, what comes with its user properties, or what became of each value.
"""
import json
import sys
import threading

from paho.mqtt.client import CallbackAPIVersion, Client, MQTTv5, MQTTv311

version, port, action, topic, *rest = sys.argv[1:]
protocol = {"5": MQTTv5, "3.1.1": MQTTv311}[version]


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


client = Client(CallbackAPIVersion.VERSION2, protocol=protocol)
client.on_connect, client.on_message, client.on_publish = on_connect, on_message, on_publish
client.on_subscribe = lambda *_: say(subscribed=True)
client.connect("127.0.0.1", int(port))
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
