// Building the page, and writing numbers and times. Nothing here takes markup: text stays text, so that a product's
// title can never become a script.

const SVG = 'http://www.w3.org/2000/svg';

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'value' || name === 'checked' || name === 'disabled' || name === 'hidden') node[name] = value;
    else node.setAttribute(name, value === true ? '' : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return node;
}

/** An element; a property that begins with `on` is a listener. */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** An element of SVG. */
export function s(tag, props, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

/** Changes the children of a node. */
export function show(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
}

/** Tells something to who does not see it. */
export function speak(text) {
  document.getElementById('spoken').textContent = text;
}

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

/** 12,345; `digits` after the point. */
export function number(value, digits = 0) {
  if (value === undefined || value === null || !Number.isFinite(value)) return '–';
  return digits ? value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits }) : whole.format(value);
}

/** 12.3 % */
export function percent(share, digits = 1) {
  if (share === undefined || share === null || !Number.isFinite(share)) return '–';
  return `${number(share * 100, digits)} %`;
}

/** 1 product, 2 products */
export function count(value, one, many = `${one}s`) {
  return `${number(value)} ${value === 1 ? one : many}`;
}

const STEPS = [[60, 's'], [60, 'min'], [24, 'h'], [365, 'd'], [Infinity, 'y']];

/** How long ago, in its largest unit: 3 min ago. */
export function ago(time, now = Date.now()) {
  let span = Math.max(0, (now - Date.parse(time)) / 1000);
  for (const [size, unit] of STEPS) {
    if (span < size) return unit === 's' && span < 5 ? 'just now' : `${Math.floor(span)} ${unit} ago`;
    span /= size;
  }
  return '';
}

/** A time, short, with the whole of it for who asks. */
export function time(iso) {
  return h('time', { datetime: iso, title: iso }, ago(iso));
}

/** A word in a box. */
export function chip(text, kind = '', title) {
  return h('span', { class: `chip ${kind}`, title }, text);
}

/** A part of a page, with its heading. */
export function section(title, props, ...children) {
  const id = `s-${title.toLowerCase().replace(/[^a-z]+/g, '-')}`;
  return h('section', { 'aria-labelledby': id, ...props }, h('h2', { id }, title), ...children);
}

/** A table with these columns (names; `#` before those of numbers, `~` before those whose name need not be seen) and rows of cells. */
export function table(caption, columns, rows, props = {}) {
  const numeric = columns.map((name) => name.startsWith('#'));
  const cell = (content, at) => h(at === 0 ? 'th' : 'td', { scope: at === 0 ? 'row' : undefined, class: numeric[at] ? 'n' : undefined }, content);
  return h('table', props,
    h('caption', {}, caption),
    h('thead', {}, h('tr', {}, columns.map((name, at) => h('th', { scope: 'col', class: numeric[at] ? 'n' : undefined },
      name.startsWith('~') ? h('span', { class: 'unseen' }, name.slice(1)) : name.replace('#', ''))))),
    h('tbody', {}, rows.map((row) => h('tr', {}, row.map(cell)))));
}
