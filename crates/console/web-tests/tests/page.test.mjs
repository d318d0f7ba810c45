// The page in a browser: it signs in, shows every view, acts, and asks nobody but its hub.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { consoleToTest, firstView, launch, ofHub, openPage, signIn, visit } from '../browser.mjs';
import { VIEWS } from '../views.mjs';

let browser;
let tested;

before(async () => {
  browser = await launch();
  tested = await consoleToTest();
});
after(async () => {
  await browser?.close();
  await tested?.close();
});

/** Runs `body` in a page of its own, and fails where the page asked another host or wrote an error. */
async function inPage(options, body) {
  const { page, wrong, close } = await openPage(browser, { url: tested.url, ...options });
  try {
    await body(page, wrong);
    assert.deepEqual(wrong, []);
  } finally {
    await close();
  }
}

const heading = (page, name) => page.getByRole('heading', { level: 1, name });
const row = (page, name) => page.getByRole('row').filter({ has: page.getByRole('link', { name, exact: true }) });

test('without the token nothing is shown', () =>
  inPage({}, async (page) => {
    await heading(page, 'Sign in to the console').waitFor();
    await page.getByLabel('Token').fill('a wrong token');
    await page.keyboard.press('Enter');
    await page.getByText('This token is not right').waitFor();
    const answer = await page.request.get(`${tested.url}/api/state`);
    assert.equal(answer.status(), 401);
    assert.equal(await page.getByRole('navigation').count(), 0);
  }));

test('the token signs in, stays signed in, and signs out', () =>
  inPage({}, async (page) => {
    await signIn(page, tested.tokens.reader);
    await page.reload();
    await firstView(page);
    const stored = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
    assert.ok(!stored.includes(tested.tokens.reader), 'the page keeps the token nowhere');
    await page.getByRole('button', { name: 'Sign out' }).click();
    await heading(page, 'Sign in to the console').waitFor();
    const answer = await page.request.get(`${tested.url}/api/state`);
    assert.equal(answer.status(), 401);
  }));

for (const width of [390, 1440]) {
  test(`every view shows itself at ${width} px`, () =>
    inPage({ width }, async (page, wrong) => {
      await signIn(page, tested.tokens.reader);
      const state = await (await page.request.get(`${tested.url}/api/state`)).json();
      for (const view of VIEWS.filter((view) => !view.needs || view.needs(state))) {
        await visit(page, view.hash(state));
        await heading(page, view.title(state)).waitFor();
        await page.locator(view.shows).first().waitFor();
        const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(wider <= 0, `${view.name} is ${wider} px too wide`);
        assert.deepEqual(wrong, [], view.name);
      }
    }));
}

test('whoever may only read cannot act, and is told why', () =>
  inPage({}, async (page) => {
    await signIn(page, tested.tokens.reader);
    await visit(page, '#/groups/hsu0001');
    const revoke = page.getByRole('button', { name: /^Revoke 1111/ });
    await revoke.waitFor();
    assert.ok(await revoke.isDisabled());
    await page.getByText('You are signed in to read only').first().waitFor();
  }));

test('the operator grants 1113 and revokes it', () =>
  inPage({}, async (page) => {
    await signIn(page, tested.tokens.operator);
    await visit(page, '#/groups/hsu0001');
    await page.getByLabel('Grant a node').selectOption('1113');
    await page.getByRole('button', { name: 'Grant 1113 hsu0001' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('it cannot read what was sent before').waitFor();
    await dialog.getByRole('button', { name: 'Grant 1113' }).click();
    await page.getByRole('button', { name: 'Revoke 1113 hsu0001' }).waitFor();
    await page.getByText('added 1113', { exact: true }).first().waitFor();
    await page.getByRole('button', { name: 'Revoke 1113 hsu0001' }).click();
    await dialog.getByLabel('Reason').fill('the test is over');
    await dialog.getByRole('button', { name: 'Revoke 1113' }).click();
    await page.getByRole('button', { name: 'Revoke 1113 hsu0001' }).waitFor({ state: 'detached' });
  }));

test('after the page is loaded again, an action asks for the token', () =>
  inPage({}, async (page) => {
    await signIn(page, tested.tokens.operator);
    await page.reload();
    await firstView(page);
    await visit(page, '#/nodes/1111');
    await page.getByRole('button', { name: 'Revoke 1111 hsu0001' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel("Operator's token").waitFor();
    await dialog.getByRole('button', { name: 'Revoke 1111' }).click();
    await dialog.getByText('Enter the token').waitFor();
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'detached' });
    const back = await page.evaluate(() => document.activeElement.getAttribute('aria-label'));
    assert.equal(back, 'Revoke 1111 hsu0001', 'the focus returns to the button');
  }));

test('the ledger is verified from its first entry', () =>
  inPage({}, async (page) => {
    await signIn(page, tested.tokens.operator);
    await visit(page, '#/ledger');
    await page.getByRole('button', { name: 'Verify from the first entry' }).click();
    await page.getByText('Verified', { exact: true }).waitFor();
  }));

test('the keyboard alone reaches a node', () =>
  inPage({}, async (page) => {
    await page.getByLabel('Token').waitFor();
    await page.keyboard.type(tested.tokens.reader);
    await page.keyboard.press('Enter');
    await firstView(page);
    await tabTo(page, 'Nodes');
    await page.keyboard.press('Enter');
    await heading(page, 'Nodes').waitFor();
    await row(page, '1112').waitFor();
    await tabTo(page, '1111');
    await page.keyboard.press('ArrowDown');
    await page.waitForFunction(() => document.activeElement.textContent === '1112');
    await page.keyboard.press('Enter');
    await heading(page, 'Node 1112').waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.id), 'main', 'the focus follows to the view');
    await page.keyboard.press('Shift+Tab');
    await page.evaluate(() => document.querySelector('.skip').focus());
    await page.keyboard.press('Enter');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'main', 'the skip link skips');
  }));

const MOST_TABS = 60;

async function tabTo(page, text) {
  for (let n = 0; n < MOST_TABS; n += 1) {
    await page.keyboard.press('Tab');
    if ((await page.evaluate(() => document.activeElement.textContent.trim())).replace(/\d+$/, '') === text.replace(/\d+$/, '')
      && (await page.evaluate(() => document.activeElement.textContent.trim())) === text) return;
  }
  assert.fail(`no ${text} within ${MOST_TABS} tabs`);
}

test('a lost connection is told, and the page resumes', { skip: ofHub && 'cuts the feeds of the stand-in' }, () =>
  inPage({}, async (page, wrong) => {
    await signIn(page, tested.tokens.reader);
    tested.standIn.cutFeeds();
    await page.getByText('The connection to the hub is lost.').waitFor();
    await page.getByText('The connection to the hub is lost.').waitFor({ state: 'detached' });
    // The browser notes the cut itself.
    wrong.splice(0, wrong.length, ...wrong.filter((text) => !/ERR_INCOMPLETE_CHUNKED_ENCODING/.test(text)));
  }));

test('values have their unit as people write it', { skip: ofHub && 'needs values' }, () =>
  inPage({}, async (page) => {
    await signIn(page, tested.tokens.reader);
    await visit(page, '#/values');
    await page.getByText('from 15 °C, to 30 °C, step at most 2 °C').first().waitFor();
    assert.equal(await page.getByText(/\bCel\b/).count(), 0);
  }));

test('figures of any size are drawn', { skip: ofHub && 'needs values' }, () =>
  inPage({}, async (page) => {
    const figures = [[0, 0], [1e-300, 1e-300], [1e15, 1e15], [1e17, 1e17 + 16], [-1e20, 1e20], [1e300, 1e300]];
    const series = figures.map((values, n) => ({
      node: '1111', topic: `t${n}`, name: '', group: 'g', source: 'node', unit: '', bands: {},
      points: values.map((value, at) => ({ at: Date.now() - 1000 + at, value, verdict: 'good' })),
    }));
    await page.route('**/api/values', (route) => route.fulfill({ json: { series } }));
    await signIn(page, tested.tokens.reader);
    await visit(page, '#/values');
    await page.locator('.chart canvas').nth(figures.length - 1).waitFor();
    await page.getByRole('button', { name: '2 min' }).click();
    await page.locator('.chart canvas').nth(figures.length - 1).waitFor();
  }));

test('what needs a person stands on top, and a hub without nodes says what to do', { skip: ofHub && 'needs an empty hub' }, async () => {
  await inPage({}, async (page) => {
    await signIn(page, tested.tokens.reader);
    await visit(page, '#/overview');
    await page.getByRole('heading', { name: /^Needs you/ }).waitFor();
    await page.getByText('The certificate of node 1112 ends').first().waitFor();
  });
  const empty = await consoleToTest({ empty: true, demo: false });
  try {
    await inPage({ url: empty.url }, async (page) => {
      await signIn(page, empty.tokens.reader);
      await page.getByText('Nothing needs you.').waitFor();
      await page.getByText('No nodes yet.').first().waitFor();
      await page.getByText("sealcast group create hsu0001 --filter 'hsu0001/#'", { exact: true }).waitFor();
      for (const name of ['map', 'nodes', 'groups', 'ledger', 'wire', 'values']) {
        await visit(page, `#/${name}`);
        await page.locator('.empty').first().waitFor();
      }
    });
  } finally {
    await empty.close();
  }
});
