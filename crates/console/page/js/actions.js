// Grant and revoke: the buttons, and the dialog which says what will happen and proves who asks.
import { html, useState } from './lib.js';
import * as api from './api.js';
import { note, store } from './store.js';
import { Dialog } from './ui.js';

/** Why this person cannot act now, or '' if they can. */
export function whyNot() {
  if (store.session.role !== 'operator') return 'You are signed in to read only. Sign in with the token of an operator to act.';
  if (!store.state.hub.operator) return "The operator's process is not connected to the hub. Start it where the operator's key is.";
  return '';
}

const WILL = {
  grant: ({ node, group }) => html`<p>The operator writes on the ledger that node <b>${node}</b> is granted <b>${group}</b>.
    A member then adds it to the group. From that epoch on it can read and send there; it cannot read what was sent before.</p>`,
  revoke: ({ node, group }) => html`<p>The operator writes on the ledger that node <b>${node}</b> is revoked from <b>${group}</b>.
    The group takes a new key. The node can read nothing that is sent after that; what it has already read it keeps.</p>`,
};
const TITLES = { grant: 'Grant', revoke: 'Revoke' };

/** Asks before it acts. `asked` is {action, node, group}. */
function Confirm({ asked, onClose }) {
  const [reason, setReason] = useState('');
  const [token, setToken] = useState('');
  const [problem, setProblem] = useState('');
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const key = token ? await api.tokenKey(token.trim()) : store.key;
      if (!key) throw new Error('Enter the token: the page forgot it when it was loaded again.');
      await api.act(key, { ...asked, reason: reason.trim() });
      store.key = key;
      note('info', `Asked the operator to ${asked.action} ${asked.node}. The outcome appears here.`);
      onClose();
    } catch (failure) {
      setProblem(failure.message);
      setBusy(false);
    }
  };
  const { action, node, group } = asked;
  return html`<${Dialog} title=${`${TITLES[action]} ${node} ${action === 'grant' ? 'to read' : 'from'} ${group}?`} onClose=${onClose}>
    <form onSubmit=${submit} class="stack">
      ${WILL[action](asked)}
      ${action === 'revoke' && html`<div class="field"><label for="reason">Reason, kept on the ledger</label>
        <input id="reason" type="text" maxlength="120" value=${reason} onInput=${(event) => setReason(event.currentTarget.value)} /></div>`}
      ${!store.key && html`<div class="field"><label for="again">Operator's token</label>
        <input id="again" type="password" value=${token} onInput=${(event) => setToken(event.currentTarget.value)} />
        <span class="muted">The page was loaded again and does not keep the token.</span></div>`}
      <p class="problem" role="alert">${problem}</p>
      <div class="buttons"><button type="button" onClick=${onClose}>Cancel</button>
        <button type="submit" class=${action === 'revoke' ? 'danger' : 'primary'} disabled=${busy}>${TITLES[action]} ${node}</button></div>
    </form><//>`;
}

/** A button which opens the dialog; where the person cannot act it says why. */
export function ActionButton({ action, node, group, label }) {
  const [open, setOpen] = useState(false);
  const reason = whyNot();
  return html`<button type="button" class="small" disabled=${!!reason || !node || !group} title=${reason || undefined}
      aria-label=${`${TITLES[action]} ${node} ${group}`} onClick=${() => setOpen(true)}>${label ?? TITLES[action]}</button>
    ${open && html`<${Confirm} asked=${{ action, node, group }} onClose=${() => setOpen(false)} />`}`;
}

/** Chooses what to grant: one of `choices` and a button. `of` is {node} or {group}. */
export function GrantForm({ of, choices, label }) {
  const [chosen, setChosen] = useState('');
  const reason = whyNot();
  const missing = of.node ? { group: chosen } : { node: chosen };
  if (!choices.length) return null;
  return html`<div class="grant"><label>${label}
      <select value=${chosen} disabled=${!!reason} onChange=${(event) => setChosen(event.currentTarget.value)}>
        <option value="">Choose…</option>${choices.map((one) => html`<option key=${one} value=${one}>${one}</option>`)}</select></label>
    <${ActionButton} action="grant" ...${of} ...${missing} label="Grant…" /></div>`;
}

export const WhyNot = () => whyNot() && html`<p class="muted whynot">${whyNot()}</p>`;
