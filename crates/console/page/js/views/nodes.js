// The nodes as a list, and one of them: who it is, what it may read, what the contract has on record.
import { html, useMemo, useState } from '../lib.js';
import { store } from '../store.js';
import { useDetail } from '../detail.js';
import { ActionButton, GrantForm, WhyNot } from '../actions.js';
import { byName, compact, count, date, plain, plural, relative, words } from '../format.js';
import { Bars, Card, Chip, Empty, Facts, GroupName, Hex, Online, Time, VirtualTable, nodeLink } from '../ui.js';
import { EntryLine } from './entry.js';

const SOON_MS = 14 * 86400000;
const byId = (a, b) => byName(a.id, b.id);

const COLUMNS = [
  { name: 'Node', width: 'minmax(70px, 1fr)', cell: (node) => node.id },
  { name: 'Contract number', width: '128px', from: 'm', cell: (node) => html`<span class="mono" title=${node.number}>${node.number.slice(0, 10)}…</span>` },
  { name: 'State', width: '84px', cell: (node) => html`<${Chip} of=${node.state} />` },
  { name: 'Connection', width: 'minmax(120px, 1fr)', cell: (node) => html`<${Online} node=${node} />` },
  { name: 'Groups', width: 'minmax(100px, 2fr)', from: 'm', cell: (node) => html`<span class="mono muted">${[...node.groups, ...node.pending.map((name) => `${name} (pending)`)].join(', ') || '–'}</span>` },
  { name: 'Seen', width: '90px', from: 'm', cell: (node) => html`<${Time} ms=${node.seen} />` },
  { name: 'Sealed', width: '88px', kind: 'n', from: 'l', cell: (node) => compact(node.sealed) },
  { name: 'Opened', width: '88px', kind: 'n', from: 'l', cell: (node) => compact(node.opened) },
  { name: 'Refused', width: '88px', kind: 'n', from: 'l', cell: (node) => compact(node.refused) },
  { name: 'Alarms', width: '70px', kind: 'n', cell: (node) => (node.alarms ? html`<${Chip} tone="warn">${node.alarms}<//>` : '0') },
];

const SHOW = {
  all: ['All', () => true],
  needs: ['With alarms', (node) => node.alarms > 0],
  away: ['Not connected', (node) => node.online === false],
  revoked: ['Revoked or expired', (node) => node.state !== 'active'],
};

export function Nodes() {
  const [text, setText] = useState('');
  const [show, setShow] = useState('all');
  const [, wanted] = SHOW[show];
  const fits = (node) => wanted(node) && (node.id.includes(text) || node.groups.some((name) => name.includes(text)));
  const rows = useMemo(() => [...store.nodes.values()].filter(fits).sort(byId), [store.fleet, text, show]);
  if (!store.nodes.size) return html`<div class="card"><${Empty} command="sealcast device add 1111">No nodes yet. Enrol one where the operator's key is:<//></div>`;
  return html`<div class="toolbar">
      <input type="search" placeholder="Node or group" aria-label="Find a node by its name or group" value=${text} onInput=${(event) => setText(event.currentTarget.value)} />
      <select aria-label="Which nodes" value=${show} onChange=${(event) => setShow(event.currentTarget.value)}>
        ${Object.entries(SHOW).map(([name, [title]]) => html`<option value=${name}>${title}</option>`)}</select>
      <span class="muted spread" role="status">${plural(rows.length, 'node')}</span></div>
    <${VirtualTable} label="Nodes" rows=${rows} columns=${COLUMNS} keyOf=${(node) => node.id} hrefOf=${(node) => nodeLink(node.id)} />`;
}

function Certificate({ certificate, ends }) {
  const soon = ends - Date.now() < SOON_MS;
  const facts = certificate
    ? [['Subject', html`<span class="mono">${certificate.subject}</span>`], ['Serial', html`<span class="mono">${certificate.serial}</span>`],
       ['Valid from', date(certificate.not_before)], ['SHA-256', html`<${Hex} value=${certificate.sha256} />`]]
    : [];
  return html`<${Facts} of=${[['Ends', html`${date(ends)} <${Chip} tone=${soon ? 'warn' : 'good'}>${relative(ends)}<//>`], ...facts]} />`;
}

function Record({ record }) {
  const value = (one) => (typeof one === 'string' && one.length > 24 ? html`<${Hex} value=${one} />` : html`<span class="mono num">${plain(one)}</span>`);
  return html`<${Facts} of=${Object.entries(record).map(([name, one]) => [words(name), value(one)])} />`;
}

function Membership({ node }) {
  const rest = [...store.groups.keys()].filter((name) => !node.groups.includes(name) && !node.pending.includes(name));
  const row = (name, pending) => html`<li key=${name}><${GroupName} name=${name} />
    ${pending ? html`<${Chip} tone="warn">pending: a member has yet to add it<//>` : html`<span class="muted">epoch ${count(store.groups.get(name)?.epoch)}</span>`}
    <${ActionButton} action="revoke" node=${node.id} group=${name} label="Revoke…" /></li>`;
  return html`${node.groups.length + node.pending.length
      ? html`<ul class="members">${node.groups.map((name) => row(name, false))}${node.pending.map((name) => row(name, true))}</ul>`
      : html`<p class="muted">This node is in no group: it can read nothing that is sealed.</p>`}
    <${GrantForm} of=${{ node: node.id }} choices=${rest} label="Grant a group" /><${WhyNot} />`;
}

const Quality = ({ quality }) => quality.length
  ? html`<ul class="plainlist">${quality.map((one) => html`<li key=${one.topic}><${Chip} of=${one.state} /> <span class="mono">${one.topic}</span>
      <p>${one.text} <span class="muted">since <${Time} ms=${one.since} /></span></p></li>`)}</ul>`
  : html`<p class="muted">Its agent reports no problem with its readings.</p>`;

export function NodeView({ argument }) {
  const node = store.nodes.get(argument);
  const { value: detail, problem } = useDetail(`nodes/${encodeURIComponent(argument)}`);
  if (!node) return html`<div class="card"><${Empty}>There is no node ${argument}. <a href="#/nodes">All nodes</a><//></div>`;
  const own = store.state.alarms.filter((alarm) => alarm.node === argument);
  return html`<div class="lead"><${Chip} of=${node.state} /><${Online} node=${node} /><span class="muted">seen <${Time} ms=${node.seen} /></span>
      <span class="muted">contract number <b class="mono">${node.number}</b></span></div>
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    ${own.map((alarm) => html`<div class="standing ${alarm.level}" key=${alarm.id}><b>${alarm.text}</b> ${alarm.advice}</div>`)}
    <div class="counters">${[['Published', node.messages], ['Sealed', node.sealed], ['Opened', node.opened], ['Refused', node.refused]].map(([name, n]) => html`
      <div key=${name}><span class="muted">${name}</span><b class="num">${compact(n)}</b></div>`)}</div>
    <div class="columns even">
      <div class="stack">
        <${Card} title="Groups" id="n-groups"><${Membership} node=${node} /><//>
        <${Card} title="Certificate" id="n-cert"><${Certificate} certificate=${detail?.certificate} ends=${node.certificate_ends} /><//>
        <${Card} title="Quality of its readings" id="n-quality">${detail && html`<${Quality} quality=${detail.quality} />`}<//>
        <${Card} title="Refused by its agent" id="n-refused">${detail?.refusals.length
          ? html`<${Bars} rows=${detail.refusals.map((one) => [one.code, one.count, one.text])} />` : html`<p class="muted">Nothing was refused.</p>`}<//>
      </div>
      <div class="stack">
        <${Card} title="Record on the contract" id="n-record" aside=${html`<span class="muted mono">${store.state.ledger.contract.slice(0, 10)}…</span>`}>${detail && html`<${Record} record=${detail.contract_record} />`}<//>
        <${Card} title="Public key" id="n-key"><${Hex} value=${detail?.public_key} /><//>
        <${Card} title="On the ledger" id="n-entries" flush><ol class="entries">${detail?.entries.map((entry) => html`<${EntryLine} entry=${entry} key=${entry.index} />`)}</ol><//>
      </div>
    </div>`;
}
