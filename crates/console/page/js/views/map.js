// The nodes and groups as a picture, and the same as a list for the keyboard.
import { html, useEffect, useMemo, useRef, useState } from '../lib.js';
import { onLinks, store } from '../store.js';
import { Picture } from '../map/picture.js';
import { compact, count, plural } from '../format.js';
import { Chip, Empty, Online, VirtualTable, groupLink, nodeLink } from '../ui.js';

const nodeId = (id) => `node ${id}`;
const groupId = (name) => `group ${name}`;
const linkOf = (id) => (id.startsWith('group ') ? groupLink(id.slice(6)) : nodeLink(id.slice(5)));

function toneOfNode(node) {
  if (node.state !== 'active') return 'bad';
  if (node.alarms) return 'warn';
  return node.online === false ? 'muted' : 'good';
}

const TONE_OF_GROUP = { ok: 'accent', waiting: 'warn', stopped: 'bad' };

function pointsAndLinks() {
  const groups = [...store.groups.values()].map((group) => ({ id: groupId(group.name), name: group.name, group: true, tone: TONE_OF_GROUP[group.state] }));
  const nodes = [...store.nodes.values()].map((node) => ({ id: nodeId(node.id), name: node.id, group: false, tone: toneOfNode(node) }));
  const links = [...store.groups.values()].flatMap((group) => group.joined.map((id) => [groupId(group.name), nodeId(id)]));
  return [[...groups, ...nodes], links];
}

function Canvas({ chosen, onChoose }) {
  const canvas = useRef(null);
  const picture = useRef(null);
  useEffect(() => {
    picture.current = new Picture(canvas.current, onChoose);
    const off = onLinks((links) => picture.current.light(links.map(({ from, group }) => ({ from: from && nodeId(from), group: group && groupId(group) }))));
    return () => {
      off();
      picture.current.close();
    };
  }, []);
  useEffect(() => {
    picture.current.show(...pointsAndLinks());
    picture.current.choose(chosen);
  });
  const act = (what) => () => what(picture.current);
  return html`<div class="map card"><canvas ref=${canvas} role="img" aria-label="Map of nodes and groups. The list beside it has the same."></canvas>
    <div class="zoom"><button type="button" aria-label="Closer" onClick=${act((it) => it.zoom(1.4))}>+</button>
      <button type="button" aria-label="Farther" onClick=${act((it) => it.zoom(1 / 1.4))}>−</button><button type="button" onClick=${act((it) => it.fit())}>Fit</button></div>
    <ul class="legend"><li><i class="key square"></i>group</li><li><i class="dot good"></i>node</li><li><i class="dot warn"></i>alarm</li><li><i class="dot bad"></i>revoked</li><li><i class="key away"></i>not connected</li></ul></div>`;
}

const COLUMNS = [
  { name: 'Name', width: 'minmax(84px, 1fr)', cell: (row) => row.name },
  { name: 'State', width: 'minmax(110px, 1fr)', cell: (row) => (row.node ? html`<${Online} node=${row.node} />` : html`<${Chip} of=${row.group.state}>group, ${row.group.state}<//>`) },
  { name: 'Messages', width: '84px', kind: 'n', cell: (row) => compact((row.node ?? row.group).messages) },
];

function Chosen({ id, onClose }) {
  const name = id.slice(id.indexOf(' ') + 1);
  const [node, group] = id.startsWith('node ') ? [store.nodes.get(name)] : [null, store.groups.get(name)];
  if (!node && !group) return null;
  return html`<section class="card chosen" aria-label="Chosen on the map"><header><h2>${node ? 'Node' : 'Group'} ${name}</h2>
      <button type="button" class="quiet" onClick=${onClose}>Close</button></header>
    <div class="body">${node
      ? html`<p><${Chip} of=${node.state} /> <${Online} node=${node} /></p><p class="muted">Groups: ${node.groups.join(', ') || 'none'}. Sealed ${compact(node.sealed)}, opened ${compact(node.opened)}, refused ${compact(node.refused)}.</p>`
      : html`<p><${Chip} of=${group.state} /> epoch ${count(group.epoch)}, ${plural(group.joined.length, 'member')}</p><p class="muted mono">${group.filters.join(', ')}</p>`}
      <p><a href=${linkOf(id)}>Open ${node ? 'node' : 'group'} ${name}</a></p></div></section>`;
}

export function MapView() {
  const [chosen, setChosen] = useState(null);
  const [text, setText] = useState('');
  const groups = [...store.groups.values()].map((group) => ({ id: groupId(group.name), name: group.name, group }));
  const nodes = [...store.nodes.values()].map((node) => ({ id: nodeId(node.id), name: node.id, node }));
  const order = useMemo(() => new Intl.Collator('en', { numeric: true }), []);
  const rows = [...groups, ...nodes].filter((row) => row.name.includes(text)).sort((a, b) => !!a.node - !!b.node || order.compare(a.name, b.name));
  if (!store.nodes.size) return html`<div class="card"><${Empty} command="sealcast device add 1111">No nodes yet, so there is nothing to draw. Enrol one where the operator's key is:<//></div>`;
  return html`<div class="mapview"><${Canvas} chosen=${chosen} onChoose=${setChosen} />
    <div class="stack">${chosen && html`<${Chosen} id=${chosen} onClose=${() => setChosen(null)} />`}
      <input type="search" placeholder="Find" aria-label="Find a node or group by its name" value=${text} onInput=${(event) => setText(event.currentTarget.value)} />
      <${VirtualTable} label="Nodes and groups" height="short" rows=${rows} columns=${COLUMNS} keyOf=${(row) => row.id} hrefOf=${(row) => linkOf(row.id)} selected=${chosen} /></div></div>`;
}
