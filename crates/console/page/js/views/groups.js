// The groups as a list, and one of them: its topics, members, epochs and rules.
import { html, useState } from '../lib.js';
import { store } from '../store.js';
import { useDetail } from '../detail.js';
import { ActionButton, GrantForm, WhyNot } from '../actions.js';
import { byName, compact, count, plain, plural, rate, words } from '../format.js';
import { Card, Chip, Empty, Facts, NodeName, Online, Time, VirtualTable, groupLink } from '../ui.js';
import { EntryLine } from './entry.js';

const COLUMNS = [
  { name: 'Group', width: 'minmax(84px, 1fr)', cell: (group) => group.name },
  { name: 'State', width: '84px', cell: (group) => html`<${Chip} of=${group.state} />` },
  { name: 'Topics', width: 'minmax(100px, 2fr)', from: 'm', cell: (group) => html`<span class="mono muted">${group.filters.join(', ')}</span>` },
  { name: 'Epoch', width: '64px', kind: 'n', cell: (group) => count(group.epoch) },
  { name: 'Members', width: '84px', kind: 'n', cell: (group) => html`${count(group.joined.length)}<span class="muted"> / ${count(group.members.length)}</span>` },
  { name: 'Authenticity', width: '110px', from: 'l', cell: (group) => (group.authenticity === 'signed' ? 'each sender' : 'the group') },
  { name: 'Messages', width: '100px', kind: 'n', from: 'm', cell: (group) => compact(group.messages) },
  { name: 'Per second', width: '96px', kind: 'n', from: 'm', cell: (group) => rate(group.per_second) },
];

export function Groups() {
  const [text, setText] = useState('');
  const fits = (group) => group.name.includes(text) || group.filters.some((filter) => filter.includes(text));
  const rows = [...store.groups.values()].filter(fits).sort((a, b) => byName(a.name, b.name));
  if (!store.groups.size) return html`<div class="card"><${Empty} command="sealcast group create hsu0001 --filter 'hsu0001/#'">No groups yet. Create one, then grant it to nodes.<//></div>`;
  return html`<div class="toolbar">
      <input type="search" placeholder="Group or topic" aria-label="Find a group by its name or topic" value=${text} onInput=${(event) => setText(event.currentTarget.value)} />
      <span class="muted spread" role="status">${plural(rows.length, 'group')}</span></div>
    <${VirtualTable} label="Groups" rows=${rows} columns=${COLUMNS} keyOf=${(group) => group.name} hrefOf=${(group) => groupLink(group.name)} />`;
}

function Members({ group }) {
  const inGroup = new Set(group.joined);
  const rest = [...store.nodes.values()].filter((node) => node.state === 'active' && !group.members.includes(node.id)).map((node) => node.id).sort();
  return html`${group.members.length
      ? html`<ul class="members">${group.members.map((id) => html`<li key=${id}><${NodeName} id=${id} />
          ${inGroup.has(id) ? html`<${Online} node=${store.nodes.get(id) ?? {}} />` : html`<${Chip} tone="warn">pending: a member has yet to add it<//>`}
          <${ActionButton} action="revoke" node=${id} group=${group.name} label="Revoke…" /></li>`)}</ul>`
      : html`<p class="muted">No node is granted this group.</p>`}
    <${GrantForm} of=${{ group: group.name }} choices=${rest} label="Grant a node" /><${WhyNot} />`;
}

const Epochs = ({ epochs }) => html`<ol class="timeline">${epochs.map((one) => html`<li key=${one.epoch}>
  <span class="num epoch">${count(one.epoch)}</span><div><p>${one.cause}</p>
  <p class="muted">by ${one.author} · <a href="#/ledger/${one.index}">entry #${count(one.index)}</a> · <${Time} ms=${one.at} /></p></div></li>`)}</ol>`;

export function GroupView({ argument }) {
  const group = store.groups.get(argument);
  const { value: detail, problem } = useDetail(`groups/${encodeURIComponent(argument)}`);
  if (!group) return html`<div class="card"><${Empty}>There is no group ${argument}. <a href="#/groups">All groups</a><//></div>`;
  const pending = group.members.length - group.joined.length;
  return html`<div class="lead"><${Chip} of=${group.state} /><span class="mono">${group.filters.join('  ')}</span>
      <span class="muted">contract number <b class="num">${count(group.number)}</b></span></div>
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    ${store.state.alarms.filter((alarm) => alarm.group === argument).map((alarm) => html`<div class="standing ${alarm.level}" key=${alarm.id}><b>${alarm.text}</b> ${alarm.advice}</div>`)}
    <div class="counters">${[['Epoch', count(group.epoch)], ['Members', count(group.joined.length)], ['Pending', count(Math.max(0, pending))], ['Messages', compact(group.messages)], ['Per second', rate(group.per_second)]].map(([name, n]) => html`
      <div key=${name}><span class="muted">${name}</span><b class="num">${n}</b></div>`)}</div>
    <div class="columns even">
      <div class="stack">
        <${Card} title="Members" id="g-members"><${Members} group=${group} /><//>
        <${Card} title="Policy" id="g-policy">${detail && html`<${Facts} of=${Object.entries(detail.policy).map(([name, value]) => [words(name), plain(value)])} />`}
          ${detail?.limits?.length > 0 && html`<ul class="limits muted">${detail.limits.map((one) => html`<li key=${plain(one)}>${plain(one)}</li>`)}</ul>`}<//>
      </div>
      <div class="stack">
        <${Card} title="Epochs" id="g-epochs">${detail && html`<${Epochs} epochs=${detail.epochs} />`}<//>
        <${Card} title="On the ledger" id="g-entries" flush><ol class="entries">${detail?.entries.map((entry) => html`<${EntryLine} entry=${entry} key=${entry.index} />`)}</ol><//>
      </div>
    </div>`;
}
