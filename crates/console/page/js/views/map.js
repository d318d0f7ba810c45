import { html } from '../lib.js';
export const MapView = () => html`<p>…</p>`;
