// Pictures for the documentation, made small: a page has few colours, and 256 of them tell it all.

import { deflateSync, inflateSync } from 'node:zlib';

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let bit = 0; bit < 8; bit += 1) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c >>> 0;
});

function chunk(type, data) {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  let crc = 0xffffffff;
  for (const byte of body) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
  const [length, check] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  check.writeUInt32BE((crc ^ 0xffffffff) >>> 0);
  return Buffer.concat([length, body, check]);
}

/** The pixels of a PNG of eight bits a channel without interlacing, as Chromium writes them. */
function pixels(png) {
  const parts = [];
  let head;
  for (let at = 8; at < png.length;) {
    const length = png.readUInt32BE(at);
    const type = png.toString('latin1', at + 4, at + 8);
    const data = png.subarray(at + 8, at + 8 + length);
    if (type === 'IHDR') head = { width: data.readUInt32BE(0), height: data.readUInt32BE(4), channels: { 2: 3, 6: 4 }[data[9]] };
    if (type === 'IDAT') parts.push(data);
    at += length + 12;
  }
  const { width, height, channels } = head;
  const [raw, row] = [inflateSync(Buffer.concat(parts)), width * channels];
  const out = Buffer.alloc(row * height);
  for (let y = 0; y < height; y += 1) {
    const filter = raw[y * (row + 1)];
    for (let x = 0; x < row; x += 1) {
      const left = x >= channels ? out[y * row + x - channels] : 0;
      const up = y ? out[(y - 1) * row + x] : 0;
      const corner = y && x >= channels ? out[(y - 1) * row + x - channels] : 0;
      const paeth = () => {
        const p = left + up - corner;
        const [a, b, c] = [Math.abs(p - left), Math.abs(p - up), Math.abs(p - corner)];
        return a <= b && a <= c ? left : b <= c ? up : corner;
      };
      const guess = [() => 0, () => left, () => up, () => (left + up) >> 1, paeth][filter]();
      out[y * row + x] = (raw[y * (row + 1) + 1 + x] + guess) & 255;
    }
  }
  return { width, height, channels, out };
}

/** The same picture with 256 of its colours; others become the nearest of them. A small green dot counts for as much as a
 *  large ground: of colours that are alike the most frequent one comes first, then what is frequent at all. */
export function smaller(png) {
  const { width, height, channels, out } = pixels(png);
  const seen = new Map();
  const colour = (at) => (out[at * channels] << 16) | (out[at * channels + 1] << 8) | out[at * channels + 2];
  for (let at = 0; at < width * height; at += 1) seen.set(colour(at), (seen.get(colour(at)) ?? 0) + 1);
  const frequent = [...seen].sort((a, b) => b[1] - a[1]).map(([value]) => value);
  const first = new Map();
  for (const value of frequent) {
    const alike = value & 0xe0e0e0;
    if (!first.has(alike)) first.set(alike, value);
  }
  const palette = [...new Set([...[...first.values()].slice(0, 160), ...frequent])].slice(0, 256);
  const index = new Map(palette.map((value, at) => [value, at]));
  const part = (value, shift) => (value >> shift) & 255;
  const nearest = (value) => {
    let [best, least] = [0, Infinity];
    palette.forEach((known, at) => {
      const far = [16, 8, 0].reduce((sum, shift) => sum + (part(value, shift) - part(known, shift)) ** 2, 0);
      if (far < least) [best, least] = [at, far];
    });
    index.set(value, best);
    return best;
  };
  const rows = Buffer.alloc((width + 1) * height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const value = colour(y * width + x);
      rows[y * (width + 1) + 1 + x] = index.get(value) ?? nearest(value);
    }
  }
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 3, 0, 0, 0], 8);
  const colours = Buffer.from(palette.flatMap((value) => [part(value, 16), part(value, 8), part(value, 0)]));
  return Buffer.concat([png.subarray(0, 8), chunk('IHDR', head), chunk('PLTE', colours), chunk('IDAT', deflateSync(rows, { level: 9 })), chunk('IEND', Buffer.alloc(0))]);
}
