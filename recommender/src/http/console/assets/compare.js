// Two models side by side for one customer: what both would show, where each puts it, and what only one of them finds.

import { get } from './api.js';
import { slopes } from './charts.js';
import { chip, h, number, percent, show, speak } from './dom.js';

/** Mean over depths of the share that both have so far in common: 1 for equal rankings, 0 without any in common. */
export function overlap(left, right) {
  const depth = Math.max(left.length, right.length);
  let sum = 0;
  for (let at = 1; at <= depth; at += 1) {
    const above = new Set(left.slice(0, at));
    sum += right.slice(0, at).filter((product) => above.has(product)).length / at;
  }
  return depth ? sum / depth : 0;
}

function row(item, at, other, side) {
  const there = other.indexOf(item.product_id);
  const where = there < 0 ? chip('only here', 'only') : h('span', { class: 'quiet' }, there === at ? 'same place' : `there ${there + 1}`);
  return h('li', { class: there < 0 ? 'lone' : '', 'data-id': item.product_id },
    h('span', { class: 'rank' }, at + 1),
    h('div', { class: 'what' },
      h('span', { class: 'title', title: item.title }, item.title),
      h('span', { class: 'facts' }, h('span', { class: 'reason' }, item.reason.text))),
    h('div', { class: `where ${side}` }, where));
}

export function create(context, signal) {
  const { session } = context;
  const names = session.algorithms;
  const field = h('input', { id: 'who', type: 'search', autocomplete: 'off', spellcheck: 'false', placeholder: 'customer id' });
  const options = () => names.map((name) => h('option', { value: name }, name === session.algorithm ? `${name} (configured)` : name));
  const left = h('select', { id: 'left' }, options());
  const right = h('select', { id: 'right' }, options());
  const limit = h('select', { id: 'limit' }, [10, 20, 50].map((n) => h('option', { value: n }, n)));
  const result = h('div', { class: 'compared' });
  let asked = null;

  const again = () => context.go('compare', field.value.trim(), { left: left.value, right: right.value, limit: limit.value === '10' ? '' : limit.value }, true);
  const node = h('div', { class: 'page' },
    h('h1', {}, 'Compare models'),
    h('form', { class: 'controls', 'aria-label': 'What to compare', onsubmit: (event) => { event.preventDefault(); again(); } },
      h('div', {}, h('label', { for: 'who' }, 'Customer'), field),
      h('div', { class: 'left-side' }, h('label', { for: 'left' }, 'Left'), left),
      h('div', {}, h('button', {
        class: 'plain', 'aria-label': 'Swap the models', title: 'Swap the models', onclick: (event) => { event.preventDefault(); [left.value, right.value] = [right.value, left.value]; again(); },
      }, '⇄')),
      h('div', { class: 'right-side' }, h('label', { for: 'right' }, 'Right'), right),
      h('div', {}, h('label', { for: 'limit' }, 'Products'), limit),
      h('button', { class: 'primary' }, 'Compare')),
    result);
  for (const select of [left, right, limit]) select.addEventListener('change', () => { if (field.value.trim()) again(); });

  async function look(id) {
    asked?.abort();
    asked = new AbortController();
    signal.addEventListener('abort', () => asked.abort(), { once: true });
    const ask = (algorithm) => get(`customers/${encodeURIComponent(id)}/recommendations`, { algorithm, limit: limit.value, exploration: 0 }, asked.signal);
    try {
      const [a, b] = await Promise.all([ask(left.value), ask(right.value)]);
      draw(id, a, b);
    } catch (error) {
      if (error.name !== 'AbortError') show(result, h('p', { class: 'problem', role: 'alert' }, `${error.message}.`));
    }
  }

  function draw(id, a, b) {
    const [ids, others] = [a, b].map((answer) => answer.items.map((item) => item.product_id));
    const common = ids.filter((product) => others.includes(product));
    const same = common.filter((product) => ids.indexOf(product) === others.indexOf(product));
    const likeness = overlap(ids, others);
    const side = (answer, of_other, name, kind) => h('section', { class: kind, 'aria-labelledby': `${kind}-title` },
      h('h2', { id: `${kind}-title` }, name),
      h('p', { class: 'facts' }, answer.model.algorithm === name ? null : chip(`answered by ${answer.model.algorithm}`, 'warm'),
        h('span', { class: 'quiet' }, `${number(answer.took_us / 1000, 2)} ms${answer.variety === undefined ? '' : ` · variety ${percent(answer.variety, 0)}`}`)),
      h('ol', {}, answer.items.map((item, at) => row(item, at, of_other, kind))));
    show(result,
      h('p', { class: 'verdict' },
        h('strong', {}, `${common.length} of ${Math.max(ids.length, others.length)}`), ' in common, ',
        h('strong', {}, number(same.length)), ' at the same place, ',
        h('span', { title: 'Mean over depths of the share that both have in common so far: 1 for equal rankings' }, 'average overlap ', h('strong', {}, number(likeness, 2))),
        ' · ', h('a', { href: context.address('customer', id) }, `history of ${id}`)),
      h('div', { class: 'versus' },
        side(a, others, left.value, 'left'), h('div', { class: 'between' }, slopes(ids, others)), side(b, ids, right.value, 'right')));
    speak(`${common.length} products in common, average overlap ${number(likeness, 2)}`);
    const light = (event) => {
      const product = event.target.closest?.('[data-id]')?.dataset.id;
      result.querySelectorAll('[data-id], [data-product]').forEach((one) => {
        one.classList.toggle('lit', product !== undefined && (one.dataset.id ?? one.dataset.product) === product);
      });
    };
    result.firstElementChild.nextElementSibling.addEventListener('pointerover', light);
  }

  return {
    node,
    update({ id, params }) {
      field.value = id;
      left.value = names.includes(params.left) ? params.left : session.algorithm;
      right.value = names.includes(params.right) ? params.right : names.find((name) => name !== left.value && name === 'Popularity') ?? names[0];
      limit.value = ['20', '50'].includes(params.limit) ? params.limit : '10';
      if (!id) {
        show(result, h('p', { class: 'quiet' }, 'Choose a customer: the same history goes to both models.'));
        field.focus();
        return;
      }
      context.title(`${id}: ${left.value} and ${right.value}`);
      look(id);
    },
  };
}

