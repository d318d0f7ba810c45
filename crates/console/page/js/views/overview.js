// The whole within a minute: what needs a person, then the numbers, then where they come from.
import { html, useMemo } from '../lib.js';
import { store } from '../store.js';
import { byName, compact, count, plural, rate, relative, span } from '../format.js';
import { Bars, Card, Chip, Empty, GroupName, NodeName, Online, Spark, Time, groupLink, nodeLink } from '../ui.js';
import { EntryLine } from './entry.js';

const SHOWN_ENTRIES = 8;
const SHOWN_NODES = 8;

function Alarm({ alarm }) {
  const where = alarm.node ? html`<a href=${nodeLink(alarm.node)}>Open node ${alarm.node}</a>`
    : alarm.group && html`<a href=${groupLink(alarm.group)}>Open group ${alarm.group}</a>`;
  return html`<li class="alarm ${alarm.level}"><${Chip} of=${alarm.level}>${alarm.level === 'error' ? 'Error' : 'Warning'}<//>
    <div><p class="what">${alarm.text}</p><p class="advice">${alarm.advice}</p>
      <p class="muted">since <${Time} ms=${alarm.since} />${alarm.code && html` · <code>${alarm.code}</code>`}${where && html` · ${where}`}</p></div></li>`;
}

const errorsFirst = (a, b) => (a.level === b.level ? b.since - a.since : a.level === 'error' ? -1 : 1);

function NeedsYou({ alarms }) {
  if (!alarms.length) {
    return html`<section class="calm" aria-label="What needs a person"><i class="dot good" aria-hidden="true"></i>
      <p><b>Nothing needs you.</b> No alarm stands on ${plural(store.nodes.size, 'node')} and ${plural(store.groups.size, 'group')}.</p></section>`;
  }
  return html`<section class="needs" aria-labelledby="needs"><h2 id="needs">Needs you <span class="num">${alarms.length}</span></h2>
    <ul>${[...alarms].sort(errorsFirst).map((alarm) => html`<${Alarm} alarm=${alarm} key=${alarm.id} />`)}</ul></section>`;
}

const Number = ({ title, value, unit, below, href, children }) => html`<a class="kpi" href=${href}>
  <span class="title">${title}</span><span class="value num">${value}${unit && html`<small>${unit}</small>`}</span>
  ${children ?? html`<span class="below">${below}</span>`}</a>`;

function Numbers() {
  const { totals, ledger, hub } = store.state;
  const nodes = [...store.nodes.values()];
  const known = nodes.filter((node) => node.online != null);
  const active = nodes.filter((node) => node.state === 'active').length;
  const groups = [...store.groups.values()];
  const stopped = groups.filter((group) => group.state !== 'ok').length;
  const refused = Object.values(totals.refused).reduce((sum, n) => sum + n, 0);
  const online = known.filter((node) => node.online).length;
  return html`<div class="kpis">
    <${Number} title="Nodes" href="#/nodes" value=${known.length ? count(online) : count(nodes.length)} unit=${known.length ? ` of ${count(nodes.length)}` : ''}
      below=${[known.length && 'connected', active < nodes.length || !known.length ? `${count(active)} active` : ''].filter(Boolean).join(', ')} />
    <${Number} title="Groups" href="#/groups" value=${count(groups.length)} below=${stopped ? `${count(stopped)} not in order` : 'all in order'} />
    <${Number} title="Messages" href="#/wire" value=${rate(totals.per_second)} unit=" /s">
      <${Spark} points=${store.pace} label="Messages a second in the last five minutes" /><//>
    <${Number} title="Sealed" href="#/nodes" value=${compact(totals.sealed)} below=${`opened ${compact(totals.opened)} times`} />
    <${Number} title="Refused" href="#/nodes" value=${compact(refused)} below=${refused ? plural(Object.keys(totals.refused).length, 'reason') : 'by no agent'} />
    <${Number} title="Ledger" href="#/ledger" value=${count(ledger.height)} unit=" entries" below=${`last ${ledger.last ? relative(ledger.last) : 'never'}`} />
    <${Number} title="Hub" href="#/ledger" value=${span(store.state.at - hub.started)} unit=" up" below=${`${hub.operator ? 'operator connected' : 'no operator'}`} />
  </div>`;
}

function GroupRows() {
  const groups = [...store.groups.values()].sort((a, b) => b.per_second - a.per_second).slice(0, SHOWN_NODES);
  if (!groups.length) return html`<${Empty} command="sealcast group create hsu0001 --filter 'hsu0001/#'">No groups yet. Create one, then grant it to nodes.<//>`;
  return html`<table><thead><tr><th>Group</th><th class="from-m">Topics</th><th class="n">Epoch</th><th class="n">Members</th><th class="n">Messages/s</th><th>State</th></tr></thead>
    <tbody>${groups.map((group) => html`<tr key=${group.name}><td><${GroupName} name=${group.name} /></td><td class="mono muted from-m clip">${group.filters.join(', ')}</td>
      <td class="n">${count(group.epoch)}</td><td class="n">${count(group.joined.length)}<span class="muted"> / ${count(group.members.length)}</span></td>
      <td class="n">${rate(group.per_second)}</td><td><${Chip} of=${group.state} /></td></tr>`)}</tbody></table>`;
}

const worstFirst = (a, b) => b.alarms - a.alarms || (b.refused ?? 0) - (a.refused ?? 0) || byName(a.id, b.id);

function NodeRows() {
  const nodes = useMemo(() => [...store.nodes.values()].sort(worstFirst).slice(0, SHOWN_NODES), [store.fleet]);
  if (!nodes.length) return html`<${Empty} command="sealcast device add 1111">No nodes yet. Enrol one where the operator's key is:<//>`;
  return html`<table><thead><tr><th>Node</th><th>Connection</th><th class="from-m">Groups</th><th class="n">Sealed</th><th class="n">Opened</th><th class="n">Refused</th></tr></thead>
    <tbody>${nodes.map((node) => html`<tr key=${node.id}><td><${NodeName} id=${node.id} />${node.state !== 'active' && html` <${Chip} of=${node.state} />`}</td><td><${Online} node=${node} /></td>
      <td class="mono muted from-m clip">${node.groups.join(', ') || '–'}</td><td class="n">${compact(node.sealed)}</td><td class="n">${compact(node.opened)}</td><td class="n">${compact(node.refused)}</td></tr>`)}</tbody></table>`;
}

export function Overview() {
  const { totals, alarms } = store.state;
  const refused = Object.entries(totals.refused).sort(([, a], [, b]) => b - a);
  const all = (n, href) => n > SHOWN_NODES && html`<a href=${href}>All ${count(n)}</a>`;
  return html`<${NeedsYou} alarms=${alarms} /><${Numbers} />
    <div class="columns">
      <div class="stack">
        <${Card} title="Groups" id="o-groups" flush aside=${all(store.groups.size, '#/groups')}><${GroupRows} /><//>
        <${Card} title="Nodes" id="o-nodes" flush aside=${all(store.nodes.size, '#/nodes')}><${NodeRows} /><//>
      </div>
      <div class="stack">
        <${Card} title="Refused, by reason" id="o-refused">
          ${refused.length ? html`<${Bars} rows=${refused} />` : html`<${Empty}>No agent has refused a message since it was started.<//>`}<//>
        <${Card} title="Ledger" id="o-ledger" flush aside=${html`<a href="#/ledger">All entries</a>`}>
          <ol class="entries">${store.entries.slice(0, SHOWN_ENTRIES).map((entry) => html`<${EntryLine} entry=${entry} key=${entry.index} />`)}</ol><//>
      </div>
    </div>`;
}
