// Cases with mqtt.js, as applications use it: mqttjs.mjs JSON, as run.py takes it, with the folder that has mqtt.js.
// Prints what the clients saw, likewise.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const settings = JSON.parse(process.argv[2]);
const mqtt = createRequire(`${settings.modules}/`)("mqtt");
const PATIENCE_MS = 60_000;
const cases = {};

function inTime(promise, what) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`not in time: ${what}`)), PATIENCE_MS); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** One case, directly or through agents: its clients write down what they see. */
class World {
  constructor(sides, name, version, prefix) {
    Object.assign(this, { sides, version, prefix: `${prefix}/js-${name}`, transcript: {}, clients: [] });
  }

  topic(name) {
    const share = name.match(/^(\$share\/[^/]+\/)(.*)$/);
    return share ? `${share[1]}${this.prefix}/${share[2]}` : `${this.prefix}/${name}`;
  }

  shown(topic) {
    return topic.slice(this.prefix.length + 1);
  }

  async connect(name, { side = 1, log = name, will, ...options } = {}) {
    const { port, ca, cert, key } = this.sides[side];
    const tls = ca && { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key), servername: "127.0.0.1" };
    const client = mqtt.connect({
      protocol: ca ? "mqtts" : "mqtt", host: "127.0.0.1", port, ...tls, protocolVersion: this.version, reconnectPeriod: 0,
      clientId: `${this.prefix}/${name}`.replaceAll("/", "-"), clean: true,
      will: will && { ...will, topic: this.topic(will.topic) }, ...options,
    });
    const seen = (this.transcript[log] ??= { packets: [], messages: [] });
    const waits = [];
    client.on("message", (topic, payload, packet) => {
      const { messageExpiryInterval, topicAlias, ...properties } = packet.properties ?? {};
      if (properties.responseTopic) properties.responseTopic = this.shown(properties.responseTopic);
      if (properties.correlationData) properties.correlationData = properties.correlationData.toString("hex");
      seen.messages.push([this.shown(topic), payload.toString("latin1"), packet.qos, packet.retain, { ...properties }]);
      waits.splice(0).forEach((check) => check());
    });
    client.on("error", () => {});
    this.clients.push(client);
    const [connack] = await inTime(new Promise((resolve, reject) => {
      client.once("connect", (...got) => resolve(got));
      client.once("close", () => reject(new Error("closed before CONNACK")));
    }), "CONNACK");
    seen.packets.push(["CONNACK", connack.sessionPresent, connack.reasonCode ?? connack.returnCode]);
    const world = this;
    return {
      client,
      async subscribe(filters, options = { qos: 1 }) {
        for (const filter of [filters].flat()) {
          const granted = await inTime(client.subscribeAsync(world.topic(filter), options), "SUBACK");
          seen.packets.push(["SUBACK", granted.map((one) => one.qos)]);
        }
        return this;
      },
      async unsubscribe(filter) {
        const answer = await inTime(client.unsubscribeAsync(world.topic(filter)), "UNSUBACK");
        seen.packets.push(["UNSUBACK", answer?.granted ?? null]);
      },
      publish: (topic, payload, options = { qos: 1 }) =>
        inTime(client.publishAsync(world.topic(topic), payload, options), "PUBACK"),
      until: (topic) => inTime(new Promise((resolve) => {
        const check = () => (seen.messages.some(([on]) => on === topic) ? resolve() : waits.push(check));
        check();
      }), topic),
      end: () => client.endAsync(),
      drop: () => client.stream.destroy(),
    };
  }

  unordered(name) {
    this.transcript[name].messages.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  }
}

function add(name, run, versions = [4, 5]) {
  for (const version of versions) cases[`mqttjs_${name}-v${version}`] = { run, version };
}

for (const qos of [0, 1, 2]) {
  add(`there_and_back-qos${qos}`, async (world) => {
    const client = await (await world.connect("c")).subscribe(["t/#", "end"], { qos: 2 });
    for (const payload of ["a", "", "ü"]) await client.publish("t/1", payload, { qos });
    await client.publish("end", "", { qos });
    await client.until("end");
  });
  add(`many_at_once-qos${qos}`, async (world) => {
    const subscriber = await (await world.connect("s")).subscribe(["t", "end"], { qos: 2 });
    const publisher = await world.connect("p", { side: 0 });
    await Promise.all(Array.from({ length: 15 }, (_, at) => publisher.publish("t", `${at}`, { qos })));
    await publisher.publish("end", "", { qos });
    await subscriber.until("end");
  });
  add(`retained-qos${qos}`, async (world) => {
    const publisher = await world.connect("p", { side: 0 });
    await publisher.publish("t", "kept", { qos: 1, retain: true });
    const subscriber = await (await world.connect("s")).subscribe(["t", "end"], { qos });
    await publisher.publish("end", "");
    await subscriber.until("end");
  });
  add(`will-qos${qos}`, async (world) => {
    const subscriber = await (await world.connect("s")).subscribe(["will"], { qos: 2 });
    const dying = await world.connect("dying", { side: 0, will: { topic: "will", payload: "gone", qos, retain: false } });
    dying.drop();
    await subscriber.until("will");
  });
}

add("session", async (world) => {
  const session = { clean: false, ...(world.version === 5 && { properties: { sessionExpiryInterval: 300 } }) };
  await (await (await world.connect("s", session)).subscribe(["t", "end"])).end();
  const publisher = await world.connect("p", { side: 0 });
  await publisher.publish("t", "while it was away");
  await publisher.publish("end", "");
  await (await world.connect("s", { ...session, log: "again" })).until("end");
});

add("unsubscribe", async (world) => {
  const subscriber = await (await world.connect("s")).subscribe(["a", "b", "end"]);
  await subscriber.unsubscribe("a");
  const publisher = await world.connect("p", { side: 0 });
  for (const topic of ["a", "b", "end"]) await publisher.publish(topic, "x");
  await subscriber.until("end");
});

add("overlapping", async (world) => {
  const subscriber = await (await world.connect("s")).subscribe(["t/+", "t/#", "t/1", "end"]);
  const publisher = await world.connect("p", { side: 0 });
  await publisher.publish("t/1", "x");
  await publisher.publish("end", "");
  await subscriber.until("end");
  world.unordered("s");
});

add("large", async (world) => {
  const subscriber = await (await world.connect("s")).subscribe(["t", "end"]);
  const publisher = await world.connect("p", { side: 0 });
  await publisher.publish("t", "x".repeat(300_000));
  await publisher.publish("end", "");
  await subscriber.until("end");
  world.transcript.s.messages[0][1] = world.transcript.s.messages[0][1].length;
});

add("properties", async (world) => {
  const subscriber = await (await world.connect("s")).subscribe(["t", "end"], { qos: 1, properties: { subscriptionIdentifier: 7 } });
  const publisher = await world.connect("p", { side: 0 });
  const properties = {
    payloadFormatIndicator: true, contentType: "text/plain", responseTopic: world.topic("r"),
    correlationData: Buffer.from([0, 255]), userProperties: { a: ["1", "2"], b: "3" },
  };
  await publisher.publish("t", "x", { qos: 1, properties });
  await publisher.publish("end", "");
  await subscriber.until("end");
}, [5]);

add("aliases", async (world) => {
  const subscriber = await (await world.connect("s", { properties: { topicAliasMaximum: 5 } })).subscribe(["t/+", "end"]);
  const publisher = await world.connect("p", { side: 0, autoUseTopicAlias: true, autoAssignTopicAlias: true });
  for (const at of [0, 1, 2, 0, 1, 2]) await publisher.publish(`t/${at}`, `${at}`);
  await publisher.publish("end", "");
  await subscriber.until("end");
}, [5]);

add("receive_maximum", async (world) => {
  const subscriber = await (await world.connect("s", { properties: { receiveMaximum: 3 } })).subscribe(["t", "end"]);
  const publisher = await world.connect("p", { side: 0 });
  for (let at = 0; at < 20; at++) await publisher.publish("t", `${at}`);
  await publisher.publish("end", "");
  await subscriber.until("end");
}, [5]);

add("shared", async (world) => {
  const members = [];
  for (const name of ["one", "two"]) members.push(await (await world.connect(name)).subscribe(["$share/g/t", "end"]));
  const publisher = await world.connect("p", { side: 0 });
  for (let at = 0; at < 6; at++) await publisher.publish("t", `${at}`);
  await publisher.publish("end", "");
  for (const member of members) await member.until("end");
  // Which of them gets a message is the broker's choice.
  const all = ["one", "two"].flatMap((name) => world.transcript[name].messages.map((message) => JSON.stringify(message)));
  world.transcript = { members: all.sort() };
});

async function run(name, way) {
  const { run, version } = cases[name];
  const world = new World(settings.ways[way], name, version, `${settings.topics}/${way}`);
  const result = { case: name, way };
  try {
    await run(world);
  } catch (error) {
    result.failed = error.stack;
  }
  world.clients.forEach((client) => client.end(true));
  console.log(JSON.stringify({ ...result, saw: world.transcript }));
}

const pending = Object.keys(cases)
  .filter((name) => name.includes(settings.only))
  .flatMap((name) => Object.keys(settings.ways).map((way) => [name, way]));
await Promise.all(Array.from({ length: settings.jobs }, async () => {
  for (let next; (next = pending.shift()); ) await run(...next);
}));
