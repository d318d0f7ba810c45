import { html } from '../lib.js';
export const Groups = () => html`<p>…</p>`;
export const GroupView = () => html`<p>…</p>`;
