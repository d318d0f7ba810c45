// Fetches the page's libraries from npm into page/vendor, with their licences, and writes vendor.json.
// Run it to take newer versions: change LIBRARIES, `node vendor.mjs`, and look at what git shows.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const LIBRARIES = [
  { name: 'preact', version: '11.2.0', files: { 'dist/preact.mjs': 'preact.mjs', 'hooks/dist/hooks.mjs': 'hooks.mjs' } },
  { name: 'htm', version: '3.1.1', files: { 'dist/htm.mjs': 'htm.mjs' } },
  {
    name: 'uplot',
    version: '1.6.32',
    files: { 'dist/uPlot.iife.min.js': 'uPlot.iife.min.js', 'dist/uPlot.min.css': 'uPlot.min.css' },
  },
  { name: 'd3-force', version: '3.0.1', files: { 'dist/d3-force.min.mjs': 'd3-force.mjs' } },
  { name: 'd3-quadtree', version: '3.0.2', files: { 'dist/d3-quadtree.min.mjs': 'd3-quadtree.mjs' } },
  { name: 'd3-dispatch', version: '3.0.2', files: { 'dist/d3-dispatch.min.mjs': 'd3-dispatch.mjs' } },
  { name: 'd3-timer', version: '3.0.2', files: { 'dist/d3-timer.min.mjs': 'd3-timer.mjs' } },
];
const HERE = new URL('../page/vendor/', import.meta.url);
// A browser knows no package names: `from"preact"` becomes `from"./preact.mjs"`.
const BARE_IMPORT = /\bfrom\s*"([a-z0-9-]+)"/g;

const npm = (args, cwd) => execFileSync('npm', args, { cwd, encoding: 'utf8' });

function vendor({ name, version, files }) {
  const dir = mkdtempSync(join(tmpdir(), 'vendor-'));
  try {
    const [packed] = JSON.parse(npm(['pack', '--json', `${name}@${version}`], dir));
    execFileSync('tar', ['xzf', packed.filename], { cwd: dir });
    const about = JSON.parse(readFileSync(join(dir, 'package/package.json'), 'utf8'));
    const hashes = {};
    const keep = (from, to) => {
      const original = readFileSync(join(dir, 'package', from), 'utf8');
      const text = to.endsWith('.mjs') ? original.replace(BARE_IMPORT, 'from"./$1.mjs"') : original;
      writeFileSync(new URL(to, HERE), text);
      hashes[to] = { from, changed: text !== original, sha384: createHash('sha384').update(text).digest('base64') };
    };
    for (const [from, to] of Object.entries(files)) keep(from, to);
    keep('LICENSE', `LICENSE-${name}`);
    return { name, version, licence: about.license, source: packed.integrity, files: hashes };
  } finally {
    rmSync(dir, { recursive: true });
  }
}

const libraries = LIBRARIES.map(vendor);
writeFileSync(new URL('vendor.json', HERE), `${JSON.stringify({ libraries }, null, 2)}\n`);
