// The frame around the views: signing in, where one is (the address after #), and how the service does.

import { every, forget, get, token } from './api.js';
import { h, number, show } from './dom.js';
import * as compare from './compare.js';
import * as customer from './customer.js';
import * as live from './live.js';
import * as model from './model.js';
import * as shop from './shop.js';
import * as signIn from './sign-in.js';

const VIEWS = { customer, compare, live, model, shop };
const NAMES = { customer: 'Customers', compare: 'Compare', live: 'Live', model: 'Model', shop: 'Shop' };

const main = document.getElementById('main');
const top = document.getElementById('top');
const state = { session: null, view: null, name: '', stop: null, health: null, last: '' };
const hearing = new Set();

/** `#/compare/17850?left=Ease` is the view `compare` with the path `17850` and its parameters. */
function place() {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const [name = '', ...rest] = path.split('/');
  const known = Object.hasOwn(VIEWS, name) ? name : 'customer';
  return { name: known, id: rest.length ? decodeURIComponent(rest.join('/')) : '', params: Object.fromEntries(new URLSearchParams(query)) };
}

/** The address of a view. */
export function address(name, id = '', params = {}) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value)).toString();
  return `#/${name}${id ? `/${encodeURIComponent(id)}` : ''}${query ? `?${query}` : ''}`;
}

function frame() {
  const { session } = state;
  const pill = h('span', { class: 'pill', id: 'pill' }, '…');
  const links = Object.entries(NAMES).map(([name, text]) => h('a', { href: address(name), 'data-view': name }, text));
  show(top,
    h('a', { class: 'brand', href: address('customer') },
      h('img', { src: 'console/icon.svg', alt: '', width: 26, height: 26 }),
      h('span', {}, session.pipeline || 'recommender')),
    h('nav', { 'aria-label': 'Views' }, links),
    h('div', { class: 'who' }, pill,
      h('span', { class: 'user', title: `until ${new Date(session.expires * 1000).toLocaleTimeString('en')}` }, session.user_id),
      h('button', { class: 'plain', onclick: () => leave('') }, 'Sign out')));
  top.hidden = false;
}

function tellHealth(health) {
  state.health = health;
  const { status } = health;
  const serving = status.phase === 'Serving';
  const late = status.lagSeconds > 5 || status.log === 'Down';
  const pill = document.getElementById('pill');
  if (pill) {
    pill.className = `pill ${serving && !late ? 'good' : 'bad'}`;
    pill.textContent = serving ? `serving · ${status.lagSeconds < 1 ? 'no lag' : `${number(status.lagSeconds)} s behind`}` : 'loading';
  }
  hearing.forEach((hear) => hear(health));
}

function tellSilence(error) {
  const pill = document.getElementById('pill');
  if (!pill || error.name === 'AbortError' || error.status === 401) return;
  pill.className = 'pill bad';
  pill.textContent = error.status ? 'in trouble' : 'no answer';
}

/** What views may use. */
const context = {
  address,
  get session() { return state.session; },
  get health() { return state.health; },
  /** Calls `hear` with the service's health, now and as it changes, until `signal` ends. */
  onHealth(signal, hear) {
    hearing.add(hear);
    signal.addEventListener('abort', () => hearing.delete(hear));
    if (state.health) hear(state.health);
  },
  /** Goes elsewhere; `quietly`: without a step to come back to. */
  go(name, id, params, quietly) {
    const to = address(name, id, params);
    if (quietly) { history.replaceState(null, '', to); route(); } else location.hash = to;
  },
  /** Names the page in the tab. */
  title(text) { document.title = `${text} · recommender console`; },
};

function route() {
  if (!state.session) return;
  const to = place();
  for (const link of top.querySelectorAll('[data-view]')) {
    if (link.dataset.view === to.name) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  // From one customer to the same one's comparison and back.
  if (to.id) state.last = to.id;
  for (const name of ['customer', 'compare']) top.querySelector(`[data-view=${name}]`)?.setAttribute('href', address(name, state.last));
  if (state.name === to.name) return state.view.update(to);
  state.stop?.abort();
  state.stop = new AbortController();
  state.name = to.name;
  state.view = VIEWS[to.name].create(context, state.stop.signal);
  show(main, state.view.node);
  context.title(NAMES[to.name]);
  state.view.update(to);
  // The reader hears where they are; the keyboard goes on from there.
  if (state.routed) main.focus({ preventScroll: true });
  state.routed = true;
}

function leave(said) {
  forget();
  state.stop?.abort();
  state.all?.abort();
  Object.assign(state, { session: null, view: null, name: '', health: null });
  top.hidden = true;
  const way = signIn.create(said, enter);
  show(main, way.node);
  context.title(way.title);
  way.focus.focus();
}

function enter(session) {
  state.session = session;
  state.all = new AbortController();
  frame();
  route();
  every(3000, state.all.signal, () => get('health', {}, state.all.signal).then(tellHealth, tellSilence));
}

window.addEventListener('hashchange', () => { if (location.hash.startsWith('#/')) route(); });
window.addEventListener('signed-out', (event) => leave(`${event.detail}.`));
// The way past the navigation must not change the address that views go by.
document.querySelector('.skip').addEventListener('click', (event) => { event.preventDefault(); main.focus(); });
window.addEventListener('keydown', (event) => {
  const writing = event.target.closest?.('input, textarea, select');
  if (event.key !== '/' || writing || event.ctrlKey || event.metaKey || event.altKey) return;
  const field = main.querySelector('input[type=search]');
  if (field) { event.preventDefault(); field.focus(); }
});

if (token()) {
  get('session').then(enter, (error) => leave(error.status === 403 ? 'This token lacks the scope customers:read.' : `${error.message}.`));
} else {
  leave('');
}
