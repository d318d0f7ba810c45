import { html } from '../lib.js';
import { count } from '../format.js';
import { Chip, Time } from '../ui.js';

const TONES = { revoked: 'bad', removed: 'bad', device_revoked: 'bad', granted: 'good', device_added: 'good', enrolled: 'good' };

export const Kind = ({ kind }) => html`<${Chip} tone=${TONES[kind] ?? 'plain'}>${kind.replaceAll('_', ' ')}<//>`;

/** An entry of the ledger as a line of a short list. */
export const EntryLine = ({ entry }) => html`<li class="entry"><a class="num" href="#/ledger/${entry.index}">#${count(entry.index)}</a>
  <span class="text">${entry.text}</span><${Time} ms=${entry.at} /></li>`;
