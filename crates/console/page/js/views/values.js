// Charts of the readings that nodes share: the rules as bands, what was blocked or flagged as marks and in a table.
import { html, uPlot, useEffect, useRef, useState } from '../lib.js';
import { loadSeries, seriesName, store } from '../store.js';
import { clock, plural, unitText } from '../format.js';
import { Card, Chip, Empty, NodeName, Time } from '../ui.js';

const HEIGHT_PX = 240;
const SPANS = [[2, '2 min'], [10, '10 min'], [60, '1 h'], [0, 'All']];
const LISTED = 50;
const MINUTE_MS = 60000;

const colour = (name) => {
  const probe = document.createElement('i');
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
};

/** Columns for uPlot: times in s, good values, flagged ones, blocked ones. The line passes over what was blocked. */
function columns(points) {
  const pick = (verdict) => points.map((point) => (point.verdict === verdict ? point.value : null));
  const line = points.map((point) => (point.verdict === 'blocked' ? undefined : point.value));
  return [points.map((point) => point.at / 1000), line, pick('flagged'), pick('blocked')];
}

/** Draws the rule's limits: what is outside of them is shaded. */
const bandsPlugin = (bands, shade) => ({
  hooks: {
    drawAxes: [
      (chart) => {
        const { ctx, bbox } = chart;
        const [low, high] = [chart.scales.y.min, chart.scales.y.max];
        ctx.save();
        ctx.fillStyle = shade.fill;
        ctx.strokeStyle = shade.line;
        ctx.setLineDash([6, 5]);
        for (const [limit, other] of [[bands.max, high], [bands.min, low]]) {
          if (limit == null || limit > high || limit < low) continue;
          const [y, edge] = [chart.valToPos(limit, 'y', true), chart.valToPos(other, 'y', true)];
          ctx.fillRect(bbox.left, Math.min(y, edge), bbox.width, Math.abs(edge - y));
          ctx.beginPath();
          ctx.moveTo(bbox.left, y);
          ctx.lineTo(bbox.left + bbox.width, y);
          ctx.stroke();
        }
        ctx.restore();
      },
    ],
  },
});

/** What stands below these places of the time axis: each second once, however near they are. */
function seconds(at) {
  const clocks = at.map((s) => clock(s * 1000));
  return clocks.map((text, n) => (text === clocks[n - 1] ? '' : text));
}

function makeChart(box, series, onHover) {
  const [bad, warn, accent, muted, line] = ['bad', 'warn', 'accent', 'muted', 'line'].map(colour);
  const mark = (label, stroke) => ({ label, stroke, width: 0, paths: () => null, points: { show: true, size: 9, fill: stroke, stroke } });
  const axis = { stroke: muted, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: '12px system-ui' };
  const { min, max } = series.bands;
  const range = (chart, low, high) => {
    // The limits show where the readings come near them; a far limit does not flatten the curve.
    const reach = (high - low || 1) * 1.2;
    const bottom = min != null && low - min < reach ? Math.min(low, min) : low;
    const top = max != null && max - high < reach ? Math.max(high, max) : high;
    // So much that figures of any size have ticks between them.
    const room = Math.max((top - bottom || 1) * 0.08, Math.max(Math.abs(top), Math.abs(bottom)) * 1e-9);
    return [bottom - room, top + room];
  };
  return new uPlot(
    {
      width: box.clientWidth,
      height: HEIGHT_PX,
      legend: { show: false },
      cursor: { y: false, points: { size: 7 } },
      scales: { y: { range } },
      axes: [{ ...axis, values: (chart, at) => seconds(at), space: 90, size: 34 }, { ...axis, size: 52 }],
      series: [{}, { label: 'value', stroke: accent, width: 1.75, spanGaps: true, points: { show: false } }, mark('flagged', warn), mark('blocked', bad)],
      plugins: [bandsPlugin(series.bands, { fill: bad.replace('rgb(', 'rgba(').replace(')', ', 0.08)'), line: bad })],
      hooks: { setCursor: [(chart) => onHover(chart.cursor.idx)] },
    },
    columns(series.points),
    box,
  );
}

function Chart({ series, points }) {
  const box = useRef(null);
  const chart = useRef(null);
  const shown = useRef(points);
  const [hovered, setHovered] = useState(null);
  shown.current = points;
  useEffect(() => {
    const place = box.current;
    const make = () => {
      chart.current?.destroy();
      chart.current = makeChart(place, { ...series, points: shown.current }, (at) => setHovered(at == null ? null : shown.current[at]));
    };
    make();
    const sizes = new ResizeObserver(() => chart.current.setSize({ width: place.clientWidth, height: HEIGHT_PX }));
    sizes.observe(place);
    const dark = matchMedia('(prefers-color-scheme: dark)');
    addEventListener('theme', make);
    dark.addEventListener('change', make);
    return () => {
      sizes.disconnect();
      removeEventListener('theme', make);
      dark.removeEventListener('change', make);
      chart.current.destroy();
    };
  }, []);
  const last = points.at(-1);
  useEffect(() => chart.current.setData(columns(points)), [points.length, last?.at, points[0]?.at]);
  const about = hovered ?? last;
  return html`<p class="reading">${about && html`<b class="num">${about.value.toFixed(1)}</b> ${unitText(series.unit)} <span class="muted">at ${clock(about.at)}</span> ${about.verdict !== 'good' && html`<${Chip} of=${about.verdict} />`} <span class="reason">${about.reason ?? ''}</span>`}</p>
    <div class="chart" ref=${box} role="img" aria-label=${`${series.topic} of node ${series.node}; the table below lists what was blocked or flagged`}></div>`;
}

function Marked({ points, unit }) {
  const marked = points.filter((point) => point.verdict !== 'good');
  if (!marked.length) return html`<p class="muted">No reading was blocked or flagged in this time.</p>`;
  return html`<details><summary>${plural(marked.length, 'reading')} blocked or flagged</summary>
    <div class="tablebox" tabIndex="0" role="group" aria-label="Blocked and flagged readings"><table><thead><tr><th>When</th><th class="n">Value</th><th>Verdict</th><th>Reason</th></tr></thead>
      <tbody>${marked.slice(-LISTED).reverse().map((point) => html`<tr key=${point.at}><td><${Time} ms=${point.at} /></td><td class="n">${point.value.toFixed(1)} ${unit}</td>
        <td><${Chip} of=${point.verdict} /></td><td>${point.reason}</td></tr>`)}</tbody></table></div></details>`;
}

const VOUCHED = { ledger: 'on the ledger', node: 'as its agent says' };

const rules = (bands, unit) => {
  const [min, max, step] = [bands.min, bands.max, bands.step].map((limit) => limit != null && `${limit} ${unit}`.trim());
  return [min && `from ${min}`, max && `to ${max}`, step && `step at most ${step}`].filter(Boolean).join(', ');
};

export function Values() {
  const [problem, setProblem] = useState('');
  const [minutes, setMinutes] = useState(10);
  useEffect(() => void loadSeries().catch((failure) => setProblem(failure.message)), []);
  if (!store.series) return html`<p class="muted" role="status">${problem || 'Loading…'}</p>`;
  if (!store.series.size) return html`<div class="card"><${Empty}>No node shares its readings. Whoever runs a node chooses to: <code>share</code> in <code>agent.toml</code> shows readings here, <code>record</code> writes them to the ledger.<//></div>`;
  const since = minutes ? store.state.at - minutes * MINUTE_MS : 0;
  return html`<div class="toolbar"><div class="choice" role="group" aria-label="How far back">${SPANS.map(([length, title]) => html`
      <button type="button" aria-pressed=${length === minutes} onClick=${() => setMinutes(length)}>${title}</button>`)}</div>
      <ul class="legend spread"><li><i class="dot accent"></i>value</li><li><i class="dot warn"></i>flagged, handed on</li><li><i class="dot bad"></i>blocked, not sent</li></ul></div>
    <div class="stack">${[...store.series.values()].map((series, n) => {
      const points = series.points.filter((point) => point.at >= since);
      const unit = unitText(series.unit);
      const rule = rules(series.bands, unit);
      const title = series.name ? `${series.topic}, ${series.name}` : series.topic;
      return html`<${Card} key=${seriesName(series)} title=${title} id="v-${n}" aside=${html`<span class="muted"><${Chip}>${VOUCHED[series.source]}<//> node <${NodeName} id=${series.node} />${rule && ` · rule: ${rule}`}</span>`}>
        <${Chart} series=${series} points=${points} key=${minutes} /><${Marked} points=${points} unit=${unit} /><//>`;
    })}</div>`;
}
