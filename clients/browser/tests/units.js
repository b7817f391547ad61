// The module in a world of its own: answers from a list, time that moves when it sleeps.

import { HapaxError, createHapax, retryAfterMs } from '../hapax-client.js';
import { equal, ok, rejects } from './check.js';
import { formUnits } from './form-units.js';

/** @param {Array<Response | Error | Function>} answers the last one is given again and again */
export function world(answers = [], { random = 0 } = {}) {
  const made = { asked: [], slept: [], states: [], kept: new Map(), time: Date.parse('2030-01-01T00:00:00Z') };
  const storage = {
    getItem: (name) => made.kept.get(name) ?? null,
    setItem: (name, value) => made.kept.set(name, value),
    removeItem: (name) => made.kept.delete(name),
  };
  const fetch = async (url, init) => {
    init.signal.throwIfAborted();
    made.asked.push({ url: String(url), ...init, key: new Headers(init.headers).get('Idempotency-Key') });
    const next = answers.length > 1 ? answers.shift() : answers[0];
    const answer = typeof next === 'function' ? await next(init) : next;
    if (answer instanceof Error) throw answer;
    return answer.clone();
  };
  const sleep = async (ms, signal) => {
    signal.throwIfAborted();
    made.slept.push(Math.round(ms));
    made.time += ms;
  };
  const hapax = createHapax({ storage, fetch, sleep, now: () => made.time, random: () => random });
  const onState = ({ kind }) => made.states.push(kind);
  return Object.assign(made, { hapax, onState, intent: hapax.intent('i') });
}

export const lost = () => new TypeError('connection lost');

export function problem(name, status, members = {}, headers = {}) {
  const body = JSON.stringify({ type: `urn:hapax:problem:${name}`, title: 't', status, ...members });
  return new Response(body, { status, headers: { 'Content-Type': 'application/problem+json', ...headers } });
}

export function answer(status, body = '{}', headers = {}) {
  return new Response(body, { status, headers: { 'Content-Type': 'application/json', ...headers } });
}

const accepted = () => answer(202, '{}', { Location: '/.hapax/operations/k', 'Retry-After': '1' });
const post = { body: '{}', headers: { 'Content-Type': 'application/json' } };

export async function units(run) {
  await keys(run);
  await retries(run);
  await answers(run);
  await asynchronous(run);
  await callers(run);
  await formUnits(run);
}

async function keys(run) {
  await run('a key lives until its intent is finished or renewed', () => {
    const { hapax } = world();
    const key = hapax.intent('a').key;
    equal(hapax.intent('a').key, key);
    ok(hapax.intent('b').key !== key, 'another name is another intent');
    ok(hapax.intent('a').finish(), 'finish');
    const next = hapax.intent('a').key;
    ok(next !== key, 'a finished intent has a new key');
    ok(hapax.intent('a').renew() && hapax.intent('a').key !== next, 'renew');
  });
  await run('a key is made without randomUUID', () => {
    Object.defineProperty(crypto, 'randomUUID', { value: undefined, configurable: true });
    try {
      const { key } = world().intent;
      ok(/^[0-9a-f]{32}$/.test(key), `32 hexadecimal digits: ${key}`);
    } finally {
      delete crypto.randomUUID;
    }
    ok(/^[0-9a-f-]{36}$/.test(world().intent.key), 'and with it');
  });
  await run('a full storage leaves the key in memory', () => {
    const full = () => { throw new DOMException('full', 'QuotaExceededError'); };
    const hapax = createHapax({ storage: { getItem: () => null, setItem: full, removeItem: () => {} } });
    equal(hapax.intent('a').key, hapax.intent('a').key);
    const none = createHapax({ storage: null });
    equal(none.intent('a').key, none.intent('a').key);
  });
  await run('a new key is refused while the outcome is not known', async () => {
    const { hapax, intent } = world([lost()], { random: 1 });
    const { key } = intent;
    const last = await hapax.send(intent, '/o', post);
    equal([last.kind, last.settled, last.over], ['failed', false, true]);
    equal([intent.renew(), intent.finish(), intent.key === key, intent.phase], [false, false, true, 'sent']);
    equal([intent.renew({ force: true }), intent.key === key], [true, false]);
  });
  await run('what is kept has no headers, and goes with a refusal', async () => {
    const { hapax, intent, kept } = world([answer(500), answer(401)]);
    const headers = { ...post.headers, Authorization: 'secret' };
    const sent = hapax.send(intent, '/o', { body: 'text', headers, keep: true });
    const text = [...kept.values()].join();
    ok(text.includes('"text"') && text.includes('application/json'), `the request is kept: ${text}`);
    ok(!text.includes('secret'), 'no header is kept');
    await sent;
    equal(intent.kept?.body, 'text', 'kept while it may have happened');
    const again = world([answer(401)]);
    await again.hapax.send(again.intent, '/o', { ...post, keep: true });
    equal(again.intent.kept, null);
  });
  await run('a reload sends the same bytes under the same key', async () => {
    const first = world([lost()], { random: 1 });
    await first.hapax.send(first.intent, '/o', { body: '{"a": 1}', headers: post.headers, keep: true });
    const second = world([answer(201)]);
    first.kept.forEach((value, name) => second.kept.set(name, value));
    const last = await second.hapax.resume(second.intent, { headers: { Authorization: 'me' } });
    const [asked] = second.asked;
    equal([last.kind, asked.key, asked.body, asked.url], ['done', first.asked[0].key, '{"a": 1}', '/o']);
    const headers = new Headers(asked.headers);
    equal([headers.get('Content-Type'), headers.get('Authorization')], ['application/json', 'me']);
    equal(world().hapax.resume(world().intent), null, 'nothing kept');
  });
}

async function retries(run) {
  await run('back-off doubles up to its cap, with full jitter', async () => {
    const most = world([lost()], { random: 1 });
    const last = await most.hapax.send(most.intent, '/o', post);
    equal(most.slept, [500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000, 20_000, 20_000]);
    equal(last.tries, 11);
    equal(new Set(most.asked.map(({ key }) => key)).size, 1, 'keys');
    const half = world([lost(), lost(), lost(), answer(201)], { random: 0.5 });
    equal((await half.hapax.send(half.intent, '/o', post)).kind, 'done');
    equal(half.slept, [250, 500, 1000]);
  });
  await run('the advice of the server is followed', async () => {
    for (const [advice, random, waits] of [['7', 0, 7000], ['7', 1, 8000], ['1', 1, 1200],
      ['Tue, 01 Jan 2030 00:00:09 GMT', 0, 9000], ['soon', 1, 500]]) {
      const { hapax, intent, slept, states, onState } = world(
        [problem('store-unavailable', 503, {}, { 'Retry-After': advice }), answer(201)], { random });
      await hapax.send(intent, '/o', { ...post, onState });
      equal(slept, [waits], advice);
      equal(states, ['sending', 'retry-at', 'done']);
    }
    equal(retryAfterMs(new Headers(), 0), null);
  });
  await run('nothing is asked after the deadline', async () => {
    const { hapax, intent, asked, time } = world([problem('retry-later', 503, {}, { 'Retry-After': '3600' })]);
    const last = await hapax.send(intent, '/o', post);
    equal([last.kind, last.until.getTime() - time, asked.length], ['retry-at', 3_600_000, 1]);
    equal([last.settled, intent.renew()], [true, true], 'nothing happened');
  });
  await run('a request that takes too long is cut off and sent again', async () => {
    const hang = ({ signal }) => new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason));
    });
    const { hapax, intent, asked } = world([hang, answer(201)]);
    const last = await hapax.send(intent, '/o', { ...post, attemptMs: 20 });
    equal([last.kind, asked.length], ['done', 2]);
  });
}

async function answers(run) {
  // What is answered, and what the last state is if it goes on until the deadline.
  const table = [
    [answer(201), 'done', true],
    [answer(204, null), 'done', true],
    [answer(422), 'done', true],
    [answer(500), 'failed', false],
    [answer(500, '{}', { 'Idempotent-Replayed': 'true' }), 'done', true],
    [answer(500, '{}', { 'Hapax-State': 'dead' }), 'needs-help', false],
    [answer(401), 'failed', true],
    [answer(429, '{}', { 'Retry-After': '300' }), 'retry-at', true],
    [answer(503, '{}', { 'Retry-After': '300' }), 'retry-at', true],
    [answer(503), 'failed', false],
    [problem('in-progress', 409, {}, { 'Retry-After': '1' }), 'in-progress', false],
    [problem('outcome-unknown', 409, {}, { 'Retry-After': '30' }), 'needs-help', false],
    [problem('answer-not-kept', 409, { done_at: '2029-12-31T23:00:00Z' }), 'done', true],
    [problem('dead-letter', 500, { reason: 'exhausted' }), 'needs-help', false],
    [problem('retry-later', 503, {}, { 'Retry-After': '300' }), 'retry-at', true],
    [problem('upstream-unavailable', 503, {}, { 'Retry-After': '300' }), 'retry-at', true],
    [problem('store-unavailable', 503, {}, { 'Retry-After': '300' }), 'retry-at', false],
    [problem('upstream-timeout', 504), 'needs-help', false],
    [problem('upstream-reset', 502), 'needs-help', false],
    [problem('key-missing', 400), 'failed', true],
    [problem('scope-missing', 401), 'failed', true],
    [problem('body-too-large', 413), 'failed', true],
  ];
  await run('each answer has its state', async () => {
    for (const [given, kind, settled] of table) {
      const { hapax, intent } = world([given], { random: 1 });
      const last = await hapax.send(intent, '/o', post);
      const name = `${given.status} ${last.problem?.name ?? ''}`;
      equal([last.kind, last.settled, last.over], [kind, settled, true], name);
      equal(intent.phase, settled ? (kind === 'done' ? 'answered' : 'new') : 'sent', name);
      equal(last.response.status, given.status, name);
    }
  });
  await run('times are the server’s where it names them', async () => {
    const since = '2029-12-31T23:59:00.000Z';
    const { hapax, intent } = world([problem('in-progress', 409, { since }, { 'Retry-After': '600' })]);
    equal((await hapax.send(intent, '/o', post)).since.toISOString(), since);
    const done = world([problem('answer-not-kept', 409, { done_at: since })]);
    equal((await done.hapax.send(done.intent, '/o', post)).at.toISOString(), since);
  });
  await run('a refusal after a lost answer does not say that nothing happened', async () => {
    for (const refusal of [answer(401), answer(429, '{}', { 'Retry-After': '300' }), problem('key-missing', 400)]) {
      const { hapax, intent } = world([lost(), refusal]);
      equal((await hapax.send(intent, '/o', post)).settled, false);
      equal(intent.renew(), false);
    }
  });
  await run('a key used for another request is an error of the page', async () => {
    const { hapax, intent, asked } = world([problem('key-reused', 422)]);
    const error = await rejects(hapax.send(intent, '/o', post), 'HapaxError');
    ok(error instanceof HapaxError && error.message.includes('renew()'), error.message);
    equal([error.state.kind, asked.length, intent.renew()], ['failed', 1, true]);
  });
}

async function asynchronous(run) {
  const status = (state, more = {}, headers = {}) =>
    answer(200, JSON.stringify({ state, since: '2030-01-01T00:00:00Z', tries: 1, ...more }), headers);
  await run('an accepted operation is polled, and its answer fetched', async () => {
    const { hapax, intent, asked, states, onState, slept } = world([accepted(), lost(), status('waiting'),
      status('running', {}, { 'Retry-After': '2' }), status('waiting', {}, { 'Retry-After': '9' }),
      status('unknown'), status('done'), answer(201, '{"id":7}', { 'Idempotent-Replayed': 'true' })]);
    const headers = { ...post.headers, Authorization: 'me' };
    const last = await hapax.send(intent, '/o', { ...post, headers, respondAsync: true, onState });
    equal(states, ['sending', 'in-progress', 'in-progress', 'in-progress', 'in-progress', 'retry-at', 'needs-help',
      'done']);
    equal(slept, [1000, 0, 1000, 2000, 9000, 30_000]);
    equal([last.replayed, (await last.response.json()).id, last.tries], [true, 7, 2]);
    equal(new Headers(asked[0].headers).get('Prefer'), 'respond-async');
    ok(asked[1].url.endsWith('/.hapax/operations/k') && asked[1].method === undefined, 'a GET of the status');
    const polled = new Headers(asked[1].headers);
    equal([polled.get('Authorization'), polled.get('Content-Type')], ['me', null]);
    equal(asked.at(-1).key, asked[0].key);
  });
  await run('an accepted operation that died needs help', async () => {
    const { hapax, intent } = world([accepted(), status('dead', { reason: 'poison' })]);
    equal((await hapax.send(intent, '/o', post)).kind, 'needs-help');
    equal(intent.renew(), false);
  });
  await run('a 202 without a status of hapax is an answer', async () => {
    for (const location of ['/jobs/1', 'https://elsewhere.example/.hapax/operations/k']) {
      const { hapax, intent, asked } = world([answer(202, '{}', { Location: location })]);
      equal([(await hapax.send(intent, '/o', post)).kind, asked.length], ['done', 1]);
    }
  });
}

async function callers(run) {
  await run('a second send joins the first', async () => {
    const { hapax, intent, asked, states, onState } = world([answer(201, '{"id":1}')]);
    const both = [hapax.send(intent, '/o', post), hapax.send(hapax.intent('i'), '/o', { ...post, onState })];
    for (const last of await Promise.all(both)) equal((await last.response.json()).id, 1);
    equal([asked.length, states], [1, ['sending', 'done']]);
    await hapax.send(intent, '/o', post);
    equal(asked.length, 2, 'afterwards it is asked again');
  });
  await run('an abort stops the retries, a joined one only itself', async () => {
    const [first, second] = [new AbortController(), new AbortController()];
    let release;
    const held = new Promise((resolve) => { release = resolve; });
    const { hapax, intent } = world([({ signal }) => held.then(() => (signal.aborted ? signal.reason : answer(201)))]);
    const sent = hapax.send(intent, '/o', { ...post, signal: first.signal });
    const joined = hapax.send(intent, '/o', { ...post, signal: second.signal });
    second.abort();
    await rejects(joined, 'AbortError');
    release();
    equal((await sent).kind, 'done');
    const stopping = world([lost()]);
    const stopped = new AbortController();
    const ended = stopping.hapax.send(stopping.intent, '/o',
      { ...post, signal: stopped.signal, onState: ({ kind }) => kind === 'retry-at' && stopped.abort() });
    await rejects(ended, 'AbortError');
    equal([stopping.asked.length, stopping.intent.phase], [1, 'sent']);
    const early = new AbortController();
    const at = world([answer(201)]);
    const aborted = at.hapax.send(at.intent, '/o', { ...post, signal: early.signal });
    early.abort();
    await rejects(aborted, 'AbortError');
    equal(at.asked.length, 0, 'requests after an abort');
    const never = world([answer(201)]);
    await rejects(never.hapax.send(never.intent, '/o', { ...post, signal: AbortSignal.abort() }), 'AbortError');
    equal([never.asked.length, never.intent.phase], [0, 'new']);
  });
  await run('headers can be fresh for each request', async () => {
    const { hapax, intent, asked } = world([lost(), answer(201)]);
    await hapax.send(intent, '/o', { ...post, headers: ({ tries }) => ({ Authorization: `token ${tries}` }) });
    equal(asked.map(({ headers }) => new Headers(headers).get('Authorization')), ['token 0', 'token 1']);
  });
  await run('a listener that throws stops nothing', async () => {
    const { hapax, intent } = world([answer(201)]);
    const reported = new Promise((heard) => {
      addEventListener('error', (event) => { event.preventDefault(); heard(event.message); }, { once: true });
    });
    const last = await hapax.send(intent, '/o', { ...post, onState() { throw new Error('a bug'); } });
    equal(last.kind, 'done');
    ok((await reported).includes('a bug'), 'it is reported');
  });
  await run('what cannot be sent again is refused', async () => {
    const { hapax, intent, asked } = world([answer(201)]);
    let thrown = null;
    try { hapax.send(intent, '/o', { body: new ReadableStream() }); } catch (error) { thrown = error; }
    equal(thrown?.name, 'HapaxError');
    await rejects(hapax.send(intent, '/o', { body: new Blob(['x']), keep: true }), 'HapaxError');
    equal([asked.length, intent.phase], [0, 'new']);
  });
}
