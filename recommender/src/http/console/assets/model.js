// How the model does: which one answers, how well it predicts, whether customers have changed, what comes in, and
// whether the whole catalogue has a chance.

import { bar, figure, sparkline, threshold } from './charts.js';
import { chip, h, number, percent, section, show, table, time } from './dom.js';

const KEPT = 200;

/** Room for half a minute, and more once there is more. */
const room = (values) => Math.max(10, values.length);

const OUTCOMES = [
  ['learned', 'learned', 'good'], ['weightless', 'without weight', ''], ['damped', 'too many a minute', 'warm'], ['excluded', 'of excluded customers', 'warm'],
  ['non_products', 'of no product', 'warm'], ['refused_products', 'over the limit of products', 'bad'], ['too_old', 'too old', ''], ['invalid', 'invalid', 'bad'],
];

function answering({ status, fitted }) {
  const { model } = status;
  return section('Answering', { class: 'card' },
    h('p', { class: 'big' }, model.algorithm),
    h('dl', { class: 'pairs' },
      h('dt', {}, 'Version'), h('dd', { class: 'id' }, model.version),
      fitted.map(([name, version]) => [h('dt', {}, name), h('dd', { class: 'id' }, version)]),
      h('dt', {}, 'Fitted'), h('dd', {}, model.trainedAt ? time(model.trainedAt) : 'nothing is: counted models learn with each event'),
      h('dt', {}, 'Knows'), h('dd', {}, `${number(model.products)} products, ${number(model.customers)} customers`)),
    status.notes.length ? h('ul', { class: 'notes' }, status.notes.map((note) => h('li', {}, note))) : null);
}

function freshness({ status }, kept) {
  const state = (name, value) => h('span', {}, `${name} `, chip(value.toLowerCase(), value === 'Up' ? 'good' : value === 'Down' ? 'bad' : ''));
  return section('Freshness', { class: 'card' },
    h('dl', { class: 'figures' },
      figure('behind the log', status.lagSeconds < 1 ? 'nothing' : `${number(status.lagSeconds, 1)} s`, `${number(status.lagRecords)} records`, sparkline(kept.lag, { slots: room(kept.lag), top: 1 })),
      figure('events learned', number(status.events), `${number(status.deadLetters)} dead letters`, sparkline(kept.rate, { slots: room(kept.lag), top: 1 }))),
    h('p', { class: 'facts' }, state('log', status.log), state('Redis', status.redis)));
}

function predictions({ predictions: rates, status }) {
  if (!rates.length) {
    return section('Prediction', { class: 'card wide' }, h('p', {}, 'Not measured yet: one in 128 of the live events that turn to a product new to a known customer is predicted before it is learned.'));
  }
  const best = Math.max(1e-9, ...rates.map((rate) => rate.hit_rate_at_10));
  return section('Prediction', { class: 'card wide' },
    table('Of the events that were predicted just before they were learned, recent ones counting more', ['algorithm', '~against the best', '#hit rate@10', '#MRR@10', '#predicted'],
      rates.map((rate) => [
        rate.algorithm === status.model.algorithm ? h('strong', {}, rate.algorithm) : rate.algorithm,
        bar(rate.hit_rate_at_10 / best), percent(rate.hit_rate_at_10), number(rate.mrr_at_10, 3), number(rate.predictions),
      ]), { class: 'plain-table' }));
}

function drift({ status }) {
  const found = status.drift;
  if (!found) {
    return section('Drift', { class: 'card' }, h('p', {}, 'Too few events to tell: a day is compared with the week before it, from 500 events in each on.'));
  }
  const line = (name, value) => h('div', { class: 'figure' }, h('dt', {}, name),
    h('dd', {}, h('span', { class: 'value' }, number(value, 2)), threshold(value, found.threshold)));
  return section('Drift', { class: 'card' },
    h('dl', { class: 'figures' }, line('in products', found.products), line('in event types', found.eventTypes),
      found.sinceFit === undefined ? null : line('since the models were fitted', found.sinceFit)),
    h('p', { class: 'facts' }, found.drifted ? chip('drifted', 'bad') : chip('as before', 'good'),
      h('span', { class: 'quiet' }, `The last day against the week before it; over ${number(found.threshold, 2)} customers have changed.`)));
}

function variety({ shown }, kept) {
  if (!shown.answers) {
    return section('What is shown', { class: 'card' }, h('p', {}, 'No answers in the last hour.'));
  }
  return section('What is shown', { class: 'card' },
    h('dl', { class: 'figures' },
      figure('coverage', percent(shown.coverage), null, sparkline(kept.coverage, { slots: room(kept.lag), top: 0.05 })),
      figure('novelty', `${number(shown.novelty_bits, 1)} bits`, null, sparkline(kept.novelty, { slots: room(kept.lag), top: 1 })),
      figure('diversity', percent(shown.diversity, 0), null, sparkline(kept.diversity, { slots: room(kept.lag), top: 1 })),
      figure('tried out', percent(shown.explored), null, null)),
    h('p', { class: 'quiet' }, `Of the catalogue, of a product, and within an answer: in the last hour, from ${number(shown.answers)} answers of this replica. Falling coverage with a steady hit rate is over-personalisation, or everybody shown the same.`));
}

function quality({ counts, odd }) {
  const all = Math.max(1, counts.events);
  const rows = OUTCOMES.filter(([key], at) => at < 2 || counts[key] > 0)
    .map(([key, name, kind]) => [name, bar(counts[key] / all, kind), number(counts[key]), percent(counts[key] / all)]);
  const strange = [
    ['of products the catalogue lacks', odd.unknown_product], ['out of order by over a minute', odd.out_of_order], ['malformed', odd.malformed], ['sent twice', odd.duplicate],
  ];
  return section('Data quality', { class: 'card wide' },
    h('div', { class: 'two' },
      table('What became of the events', ['outcome', '~of all', '#events', '#share'], rows, { class: 'plain-table' }),
      table('What was odd, since the start', ['oddity', '#events'], strange.map(([name, value]) => [name, number(value)]), { class: 'plain-table' })));
}

export function create(context, signal) {
  const cards = h('div', { class: 'cards' });
  const node = h('div', { class: 'page' }, h('h1', {}, 'Model health'), cards);
  const kept = { lag: [], rate: [], coverage: [], novelty: [], diversity: [] };
  let before = null;
  show(cards, h('p', { class: 'quiet' }, 'Looking …'));
  context.onHealth(signal, (health) => {
    const now = performance.now();
    const push = (name, value) => { kept[name] = [...kept[name], value].slice(-KEPT); };
    push('lag', health.status.lagSeconds);
    if (before && now > before.at) push('rate', Math.max(0, health.status.events - before.events) / ((now - before.at) / 1000));
    before = { at: now, events: health.status.events };
    if (health.shown.answers) {
      push('coverage', health.shown.coverage);
      push('novelty', health.shown.novelty_bits ?? 0);
      push('diversity', health.shown.diversity ?? 0);
    }
    show(cards, answering(health), freshness(health, kept), predictions(health), drift(health), variety(health, kept), quality(health));
  });
  return { node, update() {} };
}
