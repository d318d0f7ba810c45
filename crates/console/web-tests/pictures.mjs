// Takes the pictures of the documentation, every view light and dark, wide and narrow: node pictures.mjs [DIRECTORY]
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { consoleToTest, launch, openPage, signIn, visit } from './browser.mjs';
import { VIEWS } from './views.mjs';

const DIRECTORY = process.argv[2] ?? fileURLToPath(new URL('../../../docs/img/', import.meta.url));
const SIZES = [['wide', 1440, 900], ['narrow', 390, 844]];
const WARM_UP_MS = 20000;

mkdirSync(DIRECTORY, { recursive: true });
const browser = await launch();
const tested = await consoleToTest();
// Until the charts and the story have something to show.
await new Promise((resolve) => setTimeout(resolve, WARM_UP_MS));
for (const [size, width, height] of SIZES) {
  for (const colorScheme of ['light', 'dark']) {
    const { page, close } = await openPage(browser, { url: tested.url, width, height, colorScheme });
    const take = (name) => page.screenshot({ path: join(DIRECTORY, `console-${name}-${size}-${colorScheme}.png`) });
    await page.getByLabel('Token').waitFor();
    await take('sign-in');
    await signIn(page, tested.tokens.operator);
    const state = await (await page.request.get(`${tested.url}/api/state`)).json();
    for (const view of VIEWS.filter((view) => !view.needs || view.needs(state))) {
      await visit(page, view.hash(state));
      await page.locator(view.shows).first().waitFor();
      await page.waitForTimeout(1500);
      await take(view.name);
    }
    await close();
  }
}
await browser.close();
await tested.close();
