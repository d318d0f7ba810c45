// A fleet that exists only in memory: four nodes as in the paper, or many. It makes what the console's API tells.
import { createHash } from 'node:crypto';
import { SCENES, STORY } from './story.mjs';

const hash = (text) => createHash('sha256').update(text).digest('hex');
const DAY = 86400000;
const KEPT = 400;
const FIRST_NODE = 1111;
const MEMBERS_PER_GROUP = 25;
const SECONDS_OF_POINTS = 600;

export class Fleet {
  constructor({ nodes = 4, rate = 4, demo = true, empty = false } = {}) {
    this.rate = rate;
    this.started = Date.now() - 3 * 3600000;
    this.nodes = new Map();
    this.groups = new Map();
    this.entries = [];
    this.messages = [];
    this.series = [];
    this.alarms = [];
    this.refused = {};
    this.seen = 0;
    this.seed = 7;
    this.story = demo ? { at: 0, temperature: 24, shown: 24, history: [] } : null;
    this.small = nodes <= 8;
    if (empty) return;
    this.clockOfEntries = this.started;
    for (let n = 0; n < nodes; n += 1) this.enrol(String(FIRST_NODE + n));
    if (this.small) this.likeThePaper();
    else this.spread();
    this.fillValues();
  }

  random() {
    this.seed = (this.seed * 1103515245 + 12345) % 2147483648;
    return this.seed / 2147483648;
  }

  entry(kind, by, text, more = {}, at = (this.clockOfEntries += 1000)) {
    const entry = { index: this.entries.length, at, kind, by, text, ...more };
    this.entries.push(entry);
    return entry;
  }

  enrol(id) {
    const place = this.nodes.size + 1;
    const number = hash(`number ${id}`).slice(0, 40);
    const ends = Date.now() + (place === 2 ? 6 : 300) * DAY;
    this.nodes.set(id, {
      id, number, state: 'active', online: true, seen: Date.now(), groups: [], pending: [],
      messages: 0, sealed: 0, opened: 0, refused: 0, alarms: 0, certificate_ends: ends,
    });
    this.entry('device_added', 'ca', `node ${id} is added, contract number ${number}`, { node: id });
  }

  createGroup(name, filters, authenticity = 'signed') {
    const number = this.groups.size + 1;
    this.groups.set(name, {
      name, number, filters, epoch: 0, members: [], joined: [], authenticity, state: 'ok', messages: 0, per_second: 0, epochs: [],
    });
    const { index, at } = this.entry('group_created', 'operator', `group ${name} is created over ${filters}`, { group: name });
    this.groups.get(name).epochs.push({ epoch: 0, index, author: 'operator', cause: 'created', at });
  }

  grant(name, id, at) {
    const group = this.groups.get(name);
    const node = this.nodes.get(id);
    if (group.members.includes(id)) return [];
    group.members.push(id);
    group.joined.push(id);
    node.groups.push(name);
    const granted = this.entry('granted', 'operator', `${id} is granted ${name}`, { node: id, group: name }, at);
    const author = group.joined[0];
    return [granted, this.advance(group, author, `added ${id}`, id, at)];
  }

  revoke(name, id, reason, at) {
    const group = this.groups.get(name);
    const without = (list) => list.filter((one) => one !== id);
    group.members = without(group.members);
    group.joined = without(group.joined);
    const node = this.nodes.get(id);
    node.groups = node.groups.filter((one) => one !== name);
    const revoked = this.entry('revoked', 'operator', `${id} is revoked from ${name}: ${reason}`, { node: id, group: name }, at);
    return [revoked, this.advance(group, group.joined[0] ?? 'operator', `removed ${id}: ${reason}`, id, at)];
  }

  advance(group, author, cause, node, at) {
    group.epoch += 1;
    const text = `${group.name} is at epoch ${group.epoch}: ${cause}`;
    const entry = this.entry('epoch', author, text, { node, group: group.name }, at);
    group.epochs.push({ epoch: group.epoch, index: entry.index, author, cause, at: entry.at });
    return entry;
  }

  likeThePaper() {
    this.createGroup('hsu0001', ['hsu0001/#']);
    this.grant('hsu0001', '1111');
    this.grant('hsu0001', '1112');
    this.createGroup('hsu0002', ['hsu0002/#']);
    this.grant('hsu0002', '1113');
    this.grant('hsu0002', '1114');
    this.refused = { 'key-not-member': 41, 'open-forged': 12, 'open-replayed': 7, 'quality-step': 5, 'hub-topic': 1 };
    this.nodes.get('1112').alarms = 1;
    this.alarms = [
      {
        id: 'certificate-1112', level: 'warn', since: Date.now() - 2 * 3600000, node: '1112', code: 'certificate-ends',
        text: 'The certificate of node 1112 ends in 6 days.', advice: 'Renew it on the node: sealcast device renew 1112. Its agent does so by itself if the CA is reachable.',
      },
    ];
  }

  spread() {
    const ids = [...this.nodes.keys()];
    for (let n = 0; n * MEMBERS_PER_GROUP < ids.length; n += 1) {
      const name = `hall${String(n + 1).padStart(2, '0')}`;
      this.createGroup(name, [`${name}/#`]);
      for (const id of ids.slice(n * MEMBERS_PER_GROUP, (n + 1) * MEMBERS_PER_GROUP)) this.grant(name, id);
      if (n > 0) this.grant(name, ids[n * MEMBERS_PER_GROUP - 1]);
    }
    this.refused = { 'key-not-member': 412, 'open-replayed': 38, 'key-awaited': 21, 'quality-range': 9 };
    this.alarms = [
      { id: 'silent', level: 'error', since: Date.now() - 900000, node: ids[41], text: `Node ${ids[41]} has been silent for 15 minutes.`, advice: 'Check its power and network; then `sealcast doctor` on the node.' },
      { id: 'stopped', level: 'error', since: Date.now() - 300000, group: 'hall07', text: 'Group hall07 is stopped: its members do not agree on the epoch.', advice: 'Restart its agents one by one. If it stays, see docs: recovery.' },
    ];
    this.nodes.get(ids[41]).online = false;
    this.groups.get('hall07').state = 'stopped';
  }

  fillValues() {
    const at = Date.now();
    const points = [];
    for (let n = 0; n < SECONDS_OF_POINTS; n += 1) points.push(this.reading(at - (SECONDS_OF_POINTS - n) * 1000, n));
    const [node] = this.nodes.keys();
    const [group] = this.groups.keys();
    const series = (topic, unit, scale, min, max) => ({
      node, topic: `${group}/${topic}`, name: '', group, source: 'node', unit, bands: { min, max, step: 2 * scale },
      points: points.map((point) => ({ ...point, value: Math.round(point.value * scale * 100) / 100 })),
    });
    this.series = [series('room1', 'Cel', 1, 15, 30), series('pressure', 'hPa', 41, 700, 1200)];
  }

  reading(at, n) {
    const value = 24 + 3 * Math.sin(n / 90) + (this.random() - 0.5) * 0.4;
    if (n % 173 === 120) return { at, value: value + 9, verdict: 'blocked', reason: 'step: 9.0 degrees in 1 s, the rule allows 2.0' };
    if (n % 97 === 60) return { at, value: value + 1.8, verdict: 'flagged', reason: 'rate: rises faster than 1.0 degree a minute' };
    return { at, value, verdict: 'good' };
  }

  /** One message at the broker by a node that is a member of a group, or in the clear where `clear`. */
  message(clear = false) {
    const ids = [...this.nodes.keys()];
    const from = ids[Math.floor(this.random() * ids.length)];
    const node = this.nodes.get(from);
    const name = node.groups[Math.floor(this.random() * node.groups.length)] ?? null;
    const text = JSON.stringify({ sensor: from, temperature: Math.round((24 + 4 * this.random()) * 10) / 10 });
    const sealed = name !== null && !clear;
    const topic = sealed ? `${name}/room1` : 'open/room1';
    const clearBytes = Buffer.from(text);
    const bytes = sealed ? Buffer.concat([Buffer.from([0x5c, 1, 0, 2]), Buffer.from(hash(text + this.seen) + hash(`${this.seen}`), 'hex')]) : clearBytes;
    const id = (this.seen += 1);
    node.messages += 1;
    node.seen = Date.now();
    const group = sealed ? this.groups.get(name) : null;
    if (group) {
      group.messages += 1;
      node.sealed += 1;
      for (const member of group.joined) if (member !== from) this.nodes.get(member).opened += 1;
    }
    const read = this.small ? Object.fromEntries(ids.map((one) => [one, !sealed || group.joined.includes(one) ? text : null])) : undefined;
    const message = { id, at: Date.now(), from, topic, bytes: bytes.length, hex: bytes.toString('hex').slice(0, 512), sealed, retained: false, ...(sealed && { group: name }), ...(read && { read }) };
    this.messages.push(message);
    if (this.messages.length > KEPT) this.messages.shift();
    return message;
  }

  totals() {
    const sum = (name) => [...this.nodes.values()].reduce((total, node) => total + node[name], 0);
    return {
      messages: this.seen, per_second: this.rate * (0.9 + 0.2 * this.random()), sealed: sum('sealed'), opened: sum('opened'), refused: this.refused,
    };
  }

  ledger() {
    const last = this.entries.at(-1);
    return { chain_id: 31337, contract: `0x${hash('contract').slice(0, 40)}`, height: this.entries.length, head: `0x${hash(`head ${this.entries.length}`)}`, place: 'embedded', last: last?.at ?? null };
  }

  hub() {
    return { name: 'greenhouse', version: '0.1.0', started: this.started, broker: 'mqtts://localhost:8883', own_broker: true, operator: true };
  }

  group({ epochs, ...group }) {
    return { ...group, per_second: this.groups.size ? this.rate / this.groups.size : 0 };
  }

  state() {
    return {
      at: Date.now(), hub: this.hub(), ledger: this.ledger(), totals: this.totals(), nodes: [...this.nodes.values()],
      groups: [...this.groups.values()].map((group) => this.group(group)), alarms: this.alarms, demo: this.demo(),
    };
  }

  nodeDetail(id) {
    const node = this.nodes.get(id);
    if (!node) return null;
    const public_key = `04${hash(`x${id}`)}${hash(`y${id}`)}`;
    return {
      ...node, public_key, reported: Date.now() - 4000,
      certificate: { sha256: hash(id), subject: `CN=${id}`, serial: hash(`serial ${id}`).slice(0, 16), not_before: this.started - 30 * DAY, not_after: node.certificate_ends },
      contract_record: { number: node.number, id, fingerprint: `0x${hash(id)}`, owner: `0x${hash('owner').slice(0, 40)}`, public_key: `0x${public_key}`, registered_at_block: 4, revoked: false },
      refusals: node.refused || node.alarms ? [{ code: 'key-not-member', count: 41, text: 'The device is not granted the group.' }] : [],
      quality: this.small && id === '1111' ? [{ topic: 'hsu0001/room1', state: 'flagged', text: 'rises faster than 1.0 degree a minute', since: Date.now() - 60000 }] : [],
      entries: this.entries.filter((entry) => entry.node === id).slice(-20).reverse(),
    };
  }

  groupDetail(name) {
    const group = this.groups.get(name);
    if (!group) return null;
    return {
      ...this.group(group), epochs: [...group.epochs].reverse().slice(0, 100),
      policy: { authenticity: 'each message is signed by its sender', rekey_every: '24 h', keep_old_keys: '60 s', max_members: 1024, padding: 'to 32 bytes' },
      limits: ['Messages of an epoch before the last are refused after 60 s.', 'At most 1,024 members.'],
      entries: this.entries.filter((entry) => entry.group === name).slice(-20).reverse(),
    };
  }

  page({ before, limit, kind, node, group }) {
    const found = this.entries.filter((entry) => (before == null || entry.index < before) && (!kind || entry.kind === kind) && (!node || entry.node === node) && (!group || entry.group === group)).reverse();
    return { entries: found.slice(0, limit), more: found.length > limit };
  }

  entryDetail(index) {
    const entry = this.entries[index];
    if (!entry) return null;
    const head = (n) => `0x${hash(`head ${n}`)}`;
    return {
      ...entry, nonce: index, digest: `0x${hash(`digest ${index}`)}`, head_before: head(index), head: head(index + 1), record: hash(`record ${index}`).repeat(3),
      fields: { kind: entry.kind, ...(entry.node && { device: this.nodes.get(entry.node)?.number ?? null, node: entry.node }), ...(entry.group && { group: entry.group }) },
      signature: { r: hash(`r${index}`), s: hash(`s${index}`), key: `04${hash('kx')}${hash('ky')}`, good: true },
    };
  }

  /** Moves the story on by one tick of the clock. */
  tellOn() {
    const story = this.story;
    story.at = (story.at + 1) % (SCENES.length * 30);
    const { told, opens } = SCENES[Math.min(SCENES.length - 1, Math.floor(story.at / 30))];
    if (story.at === 0) Object.assign(story, { temperature: 24, history: [], damaged: false });
    const open = opens(story);
    story.temperature += open ? -0.25 : 0.18;
    story.shown = told(story);
    story.open = open;
    story.damaged ||= story.temperature > 28;
    story.history.push([Date.now(), round(story.temperature), round(story.shown)]);
    if (story.history.length > 240) story.history.shift();
  }

  demo() {
    if (!this.story) return null;
    const now = Math.min(STORY.length - 1, Math.floor((this.story.at / (SCENES.length * 30)) * STORY.length));
    const steps = STORY.map(({ seen, ...step }, n) => ({
      n: n + 1, ...step, state: n < now ? 'held' : n === now ? 'running' : 'waiting', ...(n < now && { seen: seen ?? step.expected, at: this.started + n * 5000 }),
    }));
    const { temperature, shown, open, damaged, history } = this.story;
    return { steps, valve: { temperature: round(temperature), shown: round(shown), valve: open ? 'open' : 'shut', damaged: !!damaged, history }, done: false, total: steps.length };
  }
}

const round = (value) => Math.round(value * 10) / 10;
