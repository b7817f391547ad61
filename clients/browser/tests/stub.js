// The module against a server that drops connections and answers later. Runs in a frame of the harness.

import { hapax } from '../hapax-client.js';
import { Checks, equal } from './check.js';

const checks = new Checks();
const post = { body: '{}', headers: { 'Content-Type': 'application/json' }, baseMs: 20 };

await checks.run('a dropped connection is tried again with the same key', async () => {
  const states = [];
  const intent = hapax.intent('stub:drop');
  const last = await hapax.send(intent, '/stub/drop', { ...post, onState: ({ kind }) => states.push(kind) });
  const { key, tries } = await last.response.json();
  equal([last.kind, key, tries], ['done', intent.key, 3]);
  equal(states, ['sending', 'retry-at', 'retry-at', 'done']);
});

await checks.run('an answer cut half-way is no answer', async () => {
  const last = await hapax.send(hapax.intent('stub:cut'), '/stub/cut', post);
  equal([last.kind, last.tries, (await last.response.json()).tries], ['done', 2, 2]);
});

await checks.run('a 202 is polled until it is done', async () => {
  const states = [];
  const intent = hapax.intent('stub:async');
  const onState = ({ kind, since }) => states.push(`${kind} ${since.getUTCFullYear()}`);
  const last = await hapax.send(intent, '/stub/async', { ...post, respondAsync: true, onState });
  const { key } = await last.response.json();
  equal([last.kind, last.replayed, key], ['done', true, intent.key]);
  equal(states.slice(-2, -1), ['in-progress 2001'], 'since when, as the status says');
});

parent.postMessage(checks.results, '*');
