// The way in: a token, or a user and a password.

import { forget, get, keep, signIn } from './api.js';
import { h } from './dom.js';

/** The form; `done` is called with the session. */
export function create(said, done) {
  const problem = h('p', { class: 'problem', id: 'sign-in-problem', role: 'alert' }, said ?? '');
  const token = h('textarea', {
    id: 'token', rows: 4, required: true, spellcheck: 'false', autocomplete: 'off', 'aria-describedby': 'sign-in-problem token-help',
  });
  const user = h('input', { id: 'user', autocomplete: 'username', required: true });
  const password = h('input', { id: 'password', type: 'password', autocomplete: 'current-password', required: true });

  const enter = async (get_token) => {
    problem.textContent = '';
    try {
      keep(await get_token());
      done(await get('session'));
    } catch (error) {
      forget();
      problem.textContent = error.status === 403 ? 'This token lacks the scope customers:read.' : `${error.message}.`;
    }
  };
  const form = (label, ways, ...fields) => h('form', {
    'aria-label': label,
    onsubmit: (event) => { event.preventDefault(); enter(ways); },
  }, ...fields);

  const node = h('div', { class: 'sign-in' },
    h('h1', {}, 'Recommender console'),
    h('p', { class: 'quiet' }, 'See what customers are recommended, and why.'),
    problem,
    form('Sign in with a token', async () => token.value.trim(),
      h('label', { for: 'token' }, 'Token'), token,
      h('p', { class: 'quiet', id: 'token-help' }, 'With the scope ', h('code', {}, 'customers:read'), '. ',
        h('code', {}, 'recommender token --user you --scope customers:read'), ' prints one. It is kept for this tab only.'),
      h('button', { class: 'primary' }, 'Sign in')),
    h('details', {},
      h('summary', {}, 'With a user name and a password'),
      form('Sign in with a password', () => signIn(user.value.trim(), password.value),
        h('label', { for: 'user' }, 'User name'), user,
        h('label', { for: 'password' }, 'Password'), password,
        h('button', { class: 'primary' }, 'Sign in with password'))));
  // A paste is all that is needed: Enter sends.
  token.addEventListener('keydown', (event) => {
    if (event.key === 'Enter') { event.preventDefault(); token.form.requestSubmit(); }
  });
  return { title: 'Sign in', node, focus: token };
}
