import { html } from '../lib.js';
export const Ledger = () => html`<p>…</p>`;
