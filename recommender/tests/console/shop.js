// A shop for the tests: `recommender serve --embedded` with a part of the data that is shipped, and a browser before it.

import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { chromium } from 'playwright-core';

const here = dirname(fileURLToPath(import.meta.url));
const data = join(here, '../../../data/online-retail');

const EXPERIMENTS = [{ name: 'ranking', arms: [{ algorithm: 'Hybrid', percent: 50 }, { algorithm: 'Popularity', percent: 50 }] }];

/** Purchases of the shop's past, and events of it that come while it runs: those are predicted before they are learned. */
const PURCHASES = 9_000;
const LIVE = 2_000;
const READY = 60_000;

export const PASSWORD = 'console-tests';
export const PIPELINE = 'gift-shop';

function program() {
  const built = process.env.RECOMMENDER;
  if (!built || !existsSync(built)) throw new Error('RECOMMENDER must name the program: run `cargo xtask test --only console`');
  return built;
}

function browser() {
  const folders = (process.env.PATH ?? '').split(delimiter);
  const found = [process.env.CHROMIUM, ...folders.flatMap((folder) => ['chromium', 'chromium-browser', 'google-chrome'].map((name) => join(folder, name)))]
    .find((file) => file && existsSync(file));
  if (!found) throw new Error('there is no Chromium: run `cargo xtask test --only console`, which installs it');
  return found;
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => { const { port } = server.address(); server.close(() => resolve(port)); });
  });
}

/** The last purchases of the data, each led up to by what a shop's page would send; the last of all is now. */
function events() {
  const lines = gunzipSync(readFileSync(join(data, 'events.jsonl.gz'))).toString().trim().split('\n');
  const bought = lines.map((line) => JSON.parse(line)).filter((event) => event.event_type === 'purchase').slice(-PURCHASES);
  const all = [];
  const shift = Date.now() - Date.parse(bought.at(-1).timestamp);
  bought.forEach((event, at) => {
    const time = Date.parse(event.timestamp) + shift;
    const push = (event_type, seconds, product_id = event.product_id) => all.push({
      ...event, event_type, product_id, timestamp: new Date(time - seconds * 1000).toISOString(),
    });
    const other = bought[Math.min(at + 3 + (at % 5), bought.length - 1)].product_id;
    push('view', 90, other);
    push('view', 60);
    if (at % 4 === 0) push('cart', 40, other);
    push('cart', 20);
    push('purchase', 0);
  });
  return all.sort((a, b) => a.timestamp.localeCompare(b.timestamp));
}

const text = (all) => `${all.map((event) => JSON.stringify(event)).join('\n')}\n`;

/** Starts the service with its events; `stop` ends it and removes what it left. */
export async function openShop({ live = LIVE, model = {} } = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'recommender-console-'));
  const database = join(dir, 'shop.db');
  const run = (...args) => execFileSync(program(), args, { encoding: 'utf8', stdio: ['pipe', 'pipe', 'ignore'] });
  const token = (user, ...scopes) => run('token', '--embedded', database, '--user', user, ...scopes.flatMap((scope) => ['--scope', scope])).trim();

  mkdirSync(join(dir, 'users'));
  const passwordHash = execFileSync(program(), ['hash-password'], { input: PASSWORD, encoding: 'utf8' }).trim();
  writeFileSync(join(dir, 'users/ann'), JSON.stringify({ passwordHash, scopes: ['customers:read'] }));
  writeFileSync(join(dir, 'config.json'), JSON.stringify({ pipeline: PIPELINE, model, auth: { usersDir: 'users' }, rules: { excludeProducts: ['POST', 'M', 'D', 'C2', 'DOT'] }, experiments: EXPERIMENTS }));
  const all = events();
  writeFileSync(join(dir, 'events.jsonl'), text(all.slice(0, -live)));
  writeFileSync(join(dir, 'later.jsonl'), text(all.slice(-live)));
  run('import', join(data, 'products.csv'), '--embedded', database);
  run('replay', join(dir, 'events.jsonl'), '--embedded', database);

  const [port, internal] = [await freePort(), await freePort()];
  const log = openSync(join(dir, 'log'), 'w');
  const service = spawn(program(), [
    'serve', '--embedded', database, '--config', join(dir, 'config.json'), '--secrets-dir', dir,
    '--listen', `127.0.0.1:${port}`, '--internal-listen', `127.0.0.1:${internal}`,
  ], { stdio: ['ignore', log, log] });
  const stop = () => { service.kill('SIGKILL'); rmSync(dir, { recursive: true, force: true }); };
  const [shop, console] = [`http://127.0.0.1:${port}`, `http://127.0.0.1:${internal}`];
  const begun = Date.now();
  while (!(await fetch(`${console}/readyz`).then((answer) => answer.ok, () => false))) {
    if (service.exitCode !== null || Date.now() - begun > READY) {
      const said = readFileSync(join(dir, 'log'), 'utf8').slice(-3000);
      stop();
      throw new Error(`the service did not become ready:\n${said}`);
    }
    await new Promise((resolve) => { setTimeout(resolve, 100); });
  }
  const writer = token('till', 'events:write', 'recommendations:read');
  const post = async (event) => {
    const answer = await fetch(`${shop}/v1/events`, {
      method: 'POST', headers: { authorization: `Bearer ${writer}`, 'content-type': 'application/json' }, body: JSON.stringify(event),
    });
    if (answer.status !== 202) throw new Error(`${answer.status}: ${await answer.text()}`);
  };
  // Live ones: some are predicted before they are learned, and answers are given.
  run('replay', join(dir, 'later.jsonl'), '--url', shop, '--token', writer);
  const customers = [...new Set(all.map((event) => event.customer_id))];
  const ask = async (customer) => (await fetch(`${shop}/v1/recommendations/${customer}`, { headers: { authorization: `Bearer ${writer}` } })).json();
  // What is shown to some of them leads to a click, to fewer in one arm of the experiment, and some of those buy.
  for (const [at, customer_id] of customers.slice(0, 120).entries()) {
    const { recommendation_id, arm, items: [{ product_id }] } = await ask(customer_id);
    const event = { customer_id, product_id, recommendation_id, price: 4.5 + (at % 7), quantity: 2 };
    if (at % (arm === 'Popularity' ? 5 : 2) === 0) await post({ ...event, event_type: 'click' });
    if (at % (arm === 'Popularity' ? 20 : 6) === 0) await post({ ...event, event_type: 'purchase' });
    await new Promise((resolve) => { setTimeout(resolve, 21); });
  }
  /** The first of these customers whom the arm of the experiment answers. */
  const inArm = async (arm, ids) => {
    for (const id of ids) if ((await ask(id)).arm === arm) return id;
    throw new Error(`none of ${ids} is in the arm ${arm}`);
  };
  const customer = await inArm('Hybrid', [...customers].reverse());
  const products = [...new Set(all.map((event) => event.product_id))];
  return { console, token, post, ask, inArm, stop, customer, customers, products, last: all.at(-1), log: () => readFileSync(join(dir, 'log'), 'utf8') };
}

/** With DRAFT=1 the console's files are taken as they lie here, and not out of the program: to see a change without a build. */
const assets = join(here, '../../src/http/console/assets');

/** A headless browser; `page` opens a tab that notes what goes wrong in it. */
export async function openBrowser() {
  const root = process.getuid?.() === 0;
  const running = await chromium.launch({ executablePath: browser(), args: ['--disable-lcd-text', ...(root ? ['--no-sandbox'] : [])] });
  return {
    close: () => running.close(),
    async page(origin, options = {}) {
      const context = await running.newContext({ viewport: { width: 1280, height: 800 }, ...options });
      const wrong = [];
      const page = await context.newPage();
      page.setDefaultTimeout(12_000);
      if (process.env.DRAFT) await page.route(/\/console\/[a-z-]+\.(js|css|svg)$/, (route) => route.fulfill({ path: join(assets, basename(route.request().url())) }));
      page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) wrong.push(`${message.type()}: ${message.text()}`); });
      page.on('pageerror', (error) => wrong.push(`exception: ${error.message}`));
      page.on('request', (request) => { if (!request.url().startsWith(origin)) wrong.push(`left the host: ${request.url()}`); });
      return { page, context, wrong };
    },
  };
}
