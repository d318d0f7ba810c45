// The layout of the map, in a worker: the page stays smooth while forces settle.
// In: {points: [{id, group}], links: [[from, to]]} by place in `points`. Out: Float32Array of x and y, until it has settled.
import { forceCollide, forceLink, forceManyBody, forceSimulation, forceX, forceY } from '../../vendor/d3-force.mjs';

const SEND_EVERY_MS = 50;
const GROUP_PX = 26;
const NODE_PX = 11;

onmessage = ({ data: { points, links, run } }) => {
  const own = points.map((point, n) => ({ ...point, index: n }));
  const crowd = own.length > 100;
  const simulation = forceSimulation(own)
    .force('link', forceLink(links.map(([source, target]) => ({ source, target }))).distance(crowd ? 46 : 110).strength(crowd ? 0.5 : 0.3))
    .force('charge', forceManyBody().strength((point) => (point.group ? -420 : crowd ? -34 : -320)).distanceMax(700))
    .force('collide', forceCollide((point) => (point.group ? GROUP_PX : NODE_PX) + 4))
    .force('x', forceX().strength(0.05))
    .force('y', forceY().strength(0.07))
    .alphaDecay(crowd ? 0.035 : 0.03)
    .stop();
  const send = (settled) => {
    const places = new Float32Array(own.length * 2);
    own.forEach((point, n) => places.set([point.x, point.y], 2 * n));
    postMessage({ run, places, settled }, [places.buffer]);
  };
  let sent = 0;
  while (simulation.alpha() > simulation.alphaMin()) {
    simulation.tick();
    if (performance.now() - sent > SEND_EVERY_MS) {
      sent = performance.now();
      send(false);
    }
  }
  send(true);
};
