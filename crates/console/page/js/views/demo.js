// The experiment as a story: what happens, what the wire shows, what each node sees, and the result.
import { html, useEffect, useRef, useState } from '../lib.js';
import * as api from '../api.js';
import { addWire, changed, store } from '../store.js';
import { clock, count } from '../format.js';
import { Card, Chip } from '../ui.js';
import { HexDump, Readers } from './wire.js';
import { Machine } from './machine.js';

const SYMBOLS = { waiting: '', running: '…', held: '✓', failed: '✕' };
const WORDS = { waiting: 'to come', running: 'now', held: 'held', failed: 'failed' };

function chapters(steps) {
  const found = [];
  for (const step of steps) {
    if (found.at(-1)?.name !== step.chapter) found.push({ name: step.chapter, steps: [] });
    found.at(-1).steps.push(step);
  }
  return found;
}

const Steps = ({ steps, shown, onChoose }) => html`<nav class="story card" aria-label="Steps of the experiment"><ol>${chapters(steps).map((chapter) => html`
  <li key=${chapter.steps[0].n}><h3>${chapter.name}</h3><ol>${chapter.steps.map((step) => html`<li key=${step.n}>
    <button type="button" class="step ${step.state}" aria-current=${step.n === shown.n ? 'step' : undefined} onClick=${() => onChoose(step.n)}>
      <i class="bead" aria-hidden="true">${SYMBOLS[step.state]}</i><span>${step.title}</span><span class="hidden">, ${WORDS[step.state]}</span></button></li>`)}</ol></li>`)}</ol></nav>`;

const Result = ({ step }) => html`<div class="result"><div><h3>Expected</h3><p class="mono">${step.expected ?? '–'}</p></div>
  <div class=${step.state}><h3>Seen</h3><p class="mono">${step.seen ?? (step.state === 'running' ? 'in progress…' : step.state === 'waiting' ? 'to come' : '–')}</p></div></div>`;

function Step({ step, total }) {
  return html`<section class="card lesson" aria-label="The step" aria-live="polite"><header><span class="muted">${step.chapter} · step ${count(step.n)} of ${count(total)}</span>
      <${Chip} of=${step.state}>${WORDS[step.state]}${step.at ? ` ${clock(step.at)}` : ''}<//></header>
    <div class="body"><h2>${step.title}</h2><p class="tells">${step.text}</p>${(step.expected || step.seen) && html`<${Result} step=${step} />`}</div></section>`;
}

/** The last message that says something: sealed ones rather than those in the clear. */
function Passing() {
  const message = store.wire.find((one) => one.sealed && one.read) ?? store.wire.find((one) => one.sealed) ?? store.wire[0];
  if (!message) return html`<${Card} title="On the wire" id="d-wire"><p class="muted">No message has passed yet.</p><//>`;
  return html`<${Card} title="On the wire" id="d-wire" aside=${html`<a href="#/wire/${message.id}">${message.topic}</a>`}><${HexDump} message=${message} /><//>
    ${message.read && html`<${Card} title="What each node sees" id="d-nodes"><${Readers} message=${message} /><//>`}`;
}

export function Demo() {
  const { demo } = store.state;
  const [chosen, setChosen] = useState(null);
  const list = useRef(null);
  useEffect(() => void api.get('wire?limit=50').then(({ messages }) => (addWire(messages), changed()), () => {}), []);
  const now = demo?.steps.find((step) => step.state === 'running') ?? demo?.steps.filter((step) => step.state !== 'waiting').at(-1) ?? demo?.steps[0];
  useEffect(() => {
    const box = list.current;
    const current = box?.querySelector('[aria-current]');
    if (current) box.firstElementChild.scrollTo({ top: current.offsetTop - box.clientHeight / 2 });
  }, [now?.n]);
  if (!demo || !now) return html`<p class="muted">No experiment runs here. Start one: <code>sealcast demo --serve</code></p>`;
  const shown = demo.steps.find((step) => step.n === chosen) ?? now;
  const held = demo.steps.filter((step) => step.state === 'held').length;
  const failed = demo.steps.filter((step) => step.state === 'failed').length;
  return html`<div class="lead"><span role="status">${demo.done ? 'Done: ' : ''}<b class="num">${count(held)}</b> of ${count(demo.total)} steps held${failed > 0 && html`, <b>${count(failed)} failed</b>`}</span>
      <progress aria-label="Steps done" value=${held + failed} max=${demo.total || 1}></progress>
      ${chosen !== null && html`<button type="button" class="small" onClick=${() => setChosen(null)}>Follow the experiment</button>`}</div>
    <div class="tale" ><div ref=${list} class="storybox"><${Steps} steps=${demo.steps} shown=${shown} onChoose=${setChosen} /></div>
      <div class="stack"><${Step} step=${shown} total=${demo.total} />
        ${demo.valve && html`<${Card} title="The machine and its cooling valve" id="d-machine"><${Machine} valve=${demo.valve} /><//>`}<${Passing} /></div></div>`;
}
