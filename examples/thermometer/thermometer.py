"""Publishes each number on standard input through an agent, and says what became of it.

    thermometer.py [PORT]
"""
import queue
import sys

from paho.mqtt.client import CallbackAPIVersion, Client, MQTTv5

outcomes = queue.Queue()


def on_publish(client, userdata, mid, reason, properties):
    why = getattr(properties, "ReasonString", None)
    outcomes.put(f"refused, {why or reason}" if reason.is_failure else "published")


client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
client.on_publish = on_publish
client.connect("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 18831)
client.loop_start()
for line in sys.stdin:
    client.publish("hsu0001/temperature", line.strip(), qos=1)
    print(f"{line.strip()}: {outcomes.get(timeout=60)}", flush=True)
client.disconnect()
client.loop_stop()
