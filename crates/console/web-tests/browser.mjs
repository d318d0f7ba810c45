// Opens the page in a headless Chromium, before the hub that the environment names or before a stand-in.
//   CONSOLE_URL, CONSOLE_OPERATOR_TOKEN, CONSOLE_READER_TOKEN: a console that runs
//   CHROMIUM: the browser's program (Debian's by default)
import { chromium } from 'playwright-core';
import { StandIn } from './stand-in.mjs';

export const launch = () =>
  chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-dev-shm-usage'] });

export const ofHub = process.env.CONSOLE_URL !== undefined;

/** The console to test: {url, tokens, close, standIn}; `standIn` is null where the hub is real. */
export async function consoleToTest(options = {}) {
  if (ofHub) {
    const tokens = { operator: process.env.CONSOLE_OPERATOR_TOKEN, reader: process.env.CONSOLE_READER_TOKEN };
    return { url: process.env.CONSOLE_URL, tokens, standIn: null, close: async () => {} };
  }
  const tokens = { operator: 'operator-token', reader: 'reader-token' };
  const standIn = new StandIn(options, tokens);
  return { url: await standIn.listen(), tokens, standIn, close: () => standIn.close() };
}

/** A page of its own, which notes what must not happen: errors on the console, requests to other hosts. */
export async function openPage(browser, { url, width = 1440, height = 900, colorScheme = 'light' }) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme, ignoreHTTPSErrors: true });
  const page = await context.newPage();
  const wrong = [];
  page.on('console', (message) => {
    // The browser notes each answer of 401 as an error; being signed out is none.
    if (message.type() === 'error' && !/status of 401/.test(message.text())) wrong.push(message.text());
  });
  page.on('pageerror', (error) => wrong.push(String(error)));
  page.on('request', (request) => {
    const at = new URL(request.url());
    if (at.protocol !== 'data:' && at.origin !== new URL(url).origin) wrong.push(`request to another host: ${request.url()}`);
  });
  await page.goto(url);
  return { page, wrong, close: () => context.close() };
}

export async function signIn(page, token) {
  await page.getByLabel('Token').fill(token);
  await page.keyboard.press('Enter');
  await firstView(page);
}

/** What one comes to: a visitor of the demo to the experiment, everybody else to the overview. */
export async function firstView(page) {
  const views = page.getByRole('navigation', { name: 'Views' });
  await views.waitFor();
  const isDemo = await views.getByRole('link', { name: 'Experiment' }).count();
  await page.getByRole('heading', { level: 1, name: isDemo ? 'Experiment' : 'Overview' }).waitFor();
}

export async function visit(page, hash) {
  await page.evaluate((to) => (location.hash = to), hash);
  await page.locator(`main h1`).waitFor();
}
