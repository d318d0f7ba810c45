// The console: routes, and the frame around the views.
import { html, render, useEffect, useRef, useState } from './lib.js';
import { start, store, subscribe } from './store.js';
import { Banner, Mark, Navigation, Notes, Settings, applyTheme } from './shell.js';
import { SignIn } from './views/signin.js';
import { Overview } from './views/overview.js';
import { MapView } from './views/map.js';
import { Nodes, NodeView } from './views/nodes.js';
import { Groups, GroupView } from './views/groups.js';
import { Ledger } from './views/ledger.js';
import { Wire } from './views/wire.js';
import { Values } from './views/values.js';
import { Demo } from './views/demo.js';

const ROUTES = {
  overview: { title: 'Overview', view: Overview },
  map: { title: 'Map', view: MapView },
  nodes: { title: 'Nodes', view: Nodes, detail: NodeView, of: 'Node' },
  groups: { title: 'Groups', view: Groups, detail: GroupView, of: 'Group' },
  ledger: { title: 'Ledger', view: Ledger },
  wire: { title: 'Wire', view: Wire },
  values: { title: 'Values', view: Values },
  demo: { title: 'Experiment', view: Demo },
};

// A visitor of the demo begins with the experiment.
function route() {
  const [name, argument] = location.hash.replace(/^#\/?/, '').split('/');
  const first = store.state.demo ? 'demo' : 'overview';
  return { name: ROUTES[name] ? name : first, argument: argument ? decodeURIComponent(argument) : null };
}

function useRoute() {
  const [now, setNow] = useState(route);
  useEffect(() => {
    const go = () => setNow(route());
    addEventListener('hashchange', go);
    return () => removeEventListener('hashchange', go);
  }, []);
  return now;
}

function useStore() {
  const [, setTurn] = useState(0);
  useEffect(() => subscribe(() => setTurn((turn) => turn + 1)), []);
}

function skip(event) {
  event.preventDefault();
  document.getElementById('main').focus();
}

function Console() {
  const { name, argument } = useRoute();
  const { title, view, detail, of } = ROUTES[name];
  const View = argument && detail ? detail : view;
  const heading = argument && detail ? `${of} ${argument}` : title;
  const main = useRef(null);
  const shown = useRef(name);
  useEffect(() => {
    document.title = `${heading} · ${store.session.name} · Sealcast`;
  });
  // On a phone the views are a strip that scrolls: the present one is brought into sight.
  useEffect(() => document.querySelector('nav [aria-current=page]')?.scrollIntoView({ block: 'nearest', inline: 'center' }), [name]);
  // A screen reader follows to the new view; a drawer within a view keeps the focus where it is.
  useEffect(() => {
    const view = detail ? `${name}/${argument ?? ''}` : name;
    if (shown.current !== view && shown.current !== name) main.current.focus({ preventScroll: false });
    shown.current = view;
    scrollTo(0, 0);
  }, [name, detail ? argument : null]);
  return html`<a class="skip" href="#main" onClick=${skip}>Skip to the view</a>
    <div class="frame">
      <aside class="side"><a class="brand" href="#/overview"><${Mark} /><span>${store.session.name}</span></a>
        <${Navigation} view=${name} /><${Settings} /></aside>
      <main id="main" tabIndex="-1" ref=${main}><${Banner} />
        <h1 class=${argument && detail ? 'mono-name' : ''}>${heading}</h1>
        <${View} argument=${argument} key=${detail ? argument : name} /></main>
    </div><${Notes} />`;
}

function App() {
  useStore();
  if (store.phase === 'signed-out') return html`<${SignIn} />`;
  if (store.phase === 'ready') return html`<${Console} />`;
  return html`<main class="loading" id="main" aria-busy=${store.connected}><${Mark} /><p>${store.problem || 'Loading…'}</p></main>`;
}

applyTheme();
render(html`<${App} />`, document.getElementById('app'));
start();
