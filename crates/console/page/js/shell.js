// What stands around every view: the mark, the navigation, the banner and the notes.
import { html, useState } from './lib.js';
import { dismiss, signOut, store } from './store.js';

export const Mark = () => html`<svg class="mark" viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="8" />
  <circle cx="16" cy="16" r="8.5" /><circle class="core" cx="16" cy="16" r="3" />
  <path d="M16 2.5v5M16 24.5v5M2.5 16h5M24.5 16h5" /></svg>`;

const ICONS = {
  overview: 'M3 3h6v6H3zM11 3h6v4h-6zM11 9h6v8h-6zM3 11h6v6H3z',
  map: 'M10 10L4 5M10 10l6-5M10 10v6M10 12a2 2 0 100-4 2 2 0 000 4zM4 6a1.500 1.500 0 100-3 1.500 1.500 0 000 3zM16 6a1.500 1.500 0 100-3 1.500 1.500 0 000 3zM10 18a1.500 1.500 0 100-3 1.500 1.500 0 000 3z',
  nodes: 'M4 4h12v5H4zM4 11h12v5H4zM7 6.500h0M7 13.500h0',
  groups: 'M7.500 9a2.500 2.500 0 100-5 2.500 2.500 0 000 5zM3 16c0-3 2-4.500 4.500-4.500S12 13 12 16M13 9a2 2 0 100-4M14 11.500c2 .3 3 1.800 3 4.500',
  ledger: 'M4 4h12M4 8h12M4 12h12M4 16h8',
  wire: 'M2 10h4l2-6 4 12 2-6h4',
  values: 'M3 16V4M3 16h14M6 12l3-4 3 2 4-5',
  demo: 'M5 3l11 7-11 7z',
};

const Icon = ({ name }) => html`<svg class="icon" viewBox="0 0 20 20" aria-hidden="true"><path d=${ICONS[name]} /></svg>`;

const VIEWS = [
  ['overview', 'Overview'], ['map', 'Map'], ['nodes', 'Nodes'], ['groups', 'Groups'], ['ledger', 'Ledger'],
  ['wire', 'Wire'], ['values', 'Values'], ['demo', 'Experiment'],
];

export function Navigation({ view }) {
  const alarms = store.state.alarms.length;
  const badge = (name) => name === 'overview' && alarms > 0 && html`<span class="badge" title="What needs a person">${alarms}</span>`;
  return html`<nav aria-label="Views"><ul>${VIEWS.filter(([name]) => name !== 'demo' || store.state.demo).map(
    ([name, title]) => html`<li key=${name}><a href="#/${name}" aria-current=${view === name ? 'page' : undefined}>
      <${Icon} name=${name} /><span>${title}</span>${badge(name)}</a></li>`,
  )}</ul></nav>`;
}

const THEMES = { system: 'Auto', light: 'Light', dark: 'Dark' };

export function applyTheme(theme = localStorage.getItem('theme') ?? 'system') {
  localStorage.setItem('theme', theme);
  document.documentElement.dataset.theme = theme;
  dispatchEvent(new Event('theme'));
}

export function Settings() {
  const [theme, setTheme] = useState(localStorage.getItem('theme') ?? 'system');
  const choose = (event) => {
    setTheme(event.currentTarget.value);
    applyTheme(event.currentTarget.value);
  };
  return html`<div class="settings">
    <select aria-label="Colours" value=${theme} onChange=${choose}>
      ${Object.entries(THEMES).map(([name, title]) => html`<option value=${name}>${title}</option>`)}</select>
    <div class="who"><span class="muted">${store.session.role === 'operator' ? 'Operator' : 'Read only'}</span>
      <button type="button" class="quiet" onClick=${signOut}>Sign out</button></div>
  </div>`;
}

export const Banner = () => !store.connected && html`<div class="banner" role="alert">
  <b>The connection to the hub is lost.</b> ${store.problem || 'What you see is as it was. The page connects again by itself.'}</div>`;

export const Notes = () => html`<div class="notes" role="status" aria-live="polite">${store.notes.map((one) => html`
  <div class="note ${one.level}" key=${one.id}><span>${one.text}</span>
    <button type="button" class="quiet" aria-label="Dismiss" onClick=${() => dismiss(one.id)}>✕</button></div>`)}</div>`;
