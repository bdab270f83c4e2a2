// A shop's backend talks to the recommender: catalogue, events, recommendations. Node.js 18 or newer, nothing else.
//
//     RECOMMENDER_URL=http://localhost:8080 \
//     RECOMMENDER_TOKEN=$(recommender token --embedded ./shop.db --user my-shop \
//         --scope events:write --scope catalog:write --scope recommendations:read) \
//     node shop.mjs
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

/** Calls of the HTTP API. `key` is a token of a program, with the scopes that the calls need. */
export class Recommender {
  constructor(url, key, { timeout = 5_000, tries = 4 } = {}) {
    Object.assign(this, { url, key, timeout, tries });
  }

  /** Asks, and again where the service says that it is busy. An error says which field is at fault. */
  async call(method, path, body) {
    for (let left = this.tries - 1; ; left -= 1) {
      const answer = await fetch(new URL(path, this.url), {
        method,
        headers: { authorization: `Bearer ${this.key}`, 'content-type': 'application/json' },
        body: body && JSON.stringify(body),
        signal: AbortSignal.timeout(this.timeout),
      });
      if (answer.ok) return answer.json();
      // application/problem+json: `detail` is for people, `errors` names the fields.
      const problem = await answer.json();
      if (![429, 503].includes(answer.status) || left === 0) {
        throw new Error(`${method} ${path}: ${answer.status} ${problem.detail}`);
      }
      await sleep(1_000 * (answer.headers.get('retry-after') ?? 1));
    }
  }

  putProduct(id, product) {
    return this.call('PUT', `/v1/products/${encodeURIComponent(id)}`, product);
  }

  /** Events are given their ids here: sent again after a lost answer, they count once. */
  async send(events) {
    const named = events.map((event) => ({ event_id: randomUUID(), ...event }));
    const { results } = await this.call('POST', '/v1/events/batch', named);
    const refused = results.filter(({ status }) => status !== 202);
    if (refused.length > 0) throw new Error(`refused: ${JSON.stringify(refused)}`);
  }

  recommend(customer, placement, limit = 10) {
    const query = new URLSearchParams({ placement, limit });
    return this.call('GET', `/v1/recommendations/${encodeURIComponent(customer)}?${query}`);
  }
}

const shop = new Recommender(process.env.RECOMMENDER_URL, process.env.RECOMMENDER_TOKEN);
const mug = { category: 'kitchen/mugs', price: 9.9, available: true };
await shop.putProduct('red-mug', { title: 'Red mug', ...mug });
await shop.putProduct('blue-mug', { title: 'Blue mug', ...mug });
const bought = ['ann', 'bob', 'cleo'].flatMap((customer_id) =>
  ['red-mug', 'blue-mug'].map((product_id) => ({ customer_id, product_id, event_type: 'purchase', quantity: 1, price: 9.9 })));
await shop.send([...bought, { customer_id: 'dora', product_id: 'red-mug', event_type: 'view' }]);
// Learned within milliseconds; here until it is, in a shop nobody waits.
let answer;
for (let tries = 0; tries < 100; tries += 1) {
  answer = await shop.recommend('dora', 'home');
  if (answer.fallback === 'personal' && answer.items.length > 0) break;
  await sleep(100);
}
for (const { title, reason } of answer.items) console.log(`${title}: ${reason.text}`);
// What the customer does with it names the answer: that is how figures know what it led to.
await shop.send([{
  customer_id: 'dora',
  product_id: answer.items[0].product_id,
  event_type: 'click',
  recommendation_id: answer.recommendation_id,
}]);
