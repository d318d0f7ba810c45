// Serves the page with a fleet in memory, to look at and to develop with:
//   node serve.mjs [--nodes 1000] [--rate 200] [--port 8080] [--empty]
import { parseArgs } from 'node:util';
import { StandIn } from './stand-in.mjs';

const { values } = parseArgs({
  options: {
    nodes: { type: 'string', default: '4' },
    rate: { type: 'string', default: '4' },
    port: { type: 'string', default: '0' },
    empty: { type: 'boolean', default: false },
  },
});
const tokens = { operator: 'operator-token', reader: 'reader-token' };
const nodes = Number(values.nodes);
const standIn = new StandIn({ nodes, rate: Number(values.rate), demo: nodes <= 8, empty: values.empty }, tokens);
console.log(`${await standIn.listen(Number(values.port))}  sign in with ${tokens.operator} or ${tokens.reader}`);
