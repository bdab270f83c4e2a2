// The shop as a whole: from looking to buying, experiments, what is popular and what is rising.

import { every, get } from './api.js';
import { bar, funnel } from './charts.js';
import { h, number, percent, section, show, table } from './dom.js';

const LOOK_EVERY = 10_000;
const STEPS = { view: 'viewed', click: 'clicked', cart: 'in the cart', purchase: 'bought' };

function fromLookingToBuying(found) {
  const steps = found.filter((step) => STEPS[step.event_type] && (step.events > 0 || step.event_type !== 'click'))
    .map((step) => ({ name: STEPS[step.event_type], value: step.events }));
  const rows = steps.map((step, at) => [step.name, number(step.value), at && steps[at - 1].value ? percent(step.value / steps[at - 1].value) : '–']);
  return section('From looking to buying', { class: 'card wide' },
    h('div', { class: 'two' }, funnel(steps), table('Events by step', ['step', '#events', '#of the step before'], rows, { class: 'plain-table' })));
}

function popular(products) {
  const best = Math.max(1e-9, ...products.map((item) => item.score));
  return section('Popular now', { class: 'card wide' },
    table('By customers, recent ones counting more', ['place', 'product', '~against the first', '#customers'],
      products.map((item, at) => [number(at + 1), [item.title, ' ', h('span', { class: 'id quiet' }, item.product_id)], bar(item.score / best), number(item.score, 1)]), { class: 'plain-table' }));
}

export function create(context, signal) {
  const cards = h('div', { class: 'cards' });
  const node = h('div', { class: 'page' }, h('h1', {}, 'The shop'), cards);
  let said = '';
  every(LOOK_EVERY, signal, async () => {
    const found = await get('shop', { limit: 12 }, signal);
    if (JSON.stringify(found) === said) return;
    said = JSON.stringify(found);
    show(cards, fromLookingToBuying(found.funnel), popular(found.popular));
  });
  return { node, update() {} };
}
