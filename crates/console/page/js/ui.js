// The parts that views are made of.
import { html, useEffect, useLayoutEffect, useRef, useState } from './lib.js';
import { NOT_KNOWN, local, relative, timestamp, utc } from './format.js';

export const nodeLink = (id) => `#/nodes/${encodeURIComponent(id)}`;
export const groupLink = (name) => `#/groups/${encodeURIComponent(name)}`;
export const NodeName = ({ id }) => html`<a class="mono" href=${nodeLink(id)}>${id}</a>`;
export const GroupName = ({ name }) => html`<a class="mono" href=${groupLink(name)}>${name}</a>`;

export function Time({ ms }) {
  if (ms == null) return html`<span class="muted">${NOT_KNOWN}</span>`;
  return html`<time class="time" dateTime=${utc(ms)} title=${timestamp(ms)}>${relative(ms)}</time>`;
}

/** The time by this browser's clock, and the same in UTC. Neither is broken within. */
export const Stamp = ({ ms }) =>
  html`<time dateTime=${utc(ms)}><span class="whole">${local(ms)}</span> <span class="whole muted">(${utc(ms)})</span></time>`;

const TONES = {
  active: 'good', ok: 'good', good: 'good', held: 'good', done: 'good', open: 'info', running: 'info', shut: 'plain',
  waiting: 'plain', revoked: 'bad', expired: 'bad', stopped: 'bad', failed: 'bad', blocked: 'bad', error: 'bad',
  warn: 'warn', flagged: 'warn', silent: 'warn',
};

export const Chip = ({ of, tone, children }) =>
  html`<span class="chip ${tone ?? TONES[of] ?? 'plain'}">${children ?? of}</span>`;

const ONLINE = [[true, 'good', 'connected'], [false, 'bad', 'not connected'], [null, 'plain', 'not known']];

export function Online({ node }) {
  const [, tone, text] = ONLINE.find(([online]) => online === (node.online ?? null));
  return html`<span class="online"><i class="dot ${tone}" aria-hidden="true"></i>${text}</span>`;
}

export const Card = ({ title, aside, children, wide, id, flush }) => html`
  <section class="card ${wide ? 'wide' : ''} ${flush ? 'flush' : ''}" aria-labelledby=${id}>
    <header><h2 id=${id}>${title}</h2>${aside && html`<div class="aside">${aside}</div>`}</header>
    <div class="body">${children}</div>
  </section>`;

export const Empty = ({ children, command }) => html`
  <div class="empty"><p>${children}</p>${command && html`<code>${command}</code>`}</div>`;

export const Facts = ({ of }) => html`
  <dl class="facts">${of.filter(Boolean).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;

/** A long value in hexadecimal, and a button which copies it. */
export function Hex({ value }) {
  const [copied, setCopied] = useState(false);
  if (!value) return html`<span class="muted">${NOT_KNOWN}</span>`;
  const copy = async () => {
    await navigator.clipboard.writeText(value).catch(() => {});
    setCopied(true);
    setTimeout(setCopied, 1500, false);
  };
  return html`<span class="hex"><span class="mono">${value}</span>
    <button type="button" class="quiet small" onClick=${copy}>${copied ? 'Copied' : 'Copy'}</button></span>`;
}

/** A line of numbers over time, as wide as its place. `points` are [x, y]. */
export function Spark({ points, label }) {
  if (points.length < 2) return html`<svg class="spark" viewBox="0 0 100 28" role="img" aria-label=${label}></svg>`;
  const top = Math.max(...points.map(([, y]) => y), 1e-9) * 1.1;
  const first = points[0][0];
  const width = points.at(-1)[0] - first || 1;
  const line = points.map(([x, y]) => `${(((x - first) / width) * 100).toFixed(2)} ${(28 - (y / top) * 26).toFixed(2)}`);
  return html`<svg class="spark" viewBox="0 0 100 28" preserveAspectRatio="none" role="img" aria-label=${label}>
    <path class="area" d="M0 28L${line.join('L')}L100 28Z" /><path class="line" d="M${line.join('L')}" /></svg>`;
}

/** Bars, the longest first: rows are [name, number, text below the name]. */
export function Bars({ rows, tone = 'bad' }) {
  const most = Math.max(...rows.map(([, n]) => n), 1);
  return html`<ul class="bars">${rows.map(([name, n, text]) => html`<li key=${name}>
    <div><code>${name}</code><b class="num">${n.toLocaleString('en')}</b></div>
    <span class="track"><span class="fill ${tone}" style=${{ width: `${(n / most) * 100}%` }}></span></span>
    ${text && html`<p class="muted">${text}</p>`}</li>`)}</ul>`;
}

/** A dialog over the page: the browser keeps the focus in it, and Esc closes it. */
export function Dialog({ title, onClose, children }) {
  const box = useRef(null);
  useLayoutEffect(() => {
    const before = document.activeElement;
    box.current.showModal();
    return () => before?.focus?.();
  }, []);
  return html`<dialog ref=${box} aria-labelledby="dialog-title" onClose=${onClose}
    onClick=${(event) => event.target === box.current && onClose()}>
    <div class="dialog"><h2 id="dialog-title">${title}</h2>${children}</div></dialog>`;
}

const ROW_PX = 40;
const OVERSCAN = 8;
const STEPS = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };

/**
 * A table of any length: only the rows in sight are in the document. One row can have the focus; the arrow keys, Page Up,
 * Page Down, Home and End move it, Enter opens it. Columns are {name, cell, width, from}; `from` hides a column
 * below that width of the page: 'm' or 'l'.
 */
export function VirtualTable({ label, rows, columns, keyOf, hrefOf, selected, onEnd, height = 'tall' }) {
  const box = useRef(null);
  const [view, setView] = useState({ top: 0, height: 800 });
  const [active, setActive] = useState(0);
  const wanted = useRef(false);
  const look = () => setView({ top: box.current.scrollTop, height: box.current.clientHeight });
  useLayoutEffect(look, []);
  useEffect(() => {
    addEventListener('resize', look);
    return () => removeEventListener('resize', look);
  }, []);
  const first = Math.max(0, Math.floor(view.top / ROW_PX) - OVERSCAN);
  const last = Math.min(rows.length, Math.ceil((view.top + view.height) / ROW_PX) + OVERSCAN);
  useEffect(() => {
    if (onEnd && last >= rows.length) onEnd();
  }, [last, rows.length]);
  const at = Math.min(active, rows.length - 1);
  // The tab key reaches the active row, or where that is out of sight the first one in the document.
  const stop = at >= first && at < last ? at : first;
  useEffect(() => {
    if (!wanted.current) return;
    wanted.current = false;
    box.current.querySelector('[data-stop]')?.focus({ preventScroll: true });
  });
  const onKeyDown = (event) => {
    const step = STEPS[event.key];
    if (step === undefined || !rows.length) return;
    event.preventDefault();
    const next = Math.min(rows.length - 1, Math.max(0, stop + step));
    const inner = box.current;
    const y = next * ROW_PX;
    if (y < inner.scrollTop) inner.scrollTop = y;
    else if (y + ROW_PX > inner.scrollTop + inner.clientHeight - ROW_PX) inner.scrollTop = y + 2 * ROW_PX - inner.clientHeight;
    wanted.current = true;
    setActive(next);
    look();
  };
  const template = { gridTemplateColumns: 'var(--columns)' };
  const row = (item, index) => html`
    <div role="row" class="row ${selected === keyOf(item) ? 'selected' : ''}" key=${keyOf(item)} aria-rowindex=${index + 2}
      style=${{ ...template, top: `${index * ROW_PX}px` }}>
      ${columns.map((column, place) => html`<div role="cell" class="cell ${column.kind ?? ''} ${column.from ? `from-${column.from}` : ''}">
        ${place === 0
          ? html`<a class="rowlink" href=${hrefOf(item)} tabIndex=${index === stop ? 0 : -1} data-stop=${index === stop || undefined}
              onFocus=${() => setActive(index)}>${column.cell(item)}</a>`
          : column.cell(item)}</div>`)}
    </div>`;
  return html`<div class="vtable ${height}" role="table" aria-label=${label} aria-rowcount=${rows.length + 1}
      style=${columnStyles(columns)}>
    <div role="rowgroup"><div role="row" class="row head" aria-rowindex="1" style=${template}>
      ${columns.map((column) => html`<div role="columnheader" class="cell ${column.kind ?? ''} ${column.from ? `from-${column.from}` : ''}">${column.name}</div>`)}
    </div></div>
    <div role="rowgroup" class="scroll" ref=${box} onScroll=${look} onKeyDown=${onKeyDown}>
      <div role="presentation" class="rows" style=${{ height: `${rows.length * ROW_PX}px` }}>${rows.slice(first, last).map((item, n) => row(item, first + n))}</div>
    </div></div>`;
}

/** The widths of the columns which show on a phone, a tablet and a desk, for css to choose from. */
function columnStyles(columns) {
  const widths = (shown) => columns.filter((column) => shown.includes(column.from ?? 's')).map((column) => column.width).join(' ');
  return { '--columns-s': widths('s'), '--columns-m': widths('sm'), '--columns-l': widths('sml') };
}
