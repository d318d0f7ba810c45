import { html } from '../lib.js';
export const Values = () => html`<p>…</p>`;
