import { html } from '../lib.js';
export const Demo = () => html`<p>…</p>`;
