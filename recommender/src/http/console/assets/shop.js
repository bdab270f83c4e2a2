// The shop as a whole: from looking to buying, what experiments found, what is popular, rising and bought together.

import { every, get } from './api.js';
import { bar, funnel, intervals } from './charts.js';
import { ago, chip, count, h, number, percent, section, show, table } from './dom.js';

const LOOK_EVERY = 5_000;

const product = ({ product_id, title }) => [title ?? product_id, ' ', title ? h('span', { class: 'id quiet' }, product_id) : null];

function fromLookingToBuying({ funnel: found, days }) {
  const steps = [
    { name: 'looked at', value: found.viewed },
    { name: 'put into the cart', value: found.carted, after: found.carted_after_view, before: found.viewed },
    { name: 'bought', value: found.purchased, after: found.purchased_after_cart, before: found.carted },
  ];
  const share = (step) => (step.before ? percent(step.after / step.before) : '–');
  return section('From looking to buying', { class: 'card wide' },
    h('div', { class: 'two' },
      funnel(steps.map((step) => ({ ...step, share: step.before ? step.after / step.before : null }))),
      table(`Pairs of a customer and a product in ${count(days, 'day')}, by how far they got`, ['step', '#pairs', '#of those before'],
        steps.map((step) => [step.name, number(step.value), share(step)]), { class: 'plain-table' })));
}

const about = (estimate, write) => (estimate.low === undefined ? write(estimate.value) : `${write(estimate.value)} (${write(estimate.low)} to ${write(estimate.high)})`);
/** A difference of shares. */
const points = (n) => `${number(n * 100, 1)} points`;
const against = (found, write) => [
  `${found.difference > 0 ? '+' : ''}${write(found.difference)} `,
  found.significant ? chip(found.difference > 0 ? 'better' : 'worse', found.difference > 0 ? 'good' : 'bad') : chip('no telling'),
  found.p_value === undefined ? null : h('span', { class: 'quiet' }, ` p ${number(found.p_value, 3)}`),
];

function experiment(found) {
  const whole = found.arms.filter((arm) => arm.placement === undefined);
  const drawn = (measure) => whole.filter((arm) => arm[measure].low !== undefined)
    .map((arm) => ({ name: arm.arm, value: arm[measure].value, low: arm[measure].low, high: arm[measure].high }));
  const plot = (title, arms) => (arms.length ? h('div', {}, h('p', { class: 'quiet' }, title), intervals(arms)) : null);
  const title = found.name ? `Experiment ${found.name}` : 'What recommendations led to';
  return section(title, { class: 'card wide' },
    h('div', { class: 'two' }, plot('Answers that led to a view or click, with 95 % intervals', drawn('click_through')), plot('Customers with a purchase, with 95 % intervals', drawn('conversion'))),
    table('By arm, with 95 % intervals', ['arm', '#customers', '#answers', '#click-through', '#conversion', '#revenue a customer', '#revenue'],
      whole.map((arm) => [
        arm.arm === found.control ? [arm.arm, ' ', chip('control')] : arm.arm, number(arm.customers), number(arm.answers), about(arm.click_through, (n) => percent(n)),
        about(arm.conversion, (n) => percent(n)), about(arm.revenue_per_customer, (n) => number(n, 2)), number(arm.revenue, 2),
      ]), { class: 'plain-table' }),
    found.comparisons.length ? table('Against the control', ['arm', 'click-through', 'conversion', 'revenue a customer'],
      found.comparisons.map((one) => [
        one.arm, against(one.click_through, points), against(one.conversion, points), against(one.revenue_per_customer, (n) => number(n, 2)),
      ]), { class: 'plain-table' }) : null);
}

function popular({ top_products: products }) {
  const best = Math.max(1, ...products.map((item) => item.buyers));
  return section('Most bought', { class: 'card wide' },
    table('By the number of buyers', ['place', 'product', '~against the first', '#buyers', '#views', '#revenue'],
      products.map((item, at) => [number(at + 1), product(item), bar(item.buyers / best), number(item.buyers), number(item.views), number(item.revenue, 2)]), { class: 'plain-table' }));
}

function rising({ rising_products: products }) {
  if (!products.length) return null;
  return section('Rising', { class: 'card' },
    table('More customers in the last day than on a day before', ['product', '#last day', '#a day before', '#times'],
      products.map((item) => [product(item), number(item.customers_in_last_day), number(item.customers_a_day_before, 1), `×${number(item.factor, 1)}`]), { class: 'plain-table' }));
}

function together({ bought_together: pairs }) {
  if (!pairs.length) return null;
  const name = (pair, at) => pair.titles[at] ?? pair.product_ids[at];
  return section('Bought together', { class: 'card' },
    table('Within a day, most frequent first', ['products', '#customers', '#lift'],
      pairs.map((pair) => [[name(pair, 0), h('br'), name(pair, 1)], number(pair.customers), `×${number(pair.lift, 1)}`]), { class: 'plain-table' }));
}

function activity({ activity: found }) {
  const rows = [
    ['one event', found.with_1_event], ['2 to 5', found.with_2_to_5_events], ['6 to 20', found.with_6_to_20_events], ['more', found.with_more_events],
  ];
  const all = Math.max(1, found.customers);
  return section('Customers', { class: 'card' },
    h('p', {}, `${count(found.customers, 'customer')}, ${number(found.buyers)} of them buyers; ${number(found.active_in_last_day)} active in the last day.`),
    table('By their number of events', ['events', '~of all', '#customers', '#share'], rows.map(([name, n]) => [name, bar(n / all), number(n), percent(n / all, 0)]), { class: 'plain-table' }));
}

export function create(context, signal) {
  const cards = h('div', { class: 'cards' });
  const days = h('select', { id: 'days' }, [1, 2, 3, 7].map((n) => h('option', { value: n }, n === 1 ? 'a day' : `${n} days`)));
  days.value = '7';
  const said = h('span', { class: 'quiet', role: 'status' });
  const node = h('div', { class: 'page' },
    h('div', { class: 'strip' }, h('h1', {}, 'The shop'), h('div', { class: 'controls' }, said, h('div', {}, h('label', { for: 'days' }, 'The last'), days))), cards);
  let before = '';
  const look = async () => {
    const found = await get('shop', { limit: 8, days: days.value }, signal).catch((error) => {
      if (error.name !== 'AbortError' && !before) show(cards, h('p', { class: 'problem' }, `${error.message}.`));
      throw error;
    });
    const text = JSON.stringify(found);
    if (text === before) return;
    before = text;
    said.textContent = [found.until ? `up to ${ago(found.until)}` : '', found.share_of_customers < 1 ? `extrapolated from ${percent(found.share_of_customers)} of the customers` : ''].filter(Boolean).join(', ');
    show(cards, fromLookingToBuying(found), found.experiments.map(experiment), popular(found), rising(found), together(found), activity(found));
  };
  days.addEventListener('change', () => { look().catch(() => {}); });
  every(LOOK_EVERY, signal, look);
  return { node, update() {} };
}
