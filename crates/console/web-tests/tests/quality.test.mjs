// Size, access for everybody, and speed of the page.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import { consoleToTest, launch, ofHub, openPage, signIn, visit } from '../browser.mjs';
import { VIEWS } from '../views.mjs';

const PAGE = fileURLToPath(new URL('../../page/', import.meta.url));
const MOST_BYTES = 500000;
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const BAD = ['serious', 'critical'];
/** Fewer fail. A machine with other work draws fewer: whoever only wants to see the figures says so. */
const FRAMES_A_SECOND = Number(process.env.FRAMES_A_SECOND ?? 50);
const MEASURED_MS = 5000;

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

test('the page is small', () => {
  const sizes = readdirSync(PAGE, { recursive: true }).map((name) => statSync(join(PAGE, name))).filter((file) => file.isFile());
  const bytes = sizes.reduce((sum, { size }) => sum + size, 0);
  console.log(`page: ${bytes} bytes in ${sizes.length} files`);
  assert.ok(bytes < MOST_BYTES, `${bytes} bytes`);
});

test('the libraries are those that vendor.json names, with their licences', () => {
  const dir = join(PAGE, 'vendor');
  const { libraries } = JSON.parse(readFileSync(join(dir, 'vendor.json'), 'utf8'));
  const named = libraries.flatMap(({ files }) => Object.entries(files));
  for (const [name, { sha384 }] of named) {
    assert.equal(createHash('sha384').update(readFileSync(join(dir, name))).digest('base64'), sha384, name);
  }
  assert.deepEqual(readdirSync(dir).sort(), ['vendor.json', ...named.map(([name]) => name)].sort());
  for (const { name } of libraries) assert.ok(named.some(([file]) => file === `LICENSE-${name}`), name);
});

for (const colorScheme of ['light', 'dark']) {
  test(`axe finds nothing serious in any view, ${colorScheme}`, async () => {
    const tested = await consoleToTest();
    const { page, close } = await openPage(browser, { url: tested.url, colorScheme });
    try {
      await page.getByLabel('Token').waitFor();
      await checkAccess(page, 'sign in');
      await signIn(page, tested.tokens.operator);
      const state = await (await page.request.get(`${tested.url}/api/state`)).json();
      for (const view of VIEWS.filter((view) => !view.needs || view.needs(state))) {
        await visit(page, view.hash(state));
        await page.locator(view.shows).first().waitFor();
        await checkAccess(page, view.name);
      }
      await visit(page, '#/groups/hsu0001');
      await page.getByRole('button', { name: /^Revoke 1111/ }).click();
      await checkAccess(page, 'dialog');
    } finally {
      await close();
      await tested.close();
    }
  });
}

async function checkAccess(page, view) {
  // As a debugger, not as a script of the page: its content security policy stands.
  const { violations } = await page.evaluate(`${AXE}; axe.run({ resultTypes: ['violations'] })`);
  const bad = violations.filter(({ impact }) => BAD.includes(impact));
  const said = bad.map(({ id, nodes }) => `${view}: ${id}: ${nodes.slice(0, 3).map((node) => `${node.html} ${node.any[0]?.message ?? ''}`).join(' | ')}`);
  assert.deepEqual(said, []);
}

for (const name of ['map', 'overview', 'nodes', 'wire']) {
  test(`1,000 nodes and 200 messages a second are smooth: ${name}`, { skip: ofHub && 'the fleet is in memory' }, async () => {
    const tested = await consoleToTest({ nodes: 1000, rate: 200, demo: false });
    const { page, wrong, close } = await openPage(browser, { url: tested.url });
    try {
      await signIn(page, tested.tokens.reader);
      await visit(page, `#/${name}`);
      if (name === 'map') await page.locator('canvas[data-settled="true"]').waitFor();
      const frames = await page.evaluate(measure, MEASURED_MS);
      console.log(`${name}: ${JSON.stringify(frames)}`);
      assert.ok(frames.aSecond >= FRAMES_A_SECOND, JSON.stringify(frames));
      assert.deepEqual(wrong, []);
    } finally {
      await close();
      await tested.close();
    }
  });
}

/** In the page: counts its frames for `ms`. */
function measure(ms) {
  return new Promise((resolve) => {
    const gaps = [];
    const begun = performance.now();
    let last = begun;
    const frame = (now) => {
      gaps.push(now - last);
      last = now;
      if (now - begun < ms) return requestAnimationFrame(frame);
      gaps.sort((a, b) => a - b);
      const at = (part) => Math.round(gaps[Math.floor(gaps.length * part)] * 10) / 10;
      resolve({ aSecond: Math.round((gaps.length / (now - begun)) * 10000) / 10, medianMs: at(0.5), p95Ms: at(0.95), mostMs: at(0.999) });
    };
    requestAnimationFrame(frame);
  });
}
