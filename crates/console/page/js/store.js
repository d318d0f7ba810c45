// What the page knows: one store, filled by /api/state and then by the feed. Views read it and are drawn again,
// at most once in DRAW_EVERY_MS, however many events come.
import * as api from './api.js';

const DRAW_EVERY_MS = 200;
const KEPT_ENTRIES = 500;
const KEPT_WIRE = 200;
const KEPT_SECONDS = 300;
const KEPT_POINTS = 2000;
const RETRY_MS = 2000;

export const store = {
  phase: 'loading', // 'loading', 'signed-out' or 'ready'
  connected: true,
  problem: '',
  session: null,
  key: null, // the token as a key that cannot be read; gone when the page is loaded again
  state: null,
  nodes: new Map(),
  groups: new Map(),
  entries: [], // newest first
  wire: [], // newest first
  series: null, // Map of seriesName to series, when a view has asked for it
  seriesAt: 0, // When it was fetched
  pace: [], // [at, messages a second], one a second
  verify: null,
  actions: new Map(),
  notes: [],
  fleet: 0, // counts what changes of nodes and groups
  changes: 0, // counts what changes on the ledger, so that details are fetched again
};

const views = new Set();
const linkViews = new Set();
let drawing = false;
let drawnAt = 0;

export function subscribe(view) {
  views.add(view);
  return () => views.delete(view);
}

/** `view` is called with the links of each "links" event, without a drawing of the page. */
export function onLinks(view) {
  linkViews.add(view);
  return () => linkViews.delete(view);
}

export function changed() {
  if (drawing) return;
  drawing = true;
  const wait = Math.max(0, drawnAt + DRAW_EVERY_MS - performance.now());
  setTimeout(() => requestAnimationFrame(draw), wait);
}

function draw() {
  drawing = false;
  drawnAt = performance.now();
  for (const view of views) view();
}

let noteIds = 0;

/** Shows a line at the foot of the page for a while. */
export function note(level, text) {
  const id = ++noteIds;
  store.notes.push({ id, level, text });
  setTimeout(() => dismiss(id), level === 'error' ? 15000 : 7000);
  changed();
}

export function dismiss(id) {
  store.notes = store.notes.filter((one) => one.id !== id);
  changed();
}

const byIndexDown = (a, b) => b.index - a.index;

/** Entries that a view has fetched join those of the feed. */
export function addEntries(entries) {
  const known = new Set(store.entries.map((entry) => entry.index));
  const fresh = entries.filter((entry) => !known.has(entry.index));
  if (fresh.length) store.entries = [...fresh, ...store.entries].sort(byIndexDown).slice(0, KEPT_ENTRIES);
}

/** Messages of the feed or of the API join those known, the newest first. */
export function addWire(messages) {
  const all = new Map([...store.wire, ...messages].map((message) => [message.id, message]));
  store.wire = [...all.values()].sort((a, b) => b.id - a.id).slice(0, KEPT_WIRE);
}

export const seriesName = (of) => [of.topic, of.name, of.node, of.group, of.source].join('\n');

const RELOAD_MS = 5000;
let reload = null;

/** Fetches the charts' readings again, once for all that ask for it meanwhile. */
function reloadSeries() {
  reload ??= setTimeout(() => {
    reload = null;
    if (store.series) loadSeries().catch(() => {});
  }, Math.max(0, store.seriesAt + RELOAD_MS - Date.now()));
}

/** The charts' readings: fetched once, then kept up by the feed. */
export async function loadSeries() {
  store.seriesAt = Date.now();
  const { series } = await api.get('values');
  store.series = new Map(series.map((one) => [seriesName(one), one]));
  changed();
}

function addValue(value) {
  if (!store.series) return;
  const series = store.series.get(seriesName(value));
  // The first reading of a topic: its bands and unit are known only to the hub.
  if (!series) return reloadSeries();
  // It may have been loaded with the others before the feed told it.
  if (value.source === 'node' && value.point.at <= series.points.at(-1)?.at) return;
  series.points.push(value.point);
  if (series.points.length > KEPT_POINTS) series.points.splice(0, series.points.length - KEPT_POINTS);
}

function addTotals({ at, totals, ledger, hub }) {
  Object.assign(store.state, { at, totals, ledger: ledger ?? store.state.ledger, hub: hub ?? store.state.hub });
  store.pace.push([at, totals.per_second]);
  if (store.pace.length > KEPT_SECONDS) store.pace.shift();
}

const EVENTS = {
  totals: addTotals,
  node: (node) => {
    store.nodes.set(node.id, node);
    store.fleet += 1;
  },
  group: (group) => {
    store.groups.set(group.name, group);
    store.fleet += 1;
  },
  alarms: (alarms) => void (store.state.alarms = alarms),
  entry: (entry) => {
    addEntries([entry]);
    store.changes += 1;
  },
  wire: ({ messages }) => addWire(messages),
  links: ({ links }) => linkViews.forEach((view) => view(links)),
  value: addValue,
  verify: (verify) => void (store.verify = verify),
  action: (action) => {
    store.actions.set(action.id, action);
    note(action.state === 'done' ? 'good' : 'error', action.text);
    store.changes += 1;
  },
  demo: (demo) => void (store.state.demo = demo),
};

let feed = null;

/** Opens the feed first and loads the state then, so that nothing falls between them. */
async function load() {
  feed?.close();
  const early = [];
  let ready = false;
  const own = new EventSource('/api/feed');
  feed = own;
  for (const [name, apply] of Object.entries(EVENTS)) {
    own.addEventListener(name, (event) => {
      const data = JSON.parse(event.data);
      if (!ready) return early.push(() => apply(data));
      apply(data);
      if (name !== 'links') changed();
    });
  }
  own.addEventListener('reset', () => feed === own && load().catch(failed));
  own.addEventListener('open', () => setConnected(true));
  own.addEventListener('error', () => feed === own && lost(own));
  const [state, recent] = await Promise.all([api.get('state'), api.get('entries?limit=50')]);
  if (feed !== own) return;
  store.state = state;
  store.nodes = new Map(state.nodes.map((node) => [node.id, node]));
  store.groups = new Map(state.groups.map((group) => [group.name, group]));
  store.entries = recent.entries;
  store.changes += 1;
  store.fleet += 1;
  if (store.series) loadSeries().catch(() => {});
  ready = true;
  early.forEach((apply) => apply());
  store.phase = 'ready';
  changed();
}

function setConnected(connected) {
  store.connected = connected;
  changed();
}

/** The browser connects again by itself and resumes; where it has given up, ask why. */
function lost(own) {
  setConnected(false);
  if (own.readyState === EventSource.CLOSED) setTimeout(() => feed === own && start(), RETRY_MS);
}

function failed(problem) {
  feed?.close();
  feed = null;
  if (problem.status === 401) {
    store.phase = 'signed-out';
    store.session = null;
    store.connected = true;
  } else {
    store.connected = false;
    store.problem = problem.message;
    setTimeout(start, RETRY_MS);
  }
  changed();
}

export async function start() {
  try {
    store.session = await api.session();
    await load();
  } catch (problem) {
    failed(problem);
  }
}

export async function signIn(token) {
  const key = await api.tokenKey(token);
  store.session = await api.signIn(key);
  store.key = key;
  await load().catch(failed);
}

export async function signOut() {
  feed?.close();
  feed = null;
  await api.signOut().catch(() => {});
  Object.assign(store, { phase: 'signed-out', session: null, key: null, state: null, entries: [], wire: [], series: null });
  changed();
}
