// The console in a real browser, before a real service.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { PASSWORD, PIPELINE, openBrowser, openShop } from './shop.js';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
/** WCAG 2.2, levels A and AA. */
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

let shop;
let browser;
let tab;
let token;
let customer;

before(async () => {
  shop = await openShop();
  browser = await openBrowser();
  tab = await browser.page(shop.console);
  token = shop.token('ann', 'customers:read');
  customer = shop.customer;
}, { timeout: 180_000 });

after(async () => {
  await browser?.close();
  shop?.stop();
});

/** Opens a view in a tab that is signed in. */
async function open({ page, context }, hash) {
  await context.addInitScript((text) => sessionStorage.setItem('recommender-token', text), token);
  await page.goto(`${shop.console}/${hash}`);
}

const rows = (page) => page.locator('.rec');

test('what is no token, and a token without the scope, are told from each other and let nobody in', async () => {
  const { page } = tab;
  await page.goto(shop.console);
  const enter = async (text) => {
    await page.getByLabel('Token', { exact: true }).fill(text);
    await page.getByRole('button', { name: 'Sign in', exact: true }).click();
  };
  await enter('nonsense');
  await page.getByRole('alert').filter({ hasText: 'Invalid token' }).waitFor();
  await enter(shop.token('till', 'events:write'));
  await page.getByRole('alert').filter({ hasText: 'customers:read' }).waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0, 'a token that was refused is not kept');
  // The browser itself notes the two refusals; nothing else was said.
  assert.deepEqual(tab.wrong.splice(0).filter((line) => !/status of 40[13]/.test(line)), []);
});

test('a token with the scope signs in, and signing out forgets it', async () => {
  const { page } = tab;
  await page.getByLabel('Token', { exact: true }).fill(token);
  await page.getByRole('button', { name: 'Sign in', exact: true }).click();
  await page.getByRole('link', { name: 'Live' }).waitFor();
  assert.match(await page.locator('.brand').innerText(), new RegExp(PIPELINE));
  await page.locator('.pill.good').waitFor();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByLabel('Token', { exact: true }).waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
});

test('a user of the shop signs in with a password', async () => {
  const { page } = tab;
  await page.getByText('With a user name and a password').click();
  await page.getByLabel('User name').fill('ann');
  await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await page.getByRole('button', { name: 'Sign in with password' }).click();
  await page.getByRole('link', { name: 'Live' }).waitFor();
});

test('a customer is found by the beginning of the id, with history and recommendations that say why', async () => {
  const { page } = tab;
  await page.getByRole('searchbox', { name: 'Find a customer' }).fill(customer.slice(0, 4));
  await page.getByText(`beginning with “${customer.slice(0, 4)}”`).waitFor();
  for (const id of await page.locator('#found .id').allInnerTexts()) assert.ok(id.startsWith(customer.slice(0, 4)), id);
  await page.locator(`#found [data-id="${customer}"]`).click();
  await rows(page).first().waitFor();
  await page.getByRole('heading', { level: 1, name: customer }).waitFor();
  assert.equal(await rows(page).count(), 10);
  assert.ok(await page.locator('.touched').count() > 0);
  for (const reason of await page.locator('.rec .reason').allInnerTexts()) assert.ok(reason.trim().length > 5, reason);
  assert.match(await page.locator('.rec .reason').first().innerText(), /because you (bought|viewed|put)/);
  // A citation leads to the history's entry of that number.
  const cite = page.locator('.cite').first();
  const number = (await cite.innerText()).trim();
  await cite.click();
  const focused = page.locator('.touched:focus');
  assert.equal((await focused.locator('.rank').innerText()).trim(), number);
  await cite.hover();
  assert.ok(await page.locator('.touched.lit').count() > 0);
});

test('another model and another diversity make another list', async () => {
  const { page } = tab;
  const ids = () => page.locator('.rec').evaluateAll((all) => all.map((row) => row.dataset.id).join());
  const before_ = await ids();
  await page.getByLabel('Model').selectOption('Popularity');
  await page.locator('.chip', { hasText: 'Popularity' }).first().waitFor();
  await page.waitForFunction((was) => [...document.querySelectorAll('.rec')].map((row) => row.dataset.id).join() !== was, before_);
  assert.match(page.url(), /algorithm=Popularity/);
  await page.getByLabel('Model').selectOption('');
  await page.getByLabel(/^Diversity/).fill('1');
  await page.waitForFunction((was) => [...document.querySelectorAll('.rec')].map((row) => row.dataset.id).join() !== was, before_);
  await page.getByRole('button', { name: 'as configured' }).click();
});

test('from a page load to the first recommendation', async (t) => {
  const times = [];
  for (let round = 0; round < 5; round += 1) {
    const fresh = await browser.page(shop.console);
    await open(fresh, `#/customer/${customer}`);
    await rows(fresh.page).first().waitFor();
    times.push(await fresh.page.evaluate(() => performance.getEntriesByName('first-recommendation')[0].startTime));
    assert.deepEqual(fresh.wrong, []);
    await fresh.context.close();
  }
  times.sort((a, b) => a - b);
  t.diagnostic(`page load to first recommendation: median ${times[2].toFixed(0)} ms, slowest of 5 ${times[4].toFixed(0)} ms`);
  // So long only if something is wrong: a machine that does other things too may take seconds.
  assert.ok(times[2] < 10_000, `${times}`);
});

test('two models are compared: what is in common is counted, linked and marked', async () => {
  const { page } = tab;
  await page.getByRole('link', { name: 'Compare models' }).click();
  await page.getByRole('heading', { name: 'Compare models' }).waitFor();
  await page.getByLabel('Left').selectOption('ItemKnn');
  await page.getByLabel('Right').selectOption('Rp3Beta');
  await page.locator('.versus .left h2', { hasText: 'ItemKnn' }).waitFor();
  await page.locator('.versus .right h2', { hasText: 'Rp3Beta' }).waitFor();
  const side = (name) => page.locator(`.versus section.${name} li`).evaluateAll((all) => all.map((row) => row.dataset.id));
  const [left, right] = [await side('left'), await side('right')];
  const common = left.filter((product) => right.includes(product)).length;
  assert.equal(left.length, 10);
  assert.match(await page.locator('.verdict').innerText(), new RegExp(`^${common} of 10 in common`));
  assert.equal(await page.locator('.slope').count(), common);
  assert.equal(await page.locator('.versus .chip.only').count(), 20 - 2 * common);
  await page.getByRole('button', { name: 'Swap the models' }).click();
  await page.locator('.versus .left h2', { hasText: 'Rp3Beta' }).waitFor();
  assert.deepEqual(await side('left'), right);
});

test('an event shows while somebody watches, and its customer is a step away', async (t) => {
  const { page } = tab;
  const streams = [];
  page.on('requestfailed', (request) => { if (request.url().endsWith('/live')) streams.push('closed'); });
  const begins = () => page.waitForResponse((answer) => answer.url().endsWith('/live'));
  const begun = begins();
  await page.getByRole('link', { name: 'Live' }).click();
  await begun;
  const sent = Date.now();
  await shop.post({ customer_id: 'watched-1', product_id: shop.last.product_id, event_type: 'cart' });
  const row = page.locator('.events tbody tr', { hasText: 'watched-1' });
  await row.waitFor({ timeout: 5_000 });
  t.diagnostic(`event to screen: ${Date.now() - sent} ms`);
  assert.match(await row.innerText(), /cart/);
  // Paused, nothing is asked for; what comes meanwhile does not show.
  await page.getByRole('button', { name: 'Pause' }).click();
  await shop.post({ customer_id: 'unwatched', product_id: shop.last.product_id, event_type: 'view' });
  const again = begins();
  await page.getByRole('button', { name: 'Go on' }).click();
  await again;
  await shop.post({ customer_id: 'watched-2', product_id: shop.last.product_id, event_type: 'view' });
  await page.locator('.events tbody tr', { hasText: 'watched-2' }).waitFor();
  assert.equal(await page.locator('.events tbody tr', { hasText: 'unwatched' }).count(), 0);
  await page.getByLabel('Show only').fill('cart');
  await page.waitForFunction(() => ![...document.querySelectorAll('.events tbody tr')].some((one) => one.textContent.includes('watched-2')));
  await row.getByRole('link').click();
  await page.getByRole('heading', { level: 1, name: 'watched-1' }).waitFor();
  await page.waitForFunction(() => !document.querySelector('.events'));
  assert.ok(streams.length >= 2, 'the stream ends with the pause and with the view');
});

test('a click in the shop changes the list of whoever is looked at, without a reload', async () => {
  const { page } = tab;
  const newcomer = await shop.inArm('Hybrid', Array.from({ length: 20 }, (_, at) => `newcomer-${at}`));
  await page.goto(`${shop.console}/#/customer/${newcomer}`);
  await page.locator('.chip', { hasText: 'nothing is known' }).waitFor();
  await shop.post({ customer_id: newcomer, product_id: shop.last.product_id, event_type: 'purchase' });
  await page.locator(`.touched[data-id="${shop.last.product_id}"]`).waitFor({ timeout: 10_000 });
  await page.locator('.chip', { hasText: 'from their history' }).waitFor();
});

test('the health of the model is told in figures', async () => {
  const { page } = tab;
  await page.getByRole('link', { name: 'Model', exact: true }).click();
  for (const title of ['Answering', 'Freshness', 'Prediction', 'Drift', 'What is shown', 'Data quality']) {
    await page.getByRole('heading', { name: title }).waitFor();
  }
  assert.match(await page.getByRole('table', { name: /predicted just before/ }).innerText(), /Hybrid\s.*%/s);
  const shown = page.getByRole('region', { name: 'What is shown' });
  assert.match(await shown.innerText(), /coverage\s+[1-9][\d.]* %/);
  assert.match(await shown.innerText(), /novelty\s+\d+\.\d bits/);
});

test('the shop is told as a funnel and experiments as intervals, with their figures in tables', async () => {
  const { page } = tab;
  await page.getByRole('link', { name: 'Shop', exact: true }).click();
  const steps = page.getByRole('table', { name: /^Pairs of a customer and a product/ });
  await steps.waitFor();
  const figures = await steps.locator('tbody tr').evaluateAll((all) => all.map((row) => Number(row.children[1].textContent.replaceAll(',', ''))));
  assert.ok(figures.length >= 3 && figures.every((figure) => figure > 0), `${figures}`);
  assert.equal(await page.locator('.funnel polygon').count(), figures.length);
  const experiment = page.getByRole('region', { name: 'Experiment ranking' });
  const arms = experiment.getByRole('table', { name: 'By arm' });
  await arms.waitFor();
  assert.deepEqual((await arms.locator('tbody th').allInnerTexts()).map((name) => name.split(' ')[0]).sort(), ['Hybrid', 'Popularity']);
  assert.match(await arms.innerText(), /\d %\s*\([\d.]+ % to [\d.]+ %\)/);
  assert.equal(await experiment.locator('.intervals circle').count(), 4);
});

test('everything is reached by keyboard alone', async () => {
  const fresh = await browser.page(shop.console);
  const { page } = fresh;
  const press = (key) => page.keyboard.press(key);
  await page.goto(shop.console);
  await page.getByLabel('Token', { exact: true }).waitFor();
  // The field has the focus already.
  await page.keyboard.insertText(token);
  await press('Enter');
  await page.locator('#found a').first().waitFor();
  await press('/');
  await page.keyboard.type(customer);
  await page.getByText(`beginning with “${customer}”`).waitFor();
  await press('ArrowDown');
  await press('Enter');
  await rows(page).first().waitFor();
  const until = async (what, most = 80) => {
    for (let step = 0; step < most; step += 1) {
      await press('Tab');
      if (await page.evaluate((selector) => document.activeElement.matches(selector), what)) return;
    }
    assert.fail(`${what} is not reached by Tab`);
  };
  await until('.cite');
  await press('Enter');
  assert.ok(await page.locator('.touched:focus').count(), 'the history entry has the focus');
  // Back to the beginning of the page, past the navigation, and on to the comparison.
  await page.evaluate(() => document.activeElement.blur());
  await page.reload();
  await rows(page).first().waitFor();
  await press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.className), 'skip');
  await press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
  await until('a[href^="#/compare/"].button');
  await press('Enter');
  await page.locator('.slopes').waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main', 'a new view begins at its beginning');
  await until('#left');
  await press('ArrowDown');
  await page.locator('.versus li').first().waitFor();
  assert.deepEqual(fresh.wrong, []);
  await fresh.context.close();
});

for (const colorScheme of ['light', 'dark']) {
  test(`no view has a barrier that axe finds, in ${colorScheme}`, async () => {
    const fresh = await browser.page(shop.console, { colorScheme, reducedMotion: 'reduce' });
    await fresh.context.addInitScript(AXE);
    const found = [];
    const look = async (name) => {
      const result = await fresh.page.evaluate((values) => axe.run({ runOnly: { type: 'tag', values } }), RULES);
      for (const { id, nodes } of result.violations) found.push(`${name}: ${id}: ${nodes.slice(0, 3).map((node) => node.html).join(' | ')}`);
    };
    await fresh.page.goto(shop.console);
    await fresh.page.getByLabel('Token', { exact: true }).waitFor();
    await look('sign-in');
    await fresh.context.addInitScript((text) => sessionStorage.setItem('recommender-token', text), token);
    for (const [hash, sign] of [
      ['#/customer', '#found a'], [`#/customer/${customer}`, '.rec'], [`#/compare/${customer}`, '.slopes'], ['#/live', '.events'], ['#/model', '.card'], ['#/shop', '.card'],
    ]) {
      await fresh.page.goto(`${shop.console}/${hash}`);
      await fresh.page.reload();
      await fresh.page.locator(sign).first().waitFor();
      if (hash === '#/live') {
        await shop.post({ customer_id: customer, product_id: shop.last.product_id, event_type: 'view' });
        await fresh.page.locator('.events tbody tr').first().waitFor();
      }
      await look(hash);
    }
    assert.deepEqual(found, []);
    assert.deepEqual(fresh.wrong, []);
    await fresh.context.close();
  });
}

test('on a narrow screen nothing runs out of it', async () => {
  const fresh = await browser.page(shop.console, { viewport: { width: 390, height: 800 } });
  for (const hash of [`#/customer/${customer}`, `#/compare/${customer}`, '#/live', '#/model', '#/shop']) {
    await open(fresh, hash);
    await fresh.page.reload();
    await fresh.page.locator('h1').first().waitFor();
    const over = await fresh.page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(over <= 0, `${hash} is ${over} pixels too wide`);
  }
  await fresh.context.close();
});

test('in all of this the browser found nothing wrong and asked nobody else', () => {
  assert.deepEqual(tab.wrong, []);
});
