// Drives the example's pages in frames, as a user would, and reports to the test's server.

import { hapax } from '../hapax-client.js';
import { Checks, equal, ok, rejects, until } from './check.js';
import { units } from './units.js';

const PAGE = '/index.html';
const checks = new Checks();
/** Intents and their keys: each had one effect. */
const keys = {};
const run = (name, body) => checks.run(name, body);
const intent = hapax.intent('checkout:cart-1');

/** A page in a frame. */
class Page {
  constructor() {
    this.frame = document.createElement('iframe');
    Object.assign(this.frame, { width: 700, height: 700 });
    document.body.append(this.frame);
  }

  /** Waits for the load that `start` begins. */
  async load(start) {
    const loaded = new Promise((resolve) => this.frame.addEventListener('load', resolve, { once: true }));
    start(this.frame.contentWindow);
    await loaded;
    if (this.at(PAGE)) await until('the module', () => this.find('#key').textContent);
    return this;
  }

  at(path) { return this.frame.contentWindow.location.pathname === path; }

  find(selector) { return this.frame.contentDocument.querySelector(selector); }

  set(name, value) {
    const field = this.find(`#checkout [name=${name}]`);
    field.value = value;
    field.dispatchEvent(new Event('input', { bubbles: true }));
  }

  click(selector) { this.find(selector).click(); }

  get state() { return this.find('#state').dataset; }

  kind(kind) { return until(kind, () => this.state.kind === kind); }

  async order() {
    await this.kind('done');
    return until('the number of the order', () => this.state.order);
  }

  close() { this.frame.remove(); }
}

/** A scenario on the checkout page with an intent of its own. */
async function scenario(name, body) {
  await run(name, async () => {
    intent.finish({ force: true });
    const page = await new Page().load((window) => window.location.assign(PAGE));
    try {
      await body(page, (known = name) => { keys[known] = intent.key; });
    } finally {
      page.close();
    }
  });
}

async function pages() {
  await scenario('a double click orders once', async (page, note) => {
    page.set('fault', 'slow');
    page.click('#order');
    page.click('#order');
    ok(page.find('#order').disabled, 'the button is disabled');
    // A script is not held by the button.
    page.find('#checkout').requestSubmit();
    await page.order();
    note();
  });
  await scenario('without a key a double click orders twice', async (page) => {
    page.click('#naive');
    page.click('#naive');
    await until('two orders', () => page.find('#naive-orders').children.length === 2);
  });
  await scenario('a reload in mid-flight goes on with the same key', async (page, note) => {
    page.set('fault', 'slow');
    page.set('quantity', '3');
    page.click('#order');
    await page.kind('sending');
    const { key } = intent;
    note();
    await page.load((window) => window.location.reload());
    equal(page.find('#key').textContent, key, 'the key');
    equal(page.find('[name=quantity]').value, '3', 'what is seen is what is sent');
    ok(page.find('[name=quantity]').disabled, 'nobody edits what is under way');
    await page.kind('in-progress');
    await page.order();
    equal(intent.key, key, 'the key');
  });
  await scenario('the back button finds the same order', async (page, note) => {
    page.click('#order');
    const order = await page.order();
    note();
    await page.load(() => page.click('a[href="receipt.html"]'));
    ok(page.at('/receipt.html') && page.find('#receipt').textContent.includes(order), 'the receipt');
    await page.load((window) => window.history.back());
    ok(page.at(PAGE), 'back at the checkout');
    equal(await page.order(), order, 'the order, by itself');
    delete page.state.order;
    page.click('#order');
    equal(await page.order(), order, 'the order');
    ok(page.find('#state').textContent.includes('the same as before'), 'it says so');
  });
  await scenario('an acknowledged order is over', async (page, note) => {
    page.click('#order');
    const first = await page.order();
    note('acknowledged');
    page.click('#another');
    equal(page.state.kind, 'none');
    page.click('#order');
    ok(await page.order() !== first, 'another order');
    note('after the acknowledged one');
  });
  await scenario('an edit after the answer is a new intent', async (page, note) => {
    page.click('#order');
    const first = await page.order();
    note('before the edit');
    page.set('quantity', '2');
    note('after the edit');
    page.click('#order');
    ok(await page.order() !== first, 'another order');
  });
  await scenario('a lost answer needs help, and no new key', async (page, note) => {
    page.set('fault', 'lost');
    page.click('#order');
    await page.kind('needs-help');
    note();
    equal(intent.renew(), false, 'renew');
    equal((await hapax.status(intent)).state, 'unknown');
    ok(!page.find('#over').hidden, 'the user may decide otherwise');
    page.click('#over');
    ok(intent.key !== keys['a lost answer needs help, and no new key'], 'a new key by the user’s word');
    ok(!page.find('[name=quantity]').disabled, 'the form is free');
  });
  await scenario('a busy shop is asked again', async (page, note) => {
    page.set('fault', 'busy');
    page.click('#order');
    await page.kind('retry-at');
    await page.order();
    note();
  });
}

/** The module against the gateway, without a page. */
async function gateway() {
  const order = (quantity) => JSON.stringify({ customer: 'ann', item: 'tea', quantity });
  const send = (intent, quantity, headers) =>
    hapax.send(intent, '/orders', { body: order(quantity), headers: { 'Content-Type': 'application/json', ...headers } });
  const fresh = (name) => {
    const intent = hapax.intent(name);
    keys[name] = intent.key;
    return intent;
  };
  await run('the gateway refuses another request under the same key', async () => {
    const intent = fresh('reused');
    equal((await send(intent, 1)).response.status, 201);
    const error = await rejects(send(intent, 2), 'HapaxError');
    equal(error.state.problem.name, 'key-reused');
    equal(intent.phase, 'answered');
  });
  await run('an answer that was too large to keep is done', async () => {
    const intent = fresh('large');
    equal((await send(intent, 1, { 'X-Shop-Fail': 'big:2MiB' })).kind, 'done');
    const last = await send(intent, 1);
    equal([last.kind, last.problem.name, last.problem.reason], ['done', 'answer-not-kept', 'too-large']);
    ok(Math.abs(last.at - Date.now()) < 60_000, `it says when: ${last.at}`);
  });
  await run('the status of an operation can be read', async () => {
    const intent = hapax.intent('status');
    equal(await hapax.status(intent), null, 'before');
    keys.status = intent.key;
    await send(intent, 1);
    const status = await hapax.status(intent);
    equal([status.state, status.key, status.answer.status], ['done', intent.key, 201]);
  });
  await run('the gateway runs an accepted order later, and its answer is fetched', async () => {
    const intent = fresh('later');
    const seen = [];
    const last = await hapax.send(intent, '/orders', {
      body: order(1),
      headers: { 'Content-Type': 'application/json' },
      respondAsync: true,
      onState: ({ kind }) => seen.push(kind),
    });
    equal([last.kind, last.response.status, last.replayed], ['done', 201, true]);
    ok(seen.includes('in-progress'), `what a person was shown: ${seen}`);
  });
}

/** The checks that need a server that misbehaves, on its own origin. */
async function stubs() {
  const page = new Page();
  const results = new Promise((resolve) => {
    addEventListener('message', ({ data, source }) => source === page.frame.contentWindow && resolve(data));
  });
  page.frame.src = `${new URLSearchParams(location.search).get('stub')}/tests/stub.html`;
  checks.results.push(...await results);
}

const beside = stubs();
await units(run);
await pages();
await gateway();
await beside;
await fetch('/report', { method: 'POST', body: JSON.stringify({ checks: checks.results, keys }) });
document.title = 'over';
