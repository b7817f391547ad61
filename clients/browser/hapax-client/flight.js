// One request and its repetitions, until it is known what became of it.

import { problemOf, retryAfterMs, statusUrl, timeOf, whole, withBody } from './answer.js';
import { HapaxError, report } from './states.js';

/** Where the server does not say when to ask again: for a run in progress, and for what is unknown. */
const POLL_MS = 1000;
const UNKNOWN_MS = 30_000;

/** Problems that pass by themselves, and after which this request did nothing. */
const PASSING = new Set(['retry-later', 'upstream-unavailable', 'overloaded', 'too-many-requests', 'request-timeout',
  'body-incomplete']);
/** A backend's statuses that promise that nothing happened, and that may pass. */
const BUSY = new Set([408, 425, 429]);

/** One `send` under way, and those who wait for it. */
export class Flight {
  constructor(intent, options, world) {
    Object.assign(this, { intent, options, ...world });
    this.listeners = new Set();
    this.state = null;
    this.tries = 0;
    this.backoffs = 0;
    this.began = this.now();
    this.key = intent.key;
    this.stopped = new AbortController();
    this.end = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
    // Each who joins has a promise of its own.
    this.end.catch(() => {});
  }

  /** The first one's signal stops the flight, a later one's only its own wait. */
  join({ signal, onState }) {
    const first = this.listeners.size === 0;
    const listen = (state) => {
      try {
        onState?.(withBody(state));
      } catch (error) {
        report(error);
      }
    };
    this.listeners.add(listen);
    if (this.state) listen(this.state);
    const ended = this.end.then(withBody);
    if (!signal) return ended;
    return new Promise((resolve, reject) => {
      const stop = () => {
        this.listeners.delete(listen);
        if (first) this.stop(signal.reason);
        reject(signal.reason);
      };
      signal.addEventListener('abort', stop, { once: true });
      ended.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
      if (signal.aborted) stop();
    });
  }

  stop(reason) {
    this.stopped.abort(reason);
    this.over();
  }

  /** @param {() => void} over called once nobody may join any more */
  async run(over) {
    this.over = over;
    try {
      this.remember();
      // A microtask later, whoever called listens.
      await null;
      this.show({ kind: 'sending', since: this.since, settled: false });
      let last = await this.attempt();
      while (!last.over && last.until.getTime() <= this.began + this.options.deadlineMs) {
        this.show(last);
        await this.sleep(last.until.getTime() - this.now(), this.stopped.signal);
        last = await (last.poll ? this.poll(last) : this.attempt());
      }
      this.land({ ...last, kind: last.endsAs ?? last.kind, over: true });
    } catch (error) {
      this.over();
      this.reject(error);
    }
  }

  /** From here on it may happen, whatever becomes of this page. */
  remember() {
    const { keep, method, url, body } = this.options;
    if (keep && body !== undefined && typeof body !== 'string') {
      throw new HapaxError('Only a text body can be kept over a reload: leave `keep` out, or make it text.');
    }
    const { phase } = this.intent;
    // Whether something may have happened that this flight does not know of.
    this.doubt = phase === 'sent';
    const type = this.headers().get('Content-Type') ?? undefined;
    this.intent.mark(phase === 'answered' ? phase : 'sent', keep ? { method, url, body, type } : undefined);
    this.since = this.intent.sentAt ?? new Date(this.began);
  }

  land(last) {
    // An intent renewed meanwhile is another's business; an answered one stays so, whatever a later look says.
    const { intent } = this;
    if (last.settled && intent.key === this.key) {
      if (last.kind === 'done') intent.mark('answered');
      else if (intent.phase === 'sent') intent.mark('new');
    }
    this.over();
    this.show(last);
    if (last.problem?.name !== 'key-reused') return this.resolve(this.state);
    return this.reject(new HapaxError(`Intent "${this.intent.name}": its key was used for another request. Call `
      + 'renew() where the user asks for something else, and send a retry unchanged.', this.state));
  }

  show({ poll: _poll, endsAs: _endsAs, ...state }) {
    this.state = { over: false, tries: this.tries, ...state };
    for (const listen of [...this.listeners]) listen(this.state);
  }

  headers() {
    const { headers } = this.options;
    return new Headers(typeof headers === 'function' ? headers({ tries: this.tries }) : headers);
  }

  /** Sends it, and says what the answer means. */
  async attempt() {
    const { method, body, respondAsync, url } = this.options;
    const headers = this.headers();
    headers.set('Idempotency-Key', this.key);
    if (respondAsync) headers.append('Prefer', 'respond-async');
    this.tries += 1;
    const answer = await this.ask(url, { method, body, headers });
    if (answer instanceof Response) return this.judge(answer, await problemOf(answer));
    // No whole answer: it may have happened, and the same key finds out.
    this.doubt = true;
    return { ...this.again('retry-at'), error: answer, endsAs: 'failed' };
  }

  /** One request with its body read to the end, or the error that came instead. */
  async ask(url, init) {
    this.stopped.signal.throwIfAborted();
    const cut = new AbortController();
    const stop = () => cut.abort();
    const late = setTimeout(stop, this.options.attemptMs);
    this.stopped.signal.addEventListener('abort', stop, { once: true });
    try {
      const { credentials } = this.options;
      const answer = await this.fetch(url, { credentials, cache: 'no-store', ...init, signal: cut.signal });
      return whole(answer, await answer.arrayBuffer());
    } catch (error) {
      this.stopped.signal.throwIfAborted();
      return error;
    } finally {
      clearTimeout(late);
      this.stopped.signal.removeEventListener('abort', stop);
    }
  }

  /** What an answer to the request means. */
  judge(answer, problem) {
    const seen = { response: answer, problem };
    if (answer.headers.get('Hapax-State') === 'dead') return { ...this.last('needs-help', false), ...seen };
    if (problem) return { ...this.judgeProblem(problem, answer), ...seen };
    const replayed = answer.headers.get('Idempotent-Replayed') === 'true';
    const done = { ...this.last('done', true), at: new Date(this.now()), replayed, ...seen };
    if (replayed) return done;
    const poll = answer.status === 202 ? statusUrl(answer, this.options.url) : null;
    if (poll) {
      this.doubt = true;
      return { ...this.again('in-progress', answer), ...seen, poll };
    }
    const busy = BUSY.has(answer.status) || (answer.status === 503 && answer.headers.has('Retry-After'));
    if (busy) return { ...this.again('retry-at', answer), settled: !this.doubt, ...seen };
    if (answer.status >= 500) {
      this.doubt = true;
      return { ...this.again('retry-at', answer), endsAs: 'failed', ...seen };
    }
    // Nothing happened for want of a login, and the same key is good after one.
    if (answer.status === 401 || answer.status === 403) return { ...this.last('failed', !this.doubt), ...seen };
    return done;
  }

  /** What a problem means: see docs/problems. */
  judgeProblem(problem, answer) {
    const { name } = problem;
    const since = timeOf(problem.since) ?? this.since;
    switch (name) {
      case 'in-progress':
        this.doubt = true;
        return { ...this.again('in-progress', answer), since };
      case 'outcome-unknown':
        this.doubt = true;
        return { ...this.again('needs-help', answer, UNKNOWN_MS), since };
      case 'dead-letter':
        return { ...this.last('needs-help', false), since };
      case 'answer-not-kept':
        return { ...this.last('done', true), at: timeOf(problem.done_at), replayed: true };
      case 'upstream-timeout':
      case 'upstream-reset':
      case 'store-unavailable':
        this.doubt = true;
        return { ...this.again('retry-at', answer), endsAs: name === 'store-unavailable' ? undefined : 'needs-help' };
      default:
        if (PASSING.has(name)) return { ...this.again('retry-at', answer), settled: !this.doubt };
        return this.last('failed', !this.doubt || name === 'key-reused');
    }
  }

  /** Asks for the status of what was accepted; when it is done, the request again gets its answer. */
  async poll({ poll, since }) {
    const headers = this.headers();
    headers.delete('Content-Type');
    const answer = await this.ask(poll, { headers });
    if (!(answer instanceof Response)) return { ...this.again('in-progress'), since, poll, error: answer };
    const known = answer.ok ? await answer.clone().json().catch(() => null) : null;
    const shared = { since: timeOf(known?.since) ?? since, response: answer, poll };
    switch (known?.state) {
      case 'running':
        return { ...this.again('in-progress', answer, POLL_MS), ...shared };
      case 'waiting': {
        const next = this.again('in-progress', answer, POLL_MS);
        // Due at once is as good as begun.
        const later = next.until.getTime() - this.now() > 2 * POLL_MS;
        return { ...next, ...shared, kind: later ? 'retry-at' : 'in-progress' };
      }
      case 'unknown':
        return { ...this.again('needs-help', answer, UNKNOWN_MS), ...shared };
      case 'dead':
        return { ...this.last('needs-help', false), ...shared };
      default:
        if (answer.status >= 500 || BUSY.has(answer.status)) return { ...this.again('in-progress', answer), ...shared };
        // Done or forgotten: the request itself is the question.
        return this.attempt();
    }
  }

  last(kind, settled) {
    return { kind, since: this.since, settled, over: true };
  }

  /** A state with a next time: the server's advice, or what is usual, or back-off with full jitter. */
  again(kind, answer, usual = null) {
    const { baseMs, capMs } = this.options;
    const advice = (answer && retryAfterMs(answer.headers, this.now())) ?? usual;
    // Many clients get the same advice at once: the jitter spreads them.
    const wait = advice === null
      ? this.random() * Math.min(capMs, baseMs * 2 ** this.backoffs)
      : advice + this.random() * Math.min(1000, advice / 5);
    this.backoffs = advice === null ? this.backoffs + 1 : 0;
    return { kind, since: this.since, until: new Date(this.now() + wait), settled: false, over: false };
  }
}

export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const over = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', over);
      resolve();
    }, Math.max(0, ms));
    signal.addEventListener('abort', over, { once: true });
  });
}
