// Takes the pictures of the documentation, every view light and dark, wide and narrow, of the experiment while it runs:
//   cargo build --release && npm run pictures      in this folder; about 4 minutes; it needs pngquant, which makes them small
//   node pictures.mjs [PROGRAM] [DIRECTORY]        by default target/release/sealcast, and docs/img
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { launch, openPage, signIn, visit } from './browser.mjs';
import { VIEWS } from './views.mjs';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const [PROGRAM = join(ROOT, 'target/release/sealcast'), DIRECTORY = join(ROOT, 'docs/img')] = process.argv.slice(2);
const SIZES = [['wide', 1440, 900], ['narrow', 390, 844]];
const PACE_S = 1;
const LOOK_MS = 200;
const DRAWN_MS = 1500;
/** Those that are taken in the midst of the experiment. The others follow at the end. */
const IN_THE_MIDST = ['wire', 'map', 'demo'];

/** `sealcast demo --serve`, and what it says. */
function experiment() {
  const child = spawn(PROGRAM, ['demo', '--serve', '127.0.0.1:0', '--pace', String(PACE_S)], { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text) => (said += text));
  const ended = new Promise((_, reject) => child.on('close', (code) => reject(new Error(`the experiment ended with ${code}:\n${said}`))));
  ended.catch(() => {});
  process.on('exit', () => child.kill('SIGINT'));
  const says = (pattern) => Promise.race([until(() => pattern.exec(said)?.[1]), ended]);
  return { says };
}

async function until(found) {
  for (;;) {
    const result = await found();
    if (result) return result;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

const each = (act) => Promise.all(pages.map(act));
const take = (name) => each(({ page, suffix }) => page.screenshot({ path: join(DIRECTORY, `console-${name}-${suffix}.png`) }));
const get = async (path) => (await pages[0].page.request.get(`${url}/api/${path}`)).json();

/** Opens a view and waits until it is drawn. */
async function show(name, hash) {
  const view = VIEWS.find((view) => view.name === name);
  const to = hash ?? view.hash(await get('state'));
  await each(async ({ page }) => {
    await visit(page, to);
    await page.locator(view.shows).first().waitFor();
    await page.waitForTimeout(DRAWN_MS);
  });
}

/** The first step of the chapter that has held. */
const held = (chapter) =>
  until(async () => (await get('state')).demo.steps.find((step) => step.state === 'held' && chapter.test(step.chapter)));

mkdirSync(DIRECTORY, { recursive: true });
const { says } = experiment();
const url = await says(/the page: (\S+)/);
const browser = await launch();
const pages = [];
for (const [size, width, height] of SIZES) {
  for (const colorScheme of ['light', 'dark']) {
    pages.push({ ...(await openPage(browser, { url, width, height, colorScheme })), suffix: `${size}-${colorScheme}` });
  }
}
await each(({ page }) => page.getByLabel('Token').waitFor());
await take('sign-in');
const reader = await says(/with the token (\S+)\. /);
await each(({ page }) => signIn(page, reader));

await held(/Fig 14/);
// The newest message that one node can read, and another one cannot.
const isTelling = ({ read }) => new Set(Object.values(read ?? {}).map((text) => text === null)).size === 2;
const { messages } = await get('wire?limit=100');
await show('wire', `#/wire/${messages.find(isTelling).id}`);
await take('wire');
await show('demo');
const { title } = await held(/act 1/);
await each(async ({ page }) => {
  await page.getByRole('button', { name: title }).click();
  await page.mouse.move(0, 0);
});
await take('demo');
await show('map');
await held(/act 2/);
await take('map');

// Then an operator looks at what there is.
const operator = await says(/token +(\S+) \(signs operators/);
for (const { page } of pages) {
  await page.context().clearCookies();
  await visit(page, '#/overview');
  await page.reload();
  await signIn(page, operator);
}
for (const { name } of VIEWS.filter(({ name }) => !IN_THE_MIDST.includes(name))) {
  await show(name);
  await take(name);
}
await browser.close();
const files = readdirSync(DIRECTORY).filter((file) => /^console-.*\.png$/.test(file));
execFileSync('pngquant', ['--force', '--strip', '--ext', '.png', '48', ...files], { cwd: DIRECTORY });
process.exit();
