// A checkout: one key for the intent "order this cart", whatever the user clicks.

import { hapax } from './hapax-client.js';

const form = document.querySelector('#checkout');
const intent = hapax.intent('checkout:cart-1');

/** What the shop is told to do wrong; it obeys with --test-knobs. Headers are no part of what was asked. */
const FAULTS = {
  slow: { 'X-Shop-Delay': '2s' },
  busy: { 'X-Shop-Fail': '503-retry-after' },
  lost: { 'X-Shop-Fail': 'reset-after' },
};

function order() {
  const fields = new FormData(form);
  const quantity = Number(fields.get('quantity'));
  return JSON.stringify({ customer: fields.get('customer'), item: fields.get('item'), quantity });
}

/** The fault is for the first try; a retry is the same request without it. */
function headers({ tries }) {
  const fault = tries === 0 ? FAULTS[form.elements.fault.value] : {};
  return { 'Content-Type': 'application/json', ...fault };
}

const guarded = hapax.guard(form, intent, {
  request: () => ({ body: order(), headers }),
  keep: true,
  onState: show,
  onOutcome: outcome,
  onError: (error) => say('failed', error.message),
});

const time = (date) => date.toLocaleTimeString();

/** What a person is told in each state. */
function show(state) {
  const { kind, since, until, response } = state;
  const texts = {
    sending: () => `Sent at ${time(since)}.`,
    'in-progress': () => `Still working on it, since ${time(since)}. You need not do anything.`,
    'retry-at': () => `The shop is busy. Trying again at ${time(until)}.`,
    done: () => (response.ok ? `Done at ${time(state.at)}.` : 'The shop declined.'),
    'needs-help': () => 'It may have been ordered; we are looking into it. Please do not order again elsewhere.',
    failed: () => 'There was no answer. Press “Order” to ask again; it will not be ordered twice.',
  };
  say(kind, texts[kind]());
}

async function outcome({ kind, response, replayed }) {
  if (kind !== 'done') return;
  const body = await response.json().catch(() => null);
  const number = body?.id;
  const text = number ? `Order number ${number}${replayed ? ' (the same as before)' : ''}.` : 'Look at your orders.';
  const state = say(kind, `${document.querySelector('#state').textContent} ${text}`);
  if (!number) return;
  state.dataset.order = number;
  sessionStorage.setItem('receipt', `Order number ${number}, thank you.`);
}

function say(kind, text) {
  const state = document.querySelector('#state');
  state.dataset.kind = kind;
  delete state.dataset.order;
  state.textContent = text;
  document.querySelector('#another').hidden = kind !== 'done';
  document.querySelector('#over').hidden = kind !== 'needs-help';
  document.querySelector('#key').textContent = intent.key;
  return state;
}

function blank() {
  say('none', 'Nothing was ordered yet.');
}

document.querySelector('#another').addEventListener('click', () => {
  intent.finish();
  blank();
});
document.querySelector('#over').addEventListener('click', () => {
  guarded.startOver();
  blank();
});
form.addEventListener('input', () => {
  if (intent.phase === 'new') blank();
});

// The form shows what was sent. What a reload cut off goes on; what was answered is asked for its answer again, until
// the user has acknowledged it.
for (const [name, value] of Object.entries(JSON.parse(intent.kept?.body ?? '{}'))) form.elements[name].value = value;
if (intent.phase === 'new') blank();
else guarded.resume();

document.querySelector('#naive').addEventListener('click', async () => {
  const fault = FAULTS[form.elements.fault.value];
  const answer = await fetch('/orders', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...fault },
    body: order(),
  });
  const line = document.createElement('li');
  line.textContent = answer.ok ? `Order number ${(await answer.json()).id}` : `Status ${answer.status}`;
  document.querySelector('#naive-orders').append(line);
});
