// Numbers, times and words as the page shows them.

const whole = new Intl.NumberFormat('en');
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const one = new Intl.NumberFormat('en', { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const absolute = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });
const time = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' });
const names = new Intl.Collator('en', { numeric: true });
const day = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium' });

/** Orders names as people do: node 9 before node 10. */
export const byName = (a, b) => names.compare(a, b);
export const NOT_KNOWN = '–';
export const count = (n) => (n == null ? NOT_KNOWN : whole.format(n));
export const compact = (n) => (n == null ? NOT_KNOWN : Math.abs(n) < 10000 ? whole.format(n) : short.format(n));
export const rate = (n) => (n == null ? NOT_KNOWN : n >= 100 ? whole.format(Math.round(n)) : one.format(n));
export const local = (ms) => absolute.format(ms);
export const utc = (ms) => new Date(ms).toISOString();
export const timestamp = (ms) => `${local(ms)} (${utc(ms)})`;
export const date = (ms) => day.format(ms);
export const clock = (ms) => time.format(ms);

const UNITS = [
  [86400000, 'd'],
  [3600000, 'h'],
  [60000, 'min'],
  [1000, 's'],
];

/** "3 min", "2 d": a length of time by its largest unit. */
export function span(ms) {
  const [unit, name] = UNITS.find(([unit]) => ms >= unit) ?? UNITS[3];
  return `${Math.floor(ms / unit)} ${name}`;
}

export function relative(ms, now = Date.now()) {
  const ago = now - ms;
  if (Math.abs(ago) < 2000) return 'now';
  return ago > 0 ? `${span(ago)} ago` : `in ${span(-ago)}`;
}

// SenML's names of units (RFC 8428, RFC 8798), where people write something else.
const SYMBOLS = {
  Cel: '°C',
  degF: '°F',
  Ohm: 'Ω',
  '%RH': '% RH',
  '%EL': '%',
  'm/s2': 'm/s²',
  'm2': 'm²',
  'm3': 'm³',
  'm3/s': 'm³/s',
  'W/m2': 'W/m²',
  'cd/m2': 'cd/m²',
  'ug/m3': 'µg/m³',
};

/** A value's unit as people write it: `°C` for SenML's `Cel`. */
export const unitText = (unit) => SYMBOLS[unit] ?? unit;

export const plural = (n, word) => `${count(n)} ${word}${n === 1 ? '' : 's'}`;
export const shorten = (text, keep = 10) =>
  text && text.length > 2 * keep + 1 ? `${text.slice(0, keep)}…${text.slice(-6)}` : text;
/** Names of fields, `not_before`, as words. */
export const words = (name) => name.replaceAll('_', ' ').replace(/^./, (first) => first.toUpperCase());
export const plain = (value) =>
  value == null ? NOT_KNOWN : typeof value === 'object' ? JSON.stringify(value) : String(value);
