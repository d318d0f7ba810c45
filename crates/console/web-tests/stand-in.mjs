// A stand-in for the hub: it serves the page and the console's API for a fleet in memory, and checks proofs as the hub does.
import { createHmac, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, normalize } from 'node:path';
import { Fleet } from './fleet.mjs';

const PAGE = new URL('../page/', import.meta.url);
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.mjs': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.json': 'application/json' };
const HEADERS = {
  'content-security-policy':
    "default-src 'self'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
};
const TICK_MS = 100;
const RING = 2000;
const ACTION = 'sealcast console: action';

const hmac = (token, text) => createHmac('sha256', token).update(text).digest('hex');
const refused = (status, code, message) => Object.assign(new Error(message), { status, code });

export class StandIn {
  /** `tokens` are {reader, operator}. */
  constructor(options, tokens) {
    this.fleet = new Fleet(options);
    this.tokens = tokens;
    this.sessions = new Map();
    this.feeds = new Set();
    this.ring = [];
    this.events = 0;
    this.server = createServer((request, response) => this.answer(request, response));
  }

  async listen(port = 0) {
    await new Promise((resolve) => this.server.listen(port, '127.0.0.1', resolve));
    this.ticks = 0;
    this.timer = setInterval(() => this.tick(), TICK_MS);
    return `http://127.0.0.1:${this.server.address().port}`;
  }

  async close() {
    clearInterval(this.timer);
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  /** Ends all feeds, as a hub does that is restarted. */
  cutFeeds() {
    for (const feed of this.feeds) feed.destroy();
  }

  send(event, data) {
    const id = (this.events += 1);
    const text = `id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
    this.ring.push([id, text]);
    if (this.ring.length > RING) this.ring.shift();
    for (const feed of this.feeds) feed.write(text);
  }

  tick() {
    const { fleet } = this;
    const at = Date.now();
    this.ticks += 1;
    if (fleet.nodes.size) this.traffic(at);
    if (this.ticks % 10) return;
    this.send('totals', { at, totals: fleet.totals(), ledger: fleet.ledger(), hub: fleet.hub() });
    const nodes = [...fleet.nodes.values()];
    for (let n = 0; n < Math.min(nodes.length, 60); n += 1) this.send('node', nodes[Math.floor(fleet.random() * nodes.length)]);
    for (const group of fleet.groups.values()) this.send('group', fleet.group(group));
    for (const series of fleet.series) {
      const point = { ...fleet.reading(at, Math.floor(at / 1000)) };
      point.value = Math.round(point.value * (series.unit === 'hPa' ? 41 : 1) * 100) / 100;
      series.points.push(point);
      const { node, topic, name, group, source } = series;
      this.send('value', { node, topic, name, group, source, point });
    }
    if (fleet.story) {
      fleet.tellOn();
      this.send('demo', fleet.demo());
    }
  }

  traffic(at) {
    const { fleet } = this;
    this.owed = (this.owed ?? 0) + (fleet.rate * TICK_MS) / 1000;
    const messages = [];
    for (; this.owed >= 1; this.owed -= 1) messages.push(fleet.message(messages.length === 0 && fleet.seen % 9 === 8));
    if (!messages.length) return;
    this.send('wire', { messages: messages.slice(0, 20) });
    this.send('links', { at, links: messages.map(({ from, group = null, topic }) => ({ from, group, topic, count: 1 })) });
  }

  async answer(request, response) {
    const url = new URL(request.url, 'http://stand-in');
    try {
      if (url.pathname.startsWith('/api/')) await this.api(request, response, url);
      else this.file(response, url.pathname);
    } catch (problem) {
      const { status = 500, code = 'internal', message } = problem;
      this.json(response, status, { error: { code, message } });
    }
  }

  file(response, path) {
    const name = normalize(path === '/' ? 'index.html' : path.slice(1));
    try {
      const bytes = readFileSync(new URL(name, PAGE));
      response.writeHead(200, { ...HEADERS, 'content-type': TYPES[extname(name)] ?? 'text/plain' }).end(bytes);
    } catch {
      response.writeHead(404, HEADERS).end('there is no such page: the console is at /\n');
    }
  }

  json(response, status, body, headers = {}) {
    response.writeHead(status, { ...HEADERS, ...headers, 'content-type': 'application/json' }).end(JSON.stringify(body));
  }

  session(request) {
    const id = /session=([0-9a-f]+)/.exec(request.headers.cookie ?? '')?.[1];
    const session = this.sessions.get(id);
    if (!session) throw refused(401, 'signed-out', 'Sign in first.');
    if (request.method !== 'GET' && request.headers['x-sealcast-csrf'] !== session.csrf) throw refused(403, 'csrf', 'The session does not match. Load the page again.');
    return { id, session };
  }

  async api(request, response, url) {
    const body = request.method === 'POST' ? JSON.parse((await read(request)) || '{}') : {};
    const [what, id] = url.pathname.slice('/api/'.length).split('/').map(decodeURIComponent);
    if (what === 'session' && request.method === 'POST') return this.signIn(response, body);
    const { id: cookie, session } = this.session(request);
    const found = (value) => value ?? Promise.reject(refused(404, 'unknown', `There is no ${what} ${id}.`));
    const { fleet } = this;
    const query = Object.fromEntries(url.searchParams);
    switch (`${request.method} ${what}`) {
      case 'GET session': return this.json(response, 200, session);
      case 'DELETE session': return this.sessions.delete(cookie), this.json(response, 200, {});
      case 'GET state': return this.json(response, 200, fleet.state());
      case 'GET feed': return this.feed(request, response);
      case 'GET nodes': return this.json(response, 200, await found(fleet.nodeDetail(id)));
      case 'GET groups': return this.json(response, 200, await found(fleet.groupDetail(id)));
      case 'GET entries':
        if (id !== undefined) return this.json(response, 200, await found(fleet.entryDetail(Number(id))));
        return this.json(response, 200, fleet.page({ ...query, before: query.before && Number(query.before), limit: Math.min(200, Number(query.limit ?? 50)) }));
      case 'GET wire': return this.json(response, 200, { messages: fleet.messages.slice(-Number(query.limit ?? 50)).reverse() });
      case 'GET values': return this.json(response, 200, { series: fleet.series });
      case 'POST verify': return this.verify(response);
      case 'POST actions': return this.action(response, session, body);
      default: throw refused(404, 'unknown', 'There is no such address.');
    }
  }

  signIn(response, { proof }) {
    const role = Object.keys(this.tokens).find((role) => hmac(this.tokens[role], 'sealcast console: sign in') === proof);
    if (!role) throw refused(401, 'token', 'The token is not right.');
    const id = randomBytes(16).toString('hex');
    const session = { role, csrf: randomBytes(16).toString('hex'), name: this.fleet.hub().name };
    this.sessions.set(id, session);
    this.json(response, 200, session, { 'set-cookie': `session=${id}; HttpOnly; SameSite=Strict; Path=/` });
  }

  feed(request, response) {
    response.writeHead(200, { ...HEADERS, 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    response.write('retry: 500\n\n');
    const last = Number(request.headers['last-event-id'] ?? NaN);
    if (last < (this.ring[0]?.[0] ?? 1) - 1 || last > this.events) response.write('event: reset\ndata: {}\n\n');
    else if (last) for (const [id, text] of this.ring) if (id > last) response.write(text);
    this.feeds.add(response);
    response.on('close', () => this.feeds.delete(response));
  }

  verify(response) {
    const of = this.fleet.entries.length;
    let done = 0;
    const step = () => {
      done = Math.min(of, done + Math.ceil(of / 12));
      if (done < of) {
        this.send('verify', { state: 'running', done, of, text: `entry ${done} of ${of}` });
        return setTimeout(step, TICK_MS);
      }
      this.send('verify', { state: 'done', done, of, text: `All ${of} entries hold: signatures, nonces and heads.` });
    };
    step();
    this.json(response, 202, {});
  }

  action(response, session, { action, node, group, reason, at, id, proof }) {
    if (session.role !== 'operator') throw refused(403, 'role', 'Sign in with the token of an operator.');
    const expected = hmac(this.tokens.operator, [ACTION, action, node, group, reason, at, id].join('\n'));
    if (!/^[0-9a-f]{16}$/.test(id) || proof !== expected) throw refused(403, 'proof', 'The proof is not right.');
    this.json(response, 202, { id });
    const entries = action === 'grant' ? this.fleet.grant(group, node, Date.now()) : this.fleet.revoke(group, node, reason, Date.now());
    for (const entry of entries) this.send('entry', entry);
    this.send('node', this.fleet.nodes.get(node));
    this.send('group', this.fleet.group(this.fleet.groups.get(group)));
    this.send('action', { id, state: 'done', text: action === 'grant' ? `${node} is granted ${group}.` : `${node} is revoked from ${group}.` });
  }
}

async function read(request) {
  let text = '';
  for await (const part of request) text += part;
  return text;
}
