// The ledger's entries, newest first; one of them in full; and the verification of all of them.
import { html, useEffect, useRef, useState } from '../lib.js';
import * as api from '../api.js';
import { store } from '../store.js';
import { useDetail } from '../detail.js';
import { count, plain, words } from '../format.js';
import { Chip, Empty, Facts, Hex, Stamp, Time, VirtualTable } from '../ui.js';
import { Kind } from './entry.js';

const PAGE = 100;
const KINDS_TEXT = 'All kinds';

const COLUMNS = [
  { name: 'Entry', width: '76px', cell: (entry) => `#${count(entry.index)}` },
  { name: 'Kind', width: '150px', from: 'm', cell: (entry) => html`<${Kind} kind=${entry.kind} />` },
  { name: 'What it says', width: 'minmax(120px, 4fr)', cell: (entry) => html`<span title=${entry.text}>${entry.text}</span>` },
  { name: 'By', width: '100px', from: 'm', cell: (entry) => html`<span class="mono">${entry.by}</span>` },
  { name: 'When', width: '96px', cell: (entry) => html`<${Time} ms=${entry.at} />` },
];

const matches = (filter) => (entry) =>
  (!filter.kind || entry.kind === filter.kind) && (!filter.node || entry.node === filter.node) && (!filter.group || entry.group === filter.group);

/** The entries that fit `filter`: pages from the API, and on top of them what the feed brought since. */
function useEntries(filter) {
  const [pages, setPages] = useState({ entries: [], more: true, problem: '' });
  const loading = useRef(false);
  const load = async (entries) => {
    if (loading.current) return;
    loading.current = true;
    const query = new URLSearchParams({ limit: PAGE });
    for (const [name, value] of Object.entries(filter)) if (value) query.set(name, value);
    if (entries.length) query.set('before', entries.at(-1).index);
    try {
      const page = await api.get(`entries?${query}`);
      setPages({ entries: [...entries, ...page.entries], more: page.more, problem: '' });
    } catch (problem) {
      setPages({ entries, more: false, problem: problem.message });
    }
    loading.current = false;
  };
  useEffect(() => void load([]), [filter]);
  const newest = pages.entries[0]?.index ?? -1;
  const live = store.entries.filter((entry) => entry.index > newest && matches(filter)(entry));
  return { ...pages, entries: [...live, ...pages.entries], loadMore: () => pages.more && load(pages.entries) };
}

function Verify() {
  const [problem, setProblem] = useState('');
  const { verify } = store;
  const running = verify?.state === 'running';
  const begin = () => api.post('verify').then(() => setProblem(''), (failure) => setProblem(failure.message));
  return html`<div class="verify"><button type="button" class="primary" disabled=${running} onClick=${begin}>${running ? 'Verifying…' : 'Verify from the first entry'}</button>
    ${running && html`<progress aria-label="Entries verified" value=${verify.done} max=${verify.of || 1}></progress>
      <span class="num muted">${count(verify.done)} of ${count(verify.of)}</span>`}
    <span role="status">${verify && !running && html`<${Chip} of=${verify.state}>${verify.state === 'done' ? 'Verified' : 'Failed'}<//> ${verify.text}`}</span>
    <span class="problem" role="alert">${problem}</span></div>`;
}

function Entry({ index }) {
  const { value: entry, problem } = useDetail(`entries/${index}`, false);
  const title = useRef(null);
  useEffect(() => title.current.focus(), [index]);
  const close = () => (location.hash = '#/ledger');
  const value = (one) => (typeof one === 'string' && /^(0x)?[0-9a-f]{24,}$/.test(one) ? html`<${Hex} value=${one} />` : html`<span class="mono">${plain(one)}</span>`);
  return html`<aside class="drawer card" aria-labelledby="entry-title" onKeyDown=${(event) => event.key === 'Escape' && close()}>
    <header><h2 id="entry-title" tabIndex="-1" ref=${title}>Entry #${count(Number(index))}</h2>
      <button type="button" class="quiet" onClick=${close}>Close</button></header>
    <div class="body">${problem && html`<p class="problem" role="alert">${problem}</p>`}
      ${entry && html`<p class="says">${entry.text}</p>
        <p><${Chip} of=${entry.signature.good ? 'good' : 'failed'}>${entry.signature.good ? 'Signature holds' : 'Signature does not hold'}<//> <span class="muted">signed by ${entry.by}</span></p>
        <${Facts} of=${[['Kind', html`<${Kind} kind=${entry.kind} />`], ['When', html`<${Stamp} ms=${entry.at} />`], ['Nonce', html`<span class="num">${plain(entry.nonce)}</span>`]]} />
        <h3>Fields</h3><${Facts} of=${Object.entries(entry.fields).map(([name, one]) => [words(name), value(one)])} />
        <h3>Signature</h3><${Facts} of=${[['Key', value(entry.signature.key)], ['r', value(entry.signature.r)], ['s', value(entry.signature.s)]]} />
        <h3>Chain of heads</h3><${Facts} of=${[['Head before', value(entry.head_before)], ['Digest', value(entry.digest)], ['Head after', value(entry.head)]]} />
        <h3>Record, as signed</h3><pre class="mono record" tabIndex="0">${entry.record}</pre>`}</div></aside>`;
}

function Filters({ filter, setFilter }) {
  const kinds = [...new Set(store.entries.map((entry) => entry.kind).concat(filter.kind || []))].sort();
  const set = (name) => (event) => setFilter({ ...filter, [name]: event.currentTarget.value.trim() });
  return html`<select aria-label="Kind" value=${filter.kind} onChange=${set('kind')}><option value="">${KINDS_TEXT}</option>
      ${kinds.map((kind) => html`<option key=${kind} value=${kind}>${kind.replaceAll('_', ' ')}</option>`)}</select>
    <input type="search" class="narrow" placeholder="Node" aria-label="Entries about this node" list="node-names" value=${filter.node} onChange=${set('node')} />
    <datalist id="node-names">${[...store.nodes.keys()].slice(0, 200).map((id) => html`<option key=${id} value=${id} />`)}</datalist>
    <select aria-label="Group" value=${filter.group} onChange=${set('group')}><option value="">All groups</option>
      ${[...store.groups.keys()].sort().map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</select>`;
}

export function Ledger({ argument }) {
  const [filter, setFilter] = useState({ kind: '', node: '', group: '' });
  const { entries, problem, loadMore } = useEntries(filter);
  const { ledger } = store.state;
  return html`<div class="lead"><span><b class="num">${count(ledger.height)}</b> entries</span><span class="muted">contract <span class="mono">${ledger.contract.slice(0, 12)}…</span></span>
      <span class="muted">chain ${ledger.chain_id}, ${ledger.place}</span><span class="muted">head <span class="mono">${ledger.head.slice(0, 12)}…</span></span></div>
    <div class="toolbar"><${Filters} filter=${filter} setFilter=${setFilter} /><${Verify} /></div>
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    <div class="split ${argument ? 'open' : ''}">
      ${entries.length ? html`<${VirtualTable} label="Entries of the ledger" rows=${entries} columns=${COLUMNS} keyOf=${(entry) => entry.index} selected=${argument && Number(argument)}
          hrefOf=${(entry) => `#/ledger/${entry.index}`} onEnd=${loadMore} />`
        : html`<div class="card"><${Empty}>No entry fits. Choose other filters.<//></div>`}
      ${argument && html`<${Entry} index=${argument} />`}</div>`;
}
