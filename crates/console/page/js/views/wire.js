import { html } from '../lib.js';
export const Wire = () => html`<p>…</p>`;
