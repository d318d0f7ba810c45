// A person at the console of a real hub (CONSOLE_URL and tokens), for the test that runs the hub and its devices:
//   node live.mjs appear|grant|revoke
import { consoleToTest, launch, openPage, signIn, visit } from './browser.mjs';

const NODES = ['1111', '1112', '1113', '1114'];
const { url, tokens } = await consoleToTest();

/** Watches the list of nodes while devices enrol. */
async function appear(page) {
  await signIn(page, tokens.reader);
  await visit(page, '#/nodes');
  await page.getByText('No nodes yet').waitFor();
  console.log('no nodes');
  for (const node of NODES) {
    await page.getByRole('link', { name: node, exact: true }).first().waitFor();
    console.log(node);
  }
}

async function grant(page) {
  await signIn(page, tokens.operator);
  await visit(page, '#/groups/hsu0001');
  await page.getByLabel('Grant a node').selectOption('1113');
  await page.getByRole('button', { name: 'Grant 1113 hsu0001' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Grant 1113' }).click();
  await page.getByText('added 1113', { exact: true }).first().waitFor();
}

async function revoke(page) {
  await signIn(page, tokens.operator);
  await visit(page, '#/nodes/1113');
  await page.getByRole('button', { name: 'Revoke 1113 hsu0001' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Reason').fill('sold');
  await dialog.getByRole('button', { name: 'Revoke 1113' }).click();
  await page.getByRole('button', { name: 'Revoke 1113 hsu0001' }).waitFor({ state: 'detached' });
}

const browser = await launch();
const { page, wrong, close } = await openPage(browser, { url });
page.setDefaultTimeout(120_000);
await { appear, grant, revoke }[process.argv[2]](page);
await close();
await browser.close();
if (wrong.length > 0) throw new Error(wrong.join('\n'));
console.log('done');
