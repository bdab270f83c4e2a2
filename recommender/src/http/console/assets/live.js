// Events as they are learned. Nothing is asked for while the view is closed, paused or out of sight.

import { stream } from './api.js';
import { sparkline } from './charts.js';
import { count, h, number, show, speak, time } from './dom.js';

const KEPT = 150;
const SECONDS = 60;

export function create(context, signal) {
  const state = { paused: false, rows: [], rates: [], learned: null, at: 0, missed: 0, running: null, spoken: 0, unspoken: 0, types: new Map() };
  const rate = h('span', { class: 'value' }, '–');
  const plot = h('span', { class: 'plot' });
  const said = h('p', { class: 'quiet', role: 'status' }, 'Waiting for events …');
  const types = h('p', { class: 'facts' });
  const body = h('tbody', {});
  const filter = h('input', { id: 'filter', type: 'search', placeholder: 'customer, product or type', autocomplete: 'off', spellcheck: 'false' });
  const pause = h('button', { class: 'primary', 'aria-pressed': 'false' }, 'Pause');
  const node = h('div', { class: 'page' },
    h('h1', {}, 'Live events'),
    h('div', { class: 'strip' },
      h('div', { class: 'figure' }, rate, h('span', { class: 'quiet' }, 'events a second'), plot),
      h('div', { class: 'controls' }, h('div', {}, h('label', { for: 'filter' }, 'Show only'), filter), pause)),
    said, types,
    h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Events' },
      h('table', { class: 'events' },
        h('caption', { class: 'unseen' }, 'Live events, newest first'),
        h('thead', {}, h('tr', {}, ['When', 'Customer', 'What', 'Product'].map((name) => h('th', { scope: 'col' }, name)), h('th', { scope: 'col', class: 'n', title: 'From the log to the model' }, 'Learned after'))),
        body)));

  const wanted = (event) => {
    const text = filter.value.trim().toLowerCase();
    return !text || `${event.customer_id}\n${event.event_type}\n${event.title}\n${event.product_id}`.toLowerCase().includes(text);
  };
  const row = (event) => h('tr', { class: 'fresh' },
    h('td', {}, time(event.time)),
    h('th', { scope: 'row' }, h('a', { class: 'id', href: context.address('customer', event.customer_id) }, event.customer_id)),
    h('td', {}, h('span', { class: `kind ${event.event_type}` }, event.event_type)),
    h('td', { class: 'title' }, event.title, ' ', event.title === event.product_id ? null : h('span', { class: 'id quiet' }, event.product_id)),
    h('td', { class: 'n' }, event.took_ms < 1000 ? `${number(event.took_ms)} ms` : `${number(event.took_ms / 1000, 1)} s`));
  const redraw = () => show(body, state.rows.filter(wanted).map(row));

  function measure(learned) {
    const now = performance.now();
    if (state.learned !== null && now > state.at) {
      const since = (now - state.at) / 1000;
      if (since < 0.9) return;
      state.rates.push(Math.max(0, learned - state.learned) / since);
      state.rates = state.rates.slice(-SECONDS);
      rate.textContent = number(state.rates.at(-1), state.rates.at(-1) < 10 ? 1 : 0);
      show(plot, sparkline(state.rates, { width: 320, height: 44, slots: SECONDS, top: 1 }));
    }
    state.learned = learned;
    state.at = now;
  }

  function take({ events, missed, learned }) {
    measure(learned);
    state.missed += missed;
    if (!events.length) return;
    state.rows = [...events.toReversed(), ...state.rows].slice(0, KEPT);
    events.forEach((event) => state.types.set(event.event_type, (state.types.get(event.event_type) ?? 0) + 1));
    body.prepend(...events.toReversed().filter(wanted).map(row));
    while (body.children.length > KEPT) body.lastElementChild.remove();
    said.textContent = state.missed ? `${number(state.missed)} more events came faster than they can be shown.` : '';
    show(types, [...state.types].sort((a, b) => b[1] - a[1]).map(([type, seen]) => [h('span', { class: `kind ${type}` }, `${type} ${number(seen)}`), ' ']));
    // A reader is told how many, now and then, and not each of them.
    state.unspoken += events.length + missed;
    if (performance.now() - state.spoken > 10_000) {
      speak(count(state.unspoken, 'new event'));
      Object.assign(state, { spoken: performance.now(), unspoken: 0 });
    }
  }

  async function run(stopped) {
    let wait = 1000;
    while (!stopped.aborted) {
      try {
        for await (const message of stream(stopped)) {
          take(message);
          wait = 1000;
        }
      } catch (error) {
        if (stopped.aborted || error.status === 401) return;
        said.textContent = `${error.message}: trying again.`;
        await new Promise((resolve) => { setTimeout(resolve, wait); });
        wait = Math.min(wait * 2, 15_000);
      }
    }
  }

  function settle() {
    const on = !state.paused && !document.hidden && !signal.aborted;
    if (on && !state.running) {
      state.running = new AbortController();
      state.learned = null;
      run(state.running.signal);
    } else if (!on && state.running) {
      state.running.abort();
      state.running = null;
    }
  }

  pause.addEventListener('click', () => {
    state.paused = !state.paused;
    pause.textContent = state.paused ? 'Go on' : 'Pause';
    pause.setAttribute('aria-pressed', String(state.paused));
    said.textContent = state.paused ? 'Paused: nothing is asked for.' : '';
    settle();
  });
  filter.addEventListener('input', redraw);
  document.addEventListener('visibilitychange', settle, { signal });
  signal.addEventListener('abort', settle);
  // Times go on while nothing comes.
  const clock = setInterval(redraw, 15_000);
  signal.addEventListener('abort', () => clearInterval(clock));
  settle();
  return { node, update() {} };
}
