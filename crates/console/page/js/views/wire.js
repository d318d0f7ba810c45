// What the broker carries, byte for byte, and in the demo what each node makes of it.
import { html, useEffect, useState } from '../lib.js';
import * as api from '../api.js';
import { addWire, changed, store } from '../store.js';
import { clock, count, plural } from '../format.js';
import { Chip, Empty, GroupName, NodeName, Stamp, VirtualTable } from '../ui.js';

const NARROW = matchMedia('(max-width: 760px)');
const SHOWN_BYTES = 256;

const COLUMNS = [
  { name: 'When', width: '84px', cell: (message) => clock(message.at) },
  { name: 'From', width: '64px', cell: (message) => html`<span class="mono">${message.from ?? '–'}</span>` },
  { name: 'Topic', width: 'minmax(90px, 1fr)', cell: (message) => html`<span class="mono">${message.topic}</span>` },
  { name: 'Bytes', width: '66px', kind: 'n', from: 'm', cell: (message) => count(message.bytes) },
  { name: 'Seal', width: '84px', cell: (message) => html`<${Chip} tone=${message.sealed ? 'good' : 'warn'}>${message.sealed ? 'sealed' : 'clear'}<//>` },
];

/** Rows of [offset, hexadecimal, ASCII] from hexadecimal digits. */
export function dump(hex) {
  const bytes = (hex.match(/../g) ?? []).slice(0, SHOWN_BYTES);
  const aRow = NARROW.matches ? 8 : 16;
  const rows = [];
  for (let at = 0; at < bytes.length; at += aRow) {
    const part = bytes.slice(at, at + aRow);
    const ascii = part.map((byte) => Number.parseInt(byte, 16)).map((code) => (code >= 32 && code < 127 ? String.fromCharCode(code) : '·'));
    rows.push([at.toString(16).padStart(4, '0'), [part.slice(0, 8), part.slice(8, aRow)].slice(0, aRow / 8).map((eight) => eight.join(' ').padEnd(23)).join('  '), ascii.join('')]);
  }
  return rows;
}

export const HexDump = ({ message }) => html`<div class="dump" role="group" tabIndex="0" aria-label="The message's bytes">
  ${dump(message.hex).map(([at, bytes, ascii]) => html`<div key=${at}><span class="muted">${at}</span><span class="bytes">${bytes}</span><span class="ascii">${ascii}</span></div>`)}
  ${message.bytes * 2 > message.hex.length && html`<p class="muted">The first ${message.hex.length / 2} of ${count(message.bytes)} bytes.</p>`}</div>`;

/** What each node read of a message: its text, or that it could not. */
export const Readers = ({ message }) => html`<div class="readers">${Object.entries(message.read).map(([id, text]) => html`
  <div class="reader ${text === null ? 'not' : 'yes'}" key=${id}><div><${NodeName} id=${id} />
    <${Chip} tone=${text === null ? 'bad' : 'good'}>${id === message.from ? 'sent it' : text === null ? 'could not read' : 'read'}<//></div>
    ${text === null ? html`<p class="muted">${plural(message.bytes, 'byte')} arrived; its application got nothing.</p>` : html`<p class="mono">${text}</p>`}</div>`)}</div>`;

function Message({ message }) {
  return html`<section class="card message" aria-label="The chosen message">
    <header><h2 class="mono">${message.topic}</h2><span class="muted num">${plural(message.bytes, 'byte')}</span></header>
    <div class="body"><p class="muted about"><${Stamp} ms=${message.at} /></p>
      <p class="about">from ${message.from ? html`<${NodeName} id=${message.from} />` : 'a client that is no node'}${message.group && html`, sealed for <${GroupName} name=${message.group} />`}
        ${!message.sealed && html` <${Chip} tone="warn">in the clear: everybody reads it<//>`}${message.retained && html` <${Chip}>retained<//>`}</p>
      <h3>On the wire</h3><${HexDump} message=${message} />
      ${message.read && html`<h3>As each node reads it</h3><${Readers} message=${message} />`}</div></section>`;
}

export function Wire({ argument }) {
  const [held, setHeld] = useState(null);
  const [only, setOnly] = useState('all');
  useEffect(() => void api.get('wire?limit=100').then(({ messages }) => (addWire(messages), changed()), () => {}), []);
  const wanted = (message) => only === 'all' || message.sealed === (only === 'sealed');
  const rows = (held ?? store.wire).filter(wanted);
  const chosen = (held ?? store.wire).find((message) => String(message.id) === argument) ?? rows[0];
  // Whoever chooses a message wants to read it: the list stands still.
  useEffect(() => {
    if (argument && !held) setHeld(store.wire);
  }, [argument]);
  const hold = () => {
    setHeld(held ? null : store.wire);
    if (held) location.hash = '#/wire';
  };
  return html`<div class="toolbar"><button type="button" aria-pressed=${!!held} onClick=${hold}>${held ? 'Follow again' : 'Hold the list'}</button>
      <select aria-label="Which messages" value=${only} onChange=${(event) => setOnly(event.currentTarget.value)}>
        <option value="all">Sealed and clear</option><option value="sealed">Sealed</option><option value="clear">In the clear</option></select>
      <span class="muted spread">${held ? 'held' : 'live'} · ${count(store.state.totals.messages)} messages seen at the broker</span></div>
    ${rows.length ? html`<div class="split wire open"><${VirtualTable} label="Messages at the broker" rows=${rows} columns=${COLUMNS} keyOf=${(message) => message.id}
        selected=${chosen?.id} hrefOf=${(message) => `#/wire/${message.id}`} />
      ${chosen && html`<${Message} message=${chosen} />`}</div>`
      : html`<div class="card"><${Empty} command="mosquitto_pub -t hsu0001/room1 -m '{&quot;temperature&quot;:27.0}'">No message has passed yet. Publish one through a node's agent:<//></div>`}`;
}
