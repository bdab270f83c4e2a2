// Asking the service. The token lives as long as this tab, and is sent nowhere else.

const KEY = 'recommender-token';
const BASE = 'console/api';

/** A refusal, with what the service says about it. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const token = () => sessionStorage.getItem(KEY);
export const keep = (text) => sessionStorage.setItem(KEY, text);
export const forget = () => sessionStorage.removeItem(KEY);

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (token()) headers.authorization = `Bearer ${token()}`;
  let response;
  try {
    response = await fetch(`${BASE}/${path}`, { ...options, headers, cache: 'no-store' });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Refused(0, 'the service does not answer');
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  const refused = new Refused(response.status, problem.detail ?? response.statusText);
  if (response.status === 401 && path !== 'sign-in') {
    window.dispatchEvent(new CustomEvent('signed-out', { detail: refused.message }));
  }
  throw refused;
}

/** The JSON of a route; `params` that are empty are left out. */
export async function get(path, params = {}, signal) {
  const given = Object.entries(params).filter(([, value]) => value !== undefined && value !== '' && value !== null);
  const query = new URLSearchParams(given).toString();
  return (await ask(query ? `${path}?${query}` : path, { signal })).json();
}

/** A token for a user and a password. */
export async function signIn(username, password) {
  const response = await ask('sign-in', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ username, password }),
  });
  return (await response.json()).token;
}

/** The messages of one stream of live events, which ends by itself. */
export async function* stream(signal) {
  const response = await ask('live', { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split('\n\n');
    rest = parts.pop();
    for (const part of parts) {
      const data = part.split('\n').filter((line) => line.startsWith('data:')).map((line) => line.slice(5).trim());
      if (data.length) yield JSON.parse(data.join('\n'));
    }
  }
}

/** Calls `work` (which answers a promise) now and every so many milliseconds, never twice at once, and not while nobody
 *  looks. Ends with `signal`. */
export async function every(milliseconds, signal, work) {
  while (!signal.aborted) {
    if (!document.hidden) {
      // What went wrong is told by whoever asked; the next time may go well.
      await work().catch(() => {});
    }
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      signal.addEventListener('abort', () => { clearTimeout(timer); resolve(); }, { once: true });
    });
  }
}
