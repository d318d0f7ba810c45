// The map's picture on a canvas. What stands still is drawn once, on a layer of its own; messages in flight are drawn over it.
// Nothing is drawn while nothing changes.

const FLIGHT_MS = 700;
const GLOW_MS = 900;
const FAN_OUT = 24; // members to which a message is shown on its way from the group
const MOST_FLIGHTS = 600;
const PAD_PX = 48;
const SMALL = 60; // up to so many points each has its name
const COLOURS = ['panel', 'bg', 'line', 'strong', 'text', 'muted', 'accent', 'good', 'bad', 'warn'];

export class Picture {
  /** `onChoose` gets the id of the point that was clicked. */
  constructor(canvas, onChoose) {
    this.canvas = canvas;
    this.layer = document.createElement('canvas');
    this.onChoose = onChoose;
    this.points = [];
    this.byId = new Map();
    this.links = [];
    this.flights = [];
    this.glows = new Map();
    this.view = { x: 0, y: 0, scale: 1 };
    this.fitted = true;
    this.stale = true;
    this.frame = 0;
    this.calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
    this.worker = new Worker(new URL('./layout.js', import.meta.url), { type: 'module' });
    this.worker.onmessage = ({ data }) => this.place(data);
    this.run = 0;
    this.watch();
  }

  watch() {
    this.off = new AbortController();
    const { signal } = this.off;
    const at = (target, name, act, options = {}) => target.addEventListener(name, act, { ...options, signal });
    this.sizes = new ResizeObserver(() => this.resize());
    this.sizes.observe(this.canvas);
    at(globalThis, 'theme', () => this.readColours());
    at(matchMedia('(prefers-color-scheme: dark)'), 'change', () => this.readColours());
    at(this.canvas, 'wheel', (event) => this.wheel(event), { passive: false });
    at(this.canvas, 'pointerdown', (event) => this.grab(event));
    this.readColours();
  }

  close() {
    this.off.abort();
    this.sizes.disconnect();
    this.worker.terminate();
    cancelAnimationFrame(this.frame);
  }

  readColours() {
    const probe = document.createElement('i');
    document.body.append(probe);
    this.colours = Object.fromEntries(COLOURS.map((name) => {
      probe.style.color = `var(--${name})`;
      return [name, getComputedStyle(probe).color];
    }));
    probe.remove();
    this.redraw();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const ratio = Math.min(2, devicePixelRatio);
    for (const canvas of [this.canvas, this.layer]) Object.assign(canvas, { width: width * ratio, height: height * ratio });
    Object.assign(this, { width, height, ratio });
    if (this.fitted) this.fit();
    this.redraw();
  }

  /** `points` are {id, name, group, tone}; `links` are pairs of ids. A new layout is made only if what is linked has changed. */
  show(points, links) {
    const shape = JSON.stringify([points.map((point) => point.id), links]);
    if (shape !== this.shape) {
      this.shape = shape;
      this.arrange(points, links);
    } else if (points.some((point, n) => point.tone !== this.points[n].tone)) {
      points.forEach((point, n) => (this.points[n].tone = point.tone));
      this.redraw();
    }
  }

  arrange(points, links) {
    const before = this.byId;
    this.points = points.map((point) => ({ ...point, x: before.get(point.id)?.x, y: before.get(point.id)?.y }));
    this.byId = new Map(this.points.map((point, n) => [point.id, Object.assign(point, { n })]));
    this.links = links.map(([a, b]) => [this.byId.get(a), this.byId.get(b)]).filter(([a, b]) => a && b);
    this.members = new Map();
    for (const [group, node] of this.links) this.members.set(group, [...(this.members.get(group) ?? []), node]);
    this.run += 1;
    this.settled = false;
    this.canvas.dataset.settled = 'false';
    this.worker.postMessage({
      run: this.run,
      points: this.points.map(({ group, x, y }) => ({ group, ...(x !== undefined && { x, y }) })),
      links: this.links.map(([a, b]) => [a.n, b.n]),
    });
  }

  place({ run, places, settled }) {
    if (run !== this.run) return;
    this.points.forEach((point, n) => Object.assign(point, { x: places[2 * n], y: places[2 * n + 1] }));
    this.settled = settled;
    this.canvas.dataset.settled = String(settled);
    if (this.fitted) this.fit();
    this.redraw();
  }

  fit() {
    this.fitted = true;
    const placed = this.points.filter((point) => point.x !== undefined);
    if (!placed.length || !this.width) return;
    const [xs, ys] = [placed.map((point) => point.x), placed.map((point) => point.y)];
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const scale = Math.min(1.6, (this.width - 2 * PAD_PX) / (right - left || 1), (this.height - 2 * PAD_PX) / (bottom - top || 1));
    this.view = { scale, x: this.width / 2 - (scale * (left + right)) / 2, y: this.height / 2 - (scale * (top + bottom)) / 2 };
    this.redraw();
  }

  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const scale = Math.min(6, Math.max(0.1, this.view.scale * factor));
    const by = scale / this.view.scale;
    this.view = { scale, x: x - (x - this.view.x) * by, y: y - (y - this.view.y) * by };
    this.fitted = false;
    this.redraw();
  }

  wheel(event) {
    event.preventDefault();
    const box = this.canvas.getBoundingClientRect();
    this.zoom(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
  }

  grab(event) {
    const from = { x: event.clientX, y: event.clientY, view: this.view };
    let moved = false;
    const move = (now) => {
      const [dx, dy] = [now.clientX - from.x, now.clientY - from.y];
      moved ||= Math.hypot(dx, dy) > 4;
      if (!moved) return;
      this.view = { ...from.view, x: from.view.x + dx, y: from.view.y + dy };
      this.fitted = false;
      this.redraw();
    };
    const drop = (now) => {
      this.canvas.removeEventListener('pointermove', move);
      if (!moved) this.click(now);
    };
    this.canvas.setPointerCapture(event.pointerId);
    this.canvas.addEventListener('pointermove', move);
    this.canvas.addEventListener('pointerup', drop, { once: true });
  }

  click(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left - this.view.x) / this.view.scale, (event.clientY - box.top - this.view.y) / this.view.scale];
    const near = this.points.map((point) => [Math.hypot(point.x - x, point.y - y) - radius(point), point]).sort(([a], [b]) => a - b)[0];
    if (near && near[0] < 8 / this.view.scale) this.onChoose(near[1].id);
  }

  choose(id) {
    if (this.chosen === id) return;
    this.chosen = id;
    this.redraw();
  }

  /** Lights up what messages pass: `links` are {from, group} by the ids of points. */
  light(links) {
    const now = performance.now();
    for (const { from, group } of links) {
      const [node, hub] = [this.byId.get(from), this.byId.get(group)];
      if (!hub) continue;
      if (node && this.flights.length < MOST_FLIGHTS) this.flights.push({ from: node, to: hub, start: now });
      this.glows.set(hub, now);
      const members = this.members.get(hub) ?? [];
      if (members.length > FAN_OUT) continue;
      for (const member of members) {
        if (member !== node && this.flights.length < MOST_FLIGHTS) this.flights.push({ from: hub, to: member, start: now + FLIGHT_MS });
      }
    }
    this.wake();
  }

  redraw() {
    this.stale = true;
    this.wake();
  }

  wake() {
    if (!this.frame) this.frame = requestAnimationFrame((now) => this.draw(now));
  }

  draw(now) {
    this.frame = 0;
    if (!this.width || !this.points.length || this.points[0].x === undefined) return;
    if (this.stale) this.drawLayer();
    const pen = this.canvas.getContext('2d');
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.enter(pen);
    this.drawGlows(pen, now);
    this.drawFlights(pen, now);
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.drawImage(this.layer, 0, 0);
    if (this.flights.length || this.glows.size) this.wake();
  }

  enter(pen) {
    const scale = this.ratio * this.view.scale;
    pen.setTransform(scale, 0, 0, scale, this.ratio * this.view.x, this.ratio * this.view.y);
  }

  drawGlows(pen, now) {
    for (const [hub, start] of this.glows) {
      const part = (now - start) / GLOW_MS;
      if (part >= 1) {
        this.glows.delete(hub);
        continue;
      }
      pen.globalAlpha = 0.35 * (1 - Math.max(0, part));
      pen.fillStyle = this.colours.accent;
      pen.beginPath();
      pen.arc(hub.x, hub.y, radius(hub) + 10, 0, 2 * Math.PI);
      pen.fill();
    }
    pen.globalAlpha = 1;
  }

  drawFlights(pen, now) {
    this.flights = this.flights.filter(({ start }) => now - start < FLIGHT_MS);
    pen.strokeStyle = this.colours.accent;
    pen.fillStyle = this.colours.accent;
    const thick = Math.max(1.5, 1.5 / this.view.scale);
    pen.lineWidth = thick;
    for (const { from, to, start } of this.flights) {
      const part = (now - start) / FLIGHT_MS;
      if (part < 0) continue;
      pen.globalAlpha = 0.7 * (1 - part);
      pen.beginPath();
      pen.moveTo(from.x, from.y);
      pen.lineTo(to.x, to.y);
      pen.stroke();
      if (this.calm) continue;
      pen.globalAlpha = 1;
      pen.beginPath();
      pen.arc(from.x + (to.x - from.x) * part, from.y + (to.y - from.y) * part, 2.2 * thick, 0, 2 * Math.PI);
      pen.fill();
    }
    pen.globalAlpha = 1;
  }

  drawLayer() {
    this.stale = false;
    const pen = this.layer.getContext('2d');
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.layer.width, this.layer.height);
    this.enter(pen);
    pen.strokeStyle = this.colours.strong;
    pen.lineWidth = 1 / Math.min(1, this.view.scale);
    pen.beginPath();
    for (const [a, b] of this.links) {
      pen.moveTo(a.x, a.y);
      pen.lineTo(b.x, b.y);
    }
    pen.stroke();
    for (const point of this.points) this.drawPoint(pen, point);
  }

  drawPoint(pen, point) {
    const size = radius(point);
    const tone = this.colours[point.tone] ?? this.colours.muted;
    pen.beginPath();
    if (point.group) pen.roundRect(point.x - size, point.y - size, 2 * size, 2 * size, 8);
    else pen.arc(point.x, point.y, size, 0, 2 * Math.PI);
    pen.fillStyle = point.group ? this.colours.panel : tone;
    pen.fill();
    pen.lineWidth = point.group ? 2.5 : 2;
    pen.strokeStyle = point.group ? tone : this.colours.bg;
    pen.stroke();
    if (point.id === this.chosen) {
      pen.strokeStyle = this.colours.accent;
      pen.lineWidth = 3;
      pen.beginPath();
      pen.arc(point.x, point.y, size + 7, 0, 2 * Math.PI);
      pen.stroke();
    }
    if (point.group && this.view.scale > 0.6) {
      pen.font = '600 14px system-ui, sans-serif';
      pen.textAlign = 'center';
      pen.fillStyle = this.colours.text;
      pen.fillText(String(this.members.get(point)?.length ?? 0), point.x, point.y + 5);
    }
    this.drawName(pen, point, size);
  }

  drawName(pen, point, size) {
    const few = this.points.length <= SMALL;
    if (!few && !(point.group && this.view.scale > 0.25) && this.view.scale < 1.4) return;
    const px = few ? 13 / this.view.scale : Math.max(10, Math.min(14, 10 / this.view.scale));
    pen.font = `600 ${px}px system-ui, sans-serif`;
    pen.textAlign = 'center';
    pen.fillStyle = this.colours.text;
    const bottom = point.y + size + px + 4;
    if (few) {
      // So that a line behind the name does not cross it out.
      pen.strokeStyle = this.colours.panel;
      pen.lineWidth = px / 3;
      pen.lineJoin = 'round';
      pen.strokeText(point.name, point.x, bottom);
    }
    pen.fillText(point.name, point.x, bottom);
  }
}

const radius = (point) => (point.group ? 20 : 10);
