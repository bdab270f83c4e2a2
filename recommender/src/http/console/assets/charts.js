// Small plots. Each stands beside its figures as text or table, and is therefore hidden from who hears the page.

import { h, number, percent, s } from './dom.js';

/** A line through values, newest at the right; `top` is at least the highest. */
export function sparkline(values, { width = 160, height = 34, top = 0, slots = values.length } = {}) {
  const high = Math.max(top, ...values, 1e-9);
  const step = width / Math.max(1, slots - 1);
  const x = (at) => width - (values.length - 1 - at) * step;
  const y = (value) => height - 2 - (value / high) * (height - 4);
  const points = values.map((value, at) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`);
  const svg = s('svg', { class: 'spark', viewBox: `0 0 ${width} ${height}`, 'aria-hidden': 'true', preserveAspectRatio: 'none' });
  if (points.length > 1) {
    svg.append(
      s('polygon', { class: 'area', points: `${x(0).toFixed(1)},${height} ${points.join(' ')} ${width},${height}` }),
      s('polyline', { class: 'stroke', points: points.join(' '), 'vector-effect': 'non-scaling-stroke' }));
  }
  return svg;
}

/** A bar of a share of the whole, 0 to 1. */
export function bar(share, kind = '') {
  const width = Math.max(0, Math.min(1, Number.isFinite(share) ? share : 0)) * 100;
  return s('svg', { class: `bar ${kind}`, viewBox: '0 0 100 6', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    s('rect', { class: 'ground', width: 100, height: 6 }),
    s('rect', { class: 'full', width: width.toFixed(2), height: 6 }));
}

/** A value on a scale with the threshold that it should stay under. */
export function threshold(value, limit) {
  const end = Math.max(limit * 2, value * 1.1, 1e-9);
  const x = (n) => ((n / end) * 100).toFixed(2);
  return s('svg', { class: `bar tall ${value > limit ? 'bad' : 'good'}`, viewBox: '0 0 100 12', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    s('rect', { class: 'ground', y: 3, width: 100, height: 6 }),
    s('rect', { class: 'full', y: 3, width: x(Math.max(0, value)), height: 6 }),
    s('line', { class: 'limit', x1: x(limit), x2: x(limit), y1: 0, y2: 12, 'vector-effect': 'non-scaling-stroke' }));
}

/** Steps that ever fewer take, each as wide as its value; `share` is that of the step before. */
export function funnel(steps) {
  const row = 46;
  const width = 520;
  const widest = Math.max(1, ...steps.map((step) => step.value));
  const half = (value) => Math.max(1.5, (value / widest) * 150);
  const middle = 275;
  const svg = s('svg', { class: 'funnel', viewBox: `0 0 ${width} ${row * steps.length}`, 'aria-hidden': 'true' });
  steps.forEach((step, at) => {
    const [top, low] = [half(step.value), half(steps[at + 1]?.value ?? step.value)];
    const y = at * row;
    svg.append(
      s('polygon', {
        class: `step step-${at}`,
        points: `${middle - top},${y + 2} ${middle + top},${y + 2} ${middle + (top + low) / 2},${y + row - 4} ${middle - (top + low) / 2},${y + row - 4}`,
      }),
      s('text', { x: 116, y: y + row / 2 + 4, 'text-anchor': 'end' }, step.name),
      s('text', { class: 'strong', x: 434, y: y + row / 2 + 4 }, number(step.value)));
    if (step.share !== null && step.share !== undefined) svg.append(s('text', { class: 'quiet', x: 434, y: y + 6 }, `↓ ${percent(step.share)}`));
  });
  return svg;
}

/** A share for each arm with the interval that it lies in, on one scale. */
export function intervals(arms) {
  const row = 34;
  const [left, right, width] = [150, 40, 560];
  const end = Math.max(1e-9, ...arms.map((arm) => arm.high)) * 1.08;
  const rough = end / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const tick = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const x = (share) => left + (share / end) * (width - left - right);
  const height = row * arms.length + 26;
  const svg = s('svg', { class: 'intervals', viewBox: `0 0 ${width} ${height}`, 'aria-hidden': 'true' });
  for (let share = 0; share <= end; share += tick) {
    svg.append(
      s('line', { class: 'grid', x1: x(share), x2: x(share), y1: 0, y2: height - 22 }),
      s('text', { class: 'quiet', x: x(share), y: height - 6, 'text-anchor': 'middle' }, percent(share, tick < 0.001 ? 2 : tick < 0.01 ? 1 : 0)));
  }
  arms.forEach((arm, at) => {
    const y = at * row + row / 2;
    svg.append(
      s('text', { x: left - 12, y: y + 4, 'text-anchor': 'end' }, arm.name),
      s('line', { class: `whisker arm-${at % 4}`, x1: x(arm.low), x2: x(arm.high), y1: y, y2: y }),
      s('circle', { class: `arm-${at % 4}`, cx: x(arm.value), cy: y, r: 5.5 }));
  });
  return svg;
}

/** Two rankings side by side: a line from each product's place in one to its place in the other. */
export function slopes(left, right) {
  const rows = Math.max(left.length, right.length);
  const svg = s('svg', { class: 'slopes', viewBox: `0 0 100 ${rows * 10}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' });
  left.forEach((product, from) => {
    const to = right.indexOf(product);
    if (to < 0) return;
    const [a, b] = [from * 10 + 5, to * 10 + 5];
    const kind = from === to ? 'same' : to < from ? 'up' : 'down';
    svg.append(s('path', { class: `slope ${kind}`, d: `M0 ${a}C45 ${a} 55 ${b} 100 ${b}`, 'data-product': product, 'vector-effect': 'non-scaling-stroke' }));
  });
  return svg;
}

/** A figure with its name, a line about it, and a plot. */
export function figure(name, value, about, plot) {
  return h('div', { class: 'figure' },
    h('dt', {}, name),
    h('dd', {}, h('span', { class: 'value' }, value), about ? h('span', { class: 'quiet' }, about) : null, plot));
}
