"""Opens a valve above 28 degrees, closes it below 26, and opens it when the agent says so.

    valve.py [PORT]
"""
import sys

from paho.mqtt.client import CallbackAPIVersion, Client, MQTTv5


def switch(state, why):
    # Here the real valve is moved.
    print(f"{state}: {why}", flush=True)


def on_connect(client, userdata, flags, reason, properties):
    client.subscribe([("hsu0001/temperature", 1), ("hsu0001/valve", 1)])


def on_message(client, userdata, message):
    if message.topic == "hsu0001/valve":
        switch(message.payload.decode(), "no good value")
    elif (value := float(message.payload)) > 28 or value < 26:
        switch("open" if value > 28 else "closed", f"{value} degrees")


client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
client.on_connect, client.on_message = on_connect, on_message
client.connect("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 18832)
client.loop_forever()
