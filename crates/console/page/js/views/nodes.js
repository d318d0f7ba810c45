import { html } from '../lib.js';
export const Nodes = () => html`<p>…</p>`;
export const NodeView = () => html`<p>…</p>`;
