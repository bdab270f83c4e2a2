// One customer: what they did, and what they would be recommended now. The history is numbered, and each
// recommendation cites the numbers that it rests on.

import { every, get } from './api.js';
import { bar } from './charts.js';
import { ago, chip, count, h, number, percent, show, speak, time } from './dom.js';

const LOOK_EVERY = 4000;
const BASIS = {
  personal: ['from their history', 'good'], session: ['from this visit', 'good'], popular: ['popular products: nothing is known', 'warm'],
  consent: ['popular products: no consent to more', 'warm'],
};

/** The list of customers with its search; `open` is called with an id. */
function finder(context, signal) {
  const found = h('ul', { id: 'found', class: 'found' });
  const said = h('p', { class: 'quiet', role: 'status' });
  const field = h('input', {
    id: 'find', type: 'search', placeholder: 'id begins with …', autocomplete: 'off', spellcheck: 'false', 'aria-controls': 'found',
  });
  let asked = null;
  let current = '';
  const mark = () => found.querySelectorAll('a').forEach((link) => {
    if (link.dataset.id === current) link.setAttribute('aria-current', 'true'); else link.removeAttribute('aria-current');
  });
  const search = async () => {
    asked?.abort();
    asked = new AbortController();
    const prefix = field.value.trim();
    try {
      const { customers, more } = await get('customers', { prefix, limit: 40 }, asked.signal);
      show(found, customers.map((known) => h('li', {}, h('a', { href: context.address('customer', known.customer_id), 'data-id': known.customer_id },
        h('span', { class: 'id' }, known.customer_id),
        h('span', { class: 'quiet' }, `${count(known.products, 'product')} · ${ago(known.last)}`)))));
      const what = prefix ? `beginning with “${prefix}”` : 'seen last';
      said.textContent = customers.length ? `${more ? 'The first ' : ''}${count(customers.length, 'customer')} ${what}` : `No customer ${what}`;
      mark();
    } catch (error) {
      if (error.name !== 'AbortError') said.textContent = `${error.message}.`;
    }
  };
  let waiting;
  field.addEventListener('input', () => { clearTimeout(waiting); waiting = setTimeout(search, 120); });
  field.addEventListener('keydown', (event) => {
    const first = found.querySelector('a');
    if (event.key === 'ArrowDown' && first) { event.preventDefault(); first.focus(); }
    // A whole id that was typed or pasted, listed or not.
    if (event.key === 'Enter' && field.value.trim()) context.go('customer', field.value.trim());
  });
  found.addEventListener('keydown', (event) => {
    const links = [...found.querySelectorAll('a')];
    const at = links.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: links.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    (to < 0 ? field : links[Math.min(to, links.length - 1)]).focus();
  });
  signal.addEventListener('abort', () => { asked?.abort(); clearTimeout(waiting); });
  search();
  return {
    node: h('section', { class: 'finder', 'aria-label': 'Find a customer' },
      h('label', { for: 'find' }, 'Find a customer', h('kbd', { 'aria-hidden': 'true' }, '/')), field, said, found),
    choose(id) { current = id; mark(); },
  };
}

const DONE = { purchase: 'bought', cart: 'in the cart', click: 'clicked', view: 'viewed', email: 'mailed', return: 'sent back', other: 'other' };

function historyRow(item, at, heaviest) {
  const times = item.purchases > 1 ? ` ×${item.purchases}` : '';
  return h('li', { class: 'touched', tabindex: -1, 'data-id': item.product_id },
    h('span', { class: 'rank' }, at + 1),
    h('div', { class: 'what' },
      h('span', { class: 'named' }, h('span', { class: 'title', title: item.title }, item.title), h('span', { class: 'id quiet' }, item.product_id)),
      h('span', { class: 'facts' }, h('span', { class: `kind ${item.kind}` }, `${DONE[item.kind] ?? item.kind}${times}`),
        item.category ? h('span', { class: 'quiet' }, item.category) : null, h('span', { class: 'quiet' }, time(item.last)))),
    h('div', { class: 'side', title: `weight ${number(item.weight, 1)}` }, bar(item.weight / heaviest, 'soft')));
}

function recommendation(item, at, best, places, point) {
  const cited = item.reason.products.filter((product) => places.has(product)).map((product) => {
    const place = places.get(product);
    return h('button', {
      class: 'cite', title: place.title, 'aria-label': `Show number ${place.at + 1} of the history: ${place.title}`, onclick: () => point(product),
    }, place.at + 1);
  });
  return h('li', { class: 'rec', 'data-id': item.product_id, 'data-because': item.reason.products.join('\n') },
    h('span', { class: 'rank' }, at + 1),
    h('div', { class: 'what' },
      h('span', { class: 'named' }, h('span', { class: 'title', title: item.title }, item.title), h('span', { class: 'id quiet' }, item.product_id)),
      h('span', { class: 'reason' }, item.reason.text, cited.length ? [' ', cited] : null),
      h('span', { class: 'facts' }, item.category ? h('span', { class: 'quiet' }, item.category) : null,
        item.explored ? chip('tried out', 'warm', 'Put here by exploration, in place of what the model ranks higher') : null,
        item.reason.kind === 'pinned' ? chip('pinned') : null)),
    h('div', { class: 'side' }, bar(item.score / best), h('span', { class: 'quiet n' }, number(item.score, 3))));
}

export function create(context, signal) {
  const people = finder(context, signal);
  const panel = h('div', { class: 'person' });
  const node = h('div', { class: 'split' }, people.node, panel);
  const state = { id: null, said: '', closed: null, params: {} };

  const empty = () => show(panel, h('div', { class: 'empty' },
    h('h1', {}, 'Customers'),
    h('p', {}, 'Pick a customer on the left, or type the beginning of an id: you see what they did, what they would be recommended at this moment, and which of it each recommendation rests on.'),
    h('p', { class: 'quiet' }, 'Looking changes nothing: it counts neither as an impression nor in any metric.')));

  function open(id, params) {
    state.closed?.abort();
    state.closed = new AbortController();
    signal.addEventListener('abort', () => state.closed.abort(), { once: true });
    Object.assign(state, { id, said: '', params });
    const { session } = context;
    const facts = h('p', { class: 'facts' });
    const basis = h('p', { class: 'facts', role: 'status' });
    const recs = h('ol', { class: 'recs', 'aria-labelledby': 'recs-title' });
    const past = h('ol', { class: 'history', 'aria-labelledby': 'past-title', tabindex: 0 });
    const algorithm = h('select', { id: 'algorithm' },
      h('option', { value: '' }, `${session.algorithm} (as configured)`),
      session.algorithms.filter((name) => name !== session.algorithm).map((name) => h('option', { value: name }, name)));
    algorithm.value = session.algorithms.includes(params.algorithm) ? params.algorithm : '';
    const placement = h('select', { id: 'placement' }, [['', 'anywhere'], ['home', 'home'], ['product', 'product page'], ['cart', 'cart']].map(([value, text]) => h('option', { value }, text)));
    placement.value = params.placement ?? '';
    const diversity = h('input', { id: 'diversity', type: 'range', min: 0, max: 1, step: 0.05, value: params.diversity ?? 0.2 });
    const shown = h('output', { for: 'diversity' }, params.diversity ?? 'as configured');
    const reset = h('button', { class: 'plain small', hidden: !params.diversity }, 'as configured');
    const again = () => {
      context.go('customer', id, { algorithm: algorithm.value, placement: placement.value, diversity: state.params.diversity }, true);
      look();
    };
    for (const choice of [algorithm, placement]) choice.addEventListener('change', again);
    diversity.addEventListener('input', () => {
      state.params = { ...state.params, diversity: diversity.value };
      shown.textContent = diversity.value;
      reset.hidden = false;
      again();
    });
    reset.addEventListener('click', () => {
      state.params = { ...state.params, diversity: undefined };
      shown.textContent = 'as configured';
      reset.hidden = true;
      diversity.focus();
      again();
    });

    show(panel,
      h('div', { class: 'person-head' },
        h('div', {}, h('h1', { class: 'id' }, id), facts),
        h('form', { class: 'controls', 'aria-label': 'How to recommend', onsubmit: (event) => event.preventDefault() },
          h('div', {}, h('label', { for: 'algorithm' }, 'Model'), algorithm),
          h('div', {}, h('label', { for: 'placement' }, 'Placement'), placement),
          h('div', {}, h('label', { for: 'diversity' }, 'Diversity ', shown), h('div', { class: 'row' }, diversity, reset)),
          h('a', { class: 'button', href: context.address('compare', id) }, 'Compare models'))),
      h('div', { class: 'two' },
        h('section', { 'aria-labelledby': 'recs-title' }, h('h2', { id: 'recs-title' }, 'Recommended now'), basis, recs),
        h('section', { 'aria-labelledby': 'past-title' }, h('h2', { id: 'past-title' }, 'What they did'), h('p', { class: 'facts quiet' }, 'Newest first. Recommendations cite these numbers.'), past)));

    const point = (product) => {
      const row = past.querySelector(`[data-id="${CSS.escape(product)}"]`);
      row?.scrollIntoView({ block: 'nearest' });
      row?.focus({ preventScroll: true });
    };
    // What one rests on lights up, whether pointed at or reached by keyboard.
    const light = (event) => {
      const rec = event.target.closest?.('.rec');
      const row = event.target.closest?.('.touched');
      const because = new Set(rec ? rec.dataset.because.split('\n') : []);
      past.querySelectorAll('.touched').forEach((one) => one.classList.toggle('lit', because.has(one.dataset.id) || one === row));
      recs.querySelectorAll('.rec').forEach((one) => one.classList.toggle('lit', one === rec || Boolean(row && one.dataset.because.split('\n').includes(row.dataset.id))));
    };
    for (const list of [recs, past]) {
      for (const kind of ['pointerover', 'focusin']) list.addEventListener(kind, light);
      list.addEventListener('pointerleave', () => light({ target: document.body }));
    }

    let run = 0;
    async function look() {
      run += 1;
      const mine = run;
      const asked = { limit: 10, algorithm: algorithm.value, placement: placement.value, diversity: state.params.diversity };
      const [known, answer] = await Promise.all([
        get(`customers/${encodeURIComponent(id)}`, {}, state.closed.signal),
        get(`customers/${encodeURIComponent(id)}/recommendations`, asked, state.closed.signal),
      ]);
      if (mine !== run || state.closed.signal.aborted) return;
      draw(known, answer);
    }

    function draw(known, answer) {
      const said = JSON.stringify([known, { ...answer, took_us: 0 }]);
      const [words, kind] = BASIS[answer.fallback] ?? [answer.fallback, ''];
      show(basis, chip(answer.model.algorithm), answer.experiment ? chip(`experiment ${answer.experiment}`, '', 'The arm that this customer is in chose the model') : null, chip(words, kind),
        h('span', { class: 'quiet' }, `${number(answer.took_us / 1000, 2)} ms`),
        answer.variety === undefined ? null : h('span', { class: 'quiet', title: 'One less the mean similarity of two of these products' }, `variety ${percent(answer.variety, 0)}`));
      if (said === state.said) return;
      const before = [...recs.children].map((row) => row.dataset.id);
      state.said = said;
      const places = new Map(known.history.map((item, at) => [item.product_id, { at, title: item.title }]));
      const heaviest = Math.max(1e-9, ...known.history.map((item) => item.weight));
      const best = Math.max(1e-9, ...answer.items.map((item) => item.score));
      show(facts, known.known ? count(known.history.length, 'product') : chip('unknown to the model', 'warm'),
        known.history.length ? [' · last seen ', time(known.history[0].last)] : null,
        Object.entries(known.attributes ?? {}).map(([name, values]) => [' ', chip(`${name}: ${values.join(', ')}`)]));
      // A list that the keyboard is in is not taken from under it.
      const focused = document.activeElement?.closest?.('.recs, .history');
      const at = focused ? [...panel.querySelectorAll('button.cite, .history')].indexOf(document.activeElement) : -1;
      show(recs, answer.items.map((item, at) => recommendation(item, at, best, places, point)));
      show(past, known.history.map((item, at) => historyRow(item, at, heaviest)));
      if (!known.history.length) show(past, h('li', { class: 'quiet' }, 'Nothing yet.'));
      if (at >= 0) panel.querySelectorAll('button.cite, .history')[at]?.focus({ preventScroll: true });
      const fresh = before.length ? [...recs.children].filter((row) => !before.includes(row.dataset.id)) : [];
      fresh.forEach((row) => row.classList.add('fresh'));
      if (before.length) speak(fresh.length ? `Recommendations changed: ${count(fresh.length, 'new product')}` : 'Recommendations changed');
      if (!performance.getEntriesByName('first-recommendation').length && answer.items.length) performance.mark('first-recommendation');
    }

    const told = (error) => { if (error.name !== 'AbortError' && !state.said) show(basis, h('span', { class: 'problem' }, `${error.message}.`)); };
    every(LOOK_EVERY, state.closed.signal, () => look().catch(told));
  }

  return {
    node,
    update({ id, params }) {
      people.choose(id);
      if (!id) { state.closed?.abort(); state.id = null; empty(); return; }
      context.title(id);
      if (id !== state.id) open(id, params);
    },
  };
}
