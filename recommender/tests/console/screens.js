// The pictures of docs/console.md: `node screens.js FOLDER`.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { smaller } from './png.js';
import { openBrowser, openShop } from './shop.js';

const [folder] = process.argv.slice(2);
const MOST = 150_000;

const shop = await openShop({ live: 24_000, model: { algorithm: 'Auto' } });
const browser = await openBrowser();
const token = shop.token('ann', 'customers:read');
const customer = process.env.CUSTOMER ?? shop.customer;

async function picture(name, hash, { ready, settle, ...options }) {
  const { page, context, wrong } = await browser.page(shop.console, { viewport: { width: 1240, height: 780 }, ...options });
  await context.addInitScript((text) => sessionStorage.setItem('recommender-token', text), token);
  await page.goto(`${shop.console}/${hash}`);
  await page.locator(ready).first().waitFor();
  await settle?.(page);
  const path = join(folder, `console-${name}.png`);
  const png = smaller(await page.screenshot({ animations: 'disabled' }));
  writeFileSync(path, png);
  const size = png.length;
  console.log(`${path}: ${Math.round(size / 1000)} kB`);
  if (size > MOST || wrong.length) throw new Error(`${path}: ${size} bytes; ${wrong.join('; ')}`);
  await context.close();
}

try {
  await picture('customer', `#/customer/${customer}`, { ready: '.rec', settle: (page) => page.locator('.cite').first().hover() });
  await picture('compare', `#/compare/${customer}?left=Hybrid&right=Rp3Beta`, { ready: '.slopes', settle: (page) => page.locator('.versus .left li:not(.lone)').nth(1).hover() });
  await picture('live', '#/live', {
    ready: '.events',
    colorScheme: 'dark',
    settle: async (page) => {
      for (let at = 0; at < 90; at += 1) {
        const customer_id = shop.customers[(at * 37) % shop.customers.length];
        const product_id = shop.products[(at * 61) % shop.products.length];
        await shop.post({ customer_id, product_id, event_type: ['view', 'view', 'cart', 'view', 'purchase'][at % 5] });
        await new Promise((resolve) => { setTimeout(resolve, 40 + 90 * Math.abs(Math.sin(at / 6))); });
      }
      await page.locator('.events tbody tr').nth(12).waitFor();
    },
  });
  await picture('model', '#/model', {
    ready: '.figures .spark',
    viewport: { width: 1240, height: 1070 },
    // Some looks at it, so that plots have something to show.
    settle: async (page) => {
      for (let at = 0; at < 160; at += 1) {
        await shop.post({ customer_id: shop.customers[(at * 29) % shop.customers.length], product_id: shop.products[(at * 61) % shop.products.length], event_type: 'view' });
        await shop.ask(shop.customers[(at * 3) % shop.customers.length]);
        await page.waitForTimeout(60 + 150 * Math.abs(Math.sin(at / 14)));
      }
    },
  });
  await picture('shop', '#/shop', { ready: '.funnel', viewport: { width: 1240, height: 900 } });
} finally {
  await browser.close();
  shop.stop();
}
