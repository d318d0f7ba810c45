// The valve's machine as a picture: how warm it is, what the controller believes, and the valve.
import { html } from '../lib.js';
import { Chip, Facts } from '../ui.js';

const OVERHEATS_AT = 28;
const OPENS_AT = 25;
const SCALE = { low: 16, high: 32, top: 30, bottom: 170 };
const y = (degrees) => SCALE.bottom - ((Math.min(SCALE.high, Math.max(SCALE.low, degrees)) - SCALE.low) / (SCALE.high - SCALE.low)) * (SCALE.bottom - SCALE.top);

const Thermometer = ({ x, degrees, title, tone }) => html`<g class="thermo ${tone}">
  <rect class="glass" x=${x - 8} y=${SCALE.top - 8} width="16" height=${SCALE.bottom - SCALE.top + 16} rx="8" /><circle class="glass" cx=${x} cy="184" r="15" />
  <rect class="mercury" x=${x - 4} y=${y(degrees)} width="8" height=${184 - y(degrees)} rx="4" /><circle class="mercury" cx=${x} cy="184" r="11" />
  <text x=${x} y="220" text-anchor="middle">${title}</text><text class="big" x=${x} y="240" text-anchor="middle">${degrees.toFixed(1)} °C</text></g>`;

/** Lines of the machine's and the believed temperature over the last while. */
function History({ history }) {
  if (history.length < 2) return null;
  const [first, last] = [history[0][0], history.at(-1)[0]];
  const place = (n) => history.map((point) => `${(((point[0] - first) / (last - first || 1)) * 560).toFixed(1)} ${(100 - ((point[n] - SCALE.low) / (SCALE.high - SCALE.low)) * 100).toFixed(1)}`).join('L');
  const level = (degrees) => 100 - ((degrees - SCALE.low) / (SCALE.high - SCALE.low)) * 100;
  return html`<svg class="history" viewBox="0 0 600 116" role="img" aria-label="The machine's temperature and what the controller believed">
    ${[[OVERHEATS_AT, 'damaged above 28'], [OPENS_AT, 'opens at 25']].map(([degrees, text]) => html`<path class="limit" d="M0 ${level(degrees)}H560" /><text x="564" y=${level(degrees) + 4}>${degrees}°</text><title>${text}</title>`)}
    <path class="told" d="M${place(2)}" /><path class="true" d="M${place(1)}" /></svg>`;
}

export function Machine({ valve }) {
  const { temperature, shown, valve: state, damaged, history } = valve;
  const hot = temperature > OVERHEATS_AT;
  const lies = Math.abs(temperature - shown) > 1;
  const open = state === 'open';
  return html`<div class="machine"><svg viewBox="0 0 600 250" role="img"
      aria-label=${`The machine has ${temperature} degrees, the controller believes ${shown}; the valve is ${state}${damaged ? '; the machine is damaged' : ''}`}>
    <defs><radialGradient id="heat"><stop offset="0" class="heat-in" /><stop offset="1" class="heat-out" /></radialGradient></defs>
    ${hot && html`<ellipse class="heat" cx="250" cy="110" rx="170" ry="120" fill="url(#heat)" />`}
    <rect class="body ${hot ? 'hot' : ''}" x="180" y="60" width="140" height="110" rx="12" /><rect class="window" x="200" y="80" width="100" height="44" rx="6" />
    <text class="big" x="250" y="108" text-anchor="middle">${temperature.toFixed(1)} °C</text><text x="250" y="150" text-anchor="middle">${damaged ? 'damaged' : 'machine'}</text>
    ${damaged && html`<path class="crack" d="M300 60l-10 26 14 8-16 28 10 6-14 42" />`}
    <path class="pipe" d="M320 115H440" /><path class="water ${open ? 'flows' : ''}" d="M440 115H320" />
    <g class="valve ${open ? 'open' : ''}"><path d="M386 95l28 40v-40l-28 40z" /><g class="handle" transform=${`rotate(${open ? 0 : 90} 400 115)`}><path d="M400 115V78M386 78h28" /></g></g>
    <text x="400" y="165" text-anchor="middle">valve ${state}</text><rect class="tank" x="440" y="85" width="60" height="60" rx="8" /><text x="470" y="119" text-anchor="middle">cold</text>
    <${Thermometer} x=${60} degrees=${temperature} title="truth" tone=${hot ? 'bad' : 'good'} /><path class="mark" d="M40 ${y(OVERHEATS_AT)}h40" /><text x="84" y=${y(OVERHEATS_AT) + 4}>28</text>
    <${Thermometer} x=${555} degrees=${shown} title="believed" tone=${lies ? 'bad' : 'good'} /><path class="mark" d="M535 ${y(OPENS_AT)}h40" /><text x="530" y=${y(OPENS_AT) + 4} text-anchor="end">25</text>
  </svg><${History} history=${history} />
  <${Facts} of=${[
    ['The machine', html`${temperature.toFixed(1)} °C ${damaged ? html`<${Chip} tone="bad">damaged: it was above 28 °C<//>` : html`<${Chip} tone=${hot ? 'bad' : 'good'}>${hot ? 'too hot' : 'in order'}<//>`}`],
    ['The controller', html`believes ${shown.toFixed(1)} °C ${lies && html`<${Chip} tone="bad">${Math.abs(temperature - shown).toFixed(1)} degrees off<//>`}`],
    ['The cooling valve', html`<${Chip} tone=${open ? 'info' : 'plain'}>${state}<//> it is to open at 25 °C`],
  ]} /></div>`;
}
