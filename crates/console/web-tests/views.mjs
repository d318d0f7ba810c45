// The views, with an address of each and something that it must show. `needs` says which state has them.
const fixed = (text) => () => text;
const list = (name, title, shows, needs) => ({ name, hash: fixed(`#/${name}`), title: fixed(title), shows, needs });

export const VIEWS = [
  list('overview', 'Overview', '.kpis'),
  list('map', 'Map', 'canvas[data-settled="true"]'),
  list('nodes', 'Nodes', '[role=row] a'),
  { name: 'node', hash: (state) => `#/nodes/${state.nodes[0].id}`, title: (state) => `Node ${state.nodes[0].id}`, shows: '#n-record + *, .facts' },
  list('groups', 'Groups', '[role=row] a'),
  { name: 'group', hash: (state) => `#/groups/${state.groups[0].name}`, title: (state) => `Group ${state.groups[0].name}`, shows: '.timeline li' },
  list('ledger', 'Ledger', '[role=row] a'),
  { name: 'entry', hash: (state) => `#/ledger/${state.ledger.height - 1}`, title: fixed('Ledger'), shows: '.drawer .record' },
  list('wire', 'Wire', '.dump .bytes'),
  list('values', 'Values', '.card'),
  list('demo', 'Experiment', '.lesson', (state) => state.demo !== null),
];
